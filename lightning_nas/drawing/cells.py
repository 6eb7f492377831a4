"""Draws a cell as SVG: states, the operations between them, and what the cell puts out, from left to right.

Every edge runs between neighbouring columns; where a state is needed further on, it travels in a lane of its
own through the columns between, so that no line crosses a box.

Source: the layered layout of Sugiyama, Tagawa and Toda, IEEE SMC 1981: columns by longest path, order by
barycentres and exchanges of neighbours, then heights by isotonic regression.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

Edge = tuple[str, int]

COLOURS = {
    "sep_conv": "#2563a8",
    "dil_conv": "#7a4ba0",
    "conv": "#1a7f8e",
    "max_pool": "#b5541c",
    "avg_pool": "#96700a",
    "skip_connect": "#4d7a35",
    "none": "#8a8a8a",
}
FONT = "'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
GAP, COLUMN_GAP, MARGIN, TITLE = 16.0, 46.0, 24.0, 44.0


def colour_of(operation: str) -> str:
    """The colour of an operation's family."""
    return next((colour for family, colour in COLOURS.items() if operation.startswith(family)), "#555555")


@dataclass(eq=False)
class Item:
    """Something in a column: a state, an operation, the output, or a lane that passes through.

    `name` is what is written on it; `width` and `height` are in pixels, as is `y`, its middle.
    """

    kind: str
    name: str
    column: int
    width: float
    height: float
    y: float = 0.0
    before: list[Item] = field(default_factory=list)
    after: list[Item] = field(default_factory=list)

    def neighbours(self) -> list[Item]:
        return self.before + self.after


def cell_svg(edges: Sequence[Edge], concat: Sequence[int], title: str, is_reduction: bool = False) -> str:
    """The drawing of a cell.

    Args:
        edges: two for each node, `(operation, state)`; states 0 and 1 are the cell's inputs, state i node i.
        concat: the states that make up the output.
        title: stands above.
        is_reduction: mark the operations on the inputs with the stride 2 that they have.
    """
    columns = _columns(edges, concat, is_reduction)
    _order(columns)
    _set_heights(columns)
    return _svg(columns, title)


def draw_cells(genotype: Mapping[str, Sequence], folder: Path, name: str = "") -> list[Path]:
    """Writes `cell-normal.svg` and `cell-reduce.svg`.

    Args:
        genotype: `normal`, `normal_concat`, `reduce` and `reduce_concat`, as in `genotype.json`.
        folder: where to.
        name: of the genotype, for the titles.
    """
    paths = []
    for kind, words in (("normal", "Normal cell"), ("reduce", "Reduction cell")):
        title = f"{words} of {name}" if name else words
        path = folder / f"cell-{kind}.svg"
        path.write_text(cell_svg(genotype[kind], genotype[f"{kind}_concat"], title, kind == "reduce"))
        paths.append(path)
    return paths


def _columns(edges: Sequence[Edge], concat: Sequence[int], is_reduction: bool) -> list[list[Item]]:
    """The items by column: inputs, then operations and nodes in turn, then the output; lanes between them."""
    depth = [0, 0]
    for node in range(2, len(edges) // 2 + 2):
        depth.append(1 + max(depth[state] for _, state in edges[2 * node - 4 : 2 * node - 2]))
    columns: list[list[Item]] = [[] for _ in range(2 * max(depth) + 2)]

    def add(kind: str, name: str, column: int, width: float, height: float) -> Item:
        item = Item(kind, name, column, width, height)
        columns[column].append(item)
        return item

    def link(state: int, target: Item) -> None:
        """Leads a state to a column, in its lane."""
        at = states[state]
        for column in range(at.column + 1, target.column):
            if (state, column) not in lanes:
                lane = lanes[state, column] = add("lane", str(state), column, 0, 8)
                at.after.append(lane)
                lane.before.append(at)
            at = lanes[state, column]
        at.after.append(target)
        target.before.append(at)

    lanes: dict[tuple[int, int], Item] = {}
    states = [add("input", f"{i}: cell k\u2212{2 - i}", 0, 92, 34) for i in (0, 1)]
    for node, level in enumerate(depth[2:], start=2):
        states.append(add("node", str(node), 2 * level, 36, 36))
    for node, state in enumerate(states[2:], start=2):
        for operation, source in edges[2 * node - 4 : 2 * node - 2]:
            stride = " /2" if is_reduction and source < 2 else ""
            name = f"{operation}{stride}"
            box = add("operation", name, state.column - 1, 26 + 7.4 * len(name), 30)
            link(source, box)
            box.after.append(state)
            state.before.append(box)
    output = add("output", "concat", len(columns) - 1, 66, 26.0 + 14 * len(concat))
    for state_number in concat:
        link(state_number, output)
    return columns


def _crossings(column: Sequence[Item]) -> float:
    """How many edges from this column to the next cross; those into nodes count more, so that pairs stay together."""
    ends = [list(item.after) for item in column]
    return sum(
        1.5 if "node" in (a.kind, b.kind) else 1.0
        for i, above in enumerate(ends)
        for below in ends[i + 1 :]
        for a in above
        for b in below
        if a.y > b.y
    )


def _number(column: Sequence[Item]) -> None:
    for place, item in enumerate(column):
        item.y = float(place)


def _order(columns: list[list[Item]]) -> None:
    """Sorts each column (in place) so that few edges cross."""
    for column in columns:
        _number(column)
    best, kept = None, [list(column) for column in columns]
    for sweep in range(24):
        forwards = sweep % 2 == 0
        for column in columns if forwards else reversed(columns):
            sides = {
                id(item): (item.before if forwards else item.after) or item.neighbours() for item in column
            }
            column.sort(key=lambda item: sum(n.y for n in sides[id(item)]) / max(len(sides[id(item)]), 1))
            _number(column)
        _exchange(columns)
        crossings = sum(map(_crossings, columns))
        if best is None or crossings < best:
            best, kept = crossings, [list(column) for column in columns]
    for column, order in zip(columns, kept):
        column[:] = order


def _exchange(columns: list[list[Item]]) -> None:
    """Swaps neighbours (in place) as long as fewer edges cross for it."""
    for _ in range(8):
        changed = False
        for number, column in enumerate(columns):
            touched = columns[max(number - 1, 0) : number + 1]
            for i in range(len(column) - 1):
                before = sum(map(_crossings, touched))
                column[i], column[i + 1] = column[i + 1], column[i]
                _number(column)
                if sum(map(_crossings, touched)) < before:
                    changed = True
                else:
                    column[i], column[i + 1] = column[i + 1], column[i]
                    _number(column)
        if not changed:
            return


def _set_heights(columns: list[list[Item]]) -> None:
    """Sets `y`: near the neighbours' mean, in the column's order, without overlap."""
    for column in columns:
        total = 0.0
        for item in column:
            item.y = total + item.height / 2
            total += item.height + GAP
        for item in column:
            item.y -= total / 2
    for sweep in range(60):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wishes = []
            for item in column:
                # Lanes want to be straight most of all.
                weights = [4.0 if "lane" in (item.kind, n.kind) else 1.0 for n in item.neighbours()]
                wishes.append(
                    sum(w * n.y for w, n in zip(weights, item.neighbours())) / sum(weights)
                    if weights
                    else item.y
                )
            for item, y in zip(column, _apart(wishes, [item.height for item in column])):
                item.y = y


def _apart(wishes: Sequence[float], heights: Sequence[float]) -> list[float]:
    """The positions nearest to the wishes, in squares, that keep order and distance."""
    offsets = [0.0]
    for above, below in itertools.pairwise(heights):
        offsets.append(offsets[-1] + (above + below) / 2 + GAP)
    blocks: list[list[float]] = []  # mean, count: pool adjacent violators
    for wish, offset in zip(wishes, offsets):
        blocks.append([wish - offset, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, count = blocks.pop()
            last = blocks[-1]
            last[:] = [(last[0] * last[1] + mean * count) / (last[1] + count), last[1] + count]
    levels = [mean for mean, count in blocks for _ in range(int(count))]
    return [level + offset for level, offset in zip(levels, offsets)]


def _svg(columns: list[list[Item]], title: str) -> str:
    widths = [max(item.width for item in column) for column in columns]
    lefts = [MARGIN + sum(widths[:i]) + COLUMN_GAP * i for i in range(len(widths))]
    items = [item for column in columns for item in column]
    top = min(item.y - item.height / 2 for item in items) - MARGIN - TITLE
    width = lefts[-1] + widths[-1] + MARGIN
    height = max(item.y + item.height / 2 for item in items) + MARGIN - top

    def span(item: Item) -> tuple[float, float]:
        """Where an item begins and ends in x."""
        left, whole = lefts[item.column], widths[item.column]
        inset = 0.0 if item.kind == "lane" else (whole - item.width) / 2
        return left + inset, left + whole - inset

    lines, shapes = [], []
    for item in items:
        start, y = span(item)[1], item.y - top
        for target in item.after:
            end = span(target)[0]
            target_y = target.y - top
            if target.kind == "output":
                place = sorted(target.before, key=lambda each: each.y).index(item)
                target_y += (place - (len(target.before) - 1) / 2) * 14
            middle = (start + end) / 2
            arrow = "" if target.kind == "lane" else ' marker-end="url(#arrow)"'
            faint = ' class="faint"' if _only_leads_out(item, target) else ""
            tip = end if target.kind == "lane" else end - 2
            lines.append(
                f'<path{faint} d="M{start:.1f} {y:.1f} C{middle:.1f} {y:.1f} {middle:.1f} {target_y:.1f} '
                f'{tip:.1f} {target_y:.1f}"{arrow}/>'
            )
        left, right = span(item)
        x = (left + right) / 2
        if item.kind == "lane":
            faint = ' class="faint"' if all(_only_leads_out(item, target) for target in item.after) else ""
            lines.append(f'<path{faint} d="M{left:.1f} {y:.1f} H{right:.1f}"/>')
            continue
        shapes.append(_shape(item, left, right, y))
        shapes.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{item.kind}">{escape(item.name)}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
            f"<title>{escape(title)}</title>",
            _STYLE,
            f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
            f'<text x="{MARGIN:.0f}" y="{TITLE - 10:.0f}" class="title">{escape(title)}</text>',
            '<g fill="none" stroke="#4a4a4a" stroke-width="1.6">',
            *lines,
            "</g>",
            *shapes,
            "</svg>\n",
        ]
    )


def _only_leads_out(item: Item, target: Item) -> bool:
    """Whether a line serves the output alone."""
    if target.kind == "output":
        return True
    return target.kind == "lane" and all(_only_leads_out(target, after) for after in target.after)


def _shape(item: Item, left: float, right: float, y: float) -> str:
    fill = {"input": "#e9edf2", "node": "#1f2933", "output": "#e9edf2"}.get(item.kind) or colour_of(item.name)
    edge = ' stroke="#8793a1"' if item.kind in ("input", "output") else ""
    radius = item.height / 2 if item.kind == "node" else 6
    return (
        f'<rect x="{left:.1f}" y="{y - item.height / 2:.1f}" width="{right - left:.1f}" '
        f'height="{item.height:.1f}" rx="{radius:.0f}" fill="{fill}"{edge}/>'
    )


_STYLE = f"""<defs>
<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0 L8 4 L0 8 z" fill="#4a4a4a" stroke="none"/></marker>
<style>
text {{ font-family: {FONT}; font-size: 13px; text-anchor: middle; dominant-baseline: central; fill: #1f2933 }}
.operation, .node {{ fill: white }}
.node {{ font-weight: bold }}
.title {{ font-size: 17px; font-weight: bold; text-anchor: start }}
.faint {{ stroke: #a9b3be; stroke-dasharray: 5 4 }}
</style></defs>"""
