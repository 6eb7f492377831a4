"""Draws two networks side by side."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lightning_nas.architecture import Architecture
from lightning_nas.drawing import boxes
from lightning_nas.drawing.alignment import Pair, align, changes
from lightning_nas.drawing.boxes import Picture
from lightning_nas.drawing.folding import MOST, Part, fold
from lightning_nas.drawing.palette import colour
from lightning_nas.drawing.svg import MARGIN, document, fitted, label, text_width
from lightning_nas.drawing.words import count

_TITLE, _HEADS, _GAP, _MIDDLE, _WIDEST = 58.0, 46.0, 22.0, 76.0, 290.0
_LANE, _CORNER = 10.0, 6.0
_SIGNS = {"changed": "\u2260", "added": "+", "removed": "\u2212"}
Edges = Collection[tuple[int, int]]


def difference_svg(
    before: Architecture,
    after: Architecture,
    depth: int | None = None,
    names: tuple[str, str] = ("before", "after"),
) -> str:
    """Two networks in two columns, in which equal parts stand beside each other.

    Equal parts are grey. Changed, added and removed ones have a sign, a word, a colour and a frame of
    their own; a changed one says what changed. Lines that only one of the networks has are marked as well.

    Args:
        before, after: what to compare.
        depth: as in `network_svg`; both are folded alike.
        names: what the columns are called.

    Raises:
        ValueError: if `depth` is negative.
    """
    if depth is None:
        depth = 0 if max(len(before.layers), len(after.layers)) > MOST else MOST
    folded = fold(before, depth), fold(after, depth)
    pairs = align(folded[0][0], folded[1][0])
    inner = _Inner((before, after), depth)
    rows = _Rows(pairs, [[boxes.picture(part) for part in parts] for parts, _ in folded], inner)
    sides = [_lanes(edges, rows.of_side[side]) for side, (_, edges) in enumerate(folded)]
    rooms = [_LANE * (1 + max(lanes.values(), default=-1)) + (8 if lanes else 0) for lanes in sides]
    lefts = [MARGIN + rooms[0], MARGIN + rooms[0] + rows.width + _MIDDLE]
    matched = _only_here(pairs, folded[0][1], folded[1][1])
    title = " / ".join(dict.fromkeys(each.kinds.get("", "Network") for each in (before, after)))
    facts = _facts(pairs)
    elements = [label(MARGIN, MARGIN + 6, title, "title"), label(MARGIN, MARGIN + 30, facts, "muted")]
    for side, (each, other) in enumerate([(before, None), (after, before)]):
        name = fitted(names[side], rows.width, 13, is_bold=True)
        elements.append(label(lefts[side], MARGIN + _TITLE, name, "strong"))
        elements.append(label(lefts[side], MARGIN + _TITLE + 18, _totals(each, other), "muted"))
    for side, (_, edges) in enumerate(folded):
        for edge in edges:
            kind = ("gone", "new")[side] if edge in matched[side] else ""
            elements.append(rows.line(side, edge, lefts[side], sides[side].get(edge), kind))
    elements += rows.drawn(lefts)
    width = lefts[1] + rows.width + rooms[1] + MARGIN
    width = max(width, text_width(facts, 11.5) + 2 * MARGIN, text_width(title, 17, is_bold=True) + 2 * MARGIN)
    said = f"{names[0]} and {names[1]}: {facts}"
    return document(width, rows.height + MARGIN, said, elements, boxes.STYLE + _STYLE)


class _Inner:
    """What the blocks of two architectures consist of, level by level."""

    def __init__(self, sides: tuple[Architecture, Architecture], depth: int) -> None:
        self._sides = sides
        self._depth = depth
        self._folded: dict[tuple[int, int], list[Part]] = {}

    def __call__(self, side: int, part: Part, level: int) -> list[Part]:
        if (side, level) not in self._folded:
            self._folded[side, level] = fold(self._sides[side], self._depth + level)[0]
        own = {layer.name for layer in part.layers}
        return [each for each in self._folded[side, level] if each.layers[0].name in own]


class _Rows:
    """Where the pairs stand.

    Args:
        pairs: one for each row.
        pictures: of the parts before and after.
        inner: what blocks consist of.
    """

    def __init__(self, pairs: Sequence[Pair], pictures: Sequence[Sequence[Picture]], inner: _Inner) -> None:
        self._pairs = pairs
        self._pictures = [list(side) for side in pictures]
        for pair in pairs:
            if pair.status == "changed" and pair.before is not None and pair.after is not None:
                old, new = pictures[0][pair.before], pictures[1][pair.after]
                notes = changes(old.part, new.part, inner)
                self._pictures[1][pair.after] = new.with_row(_short(notes), "change", notes)
        self.width = _WIDEST
        self.of_side: list[dict[int, int]] = [{}, {}]
        self._tops: list[float] = []
        top = MARGIN + _TITLE + _HEADS
        for number, pair in enumerate(pairs):
            self._tops.append(top)
            heights = []
            for side, position in enumerate((pair.before, pair.after)):
                if position is not None:
                    self.of_side[side][position] = number
                    heights.append(self._pictures[side][position].height)
            top += max(heights) + _GAP
        self.height = top

    def _span(self, side: int, position: int) -> tuple[float, float]:
        top = self._tops[self.of_side[side][position]]
        return top, top + self._pictures[side][position].height

    def drawn(self, lefts: Sequence[float]) -> list[str]:
        """The boxes, and the signs between them."""
        elements = []
        for number, pair in enumerate(self._pairs):
            for side, position in enumerate((pair.before, pair.after)):
                if position is not None:
                    box = self._pictures[side][position]
                    elements += boxes.drawn(box, lefts[side], self._tops[number], self.width, pair.status)
            middle = lefts[0] + self.width + _MIDDLE / 2
            y = self._tops[number] + 22
            if pair.status == "equal":
                y -= 7
                ends = (middle - _MIDDLE / 2 + 8, middle + _MIDDLE / 2 - 8)
                elements.append(f'<path class="same" d="M{ends[0]:.1f} {y:.1f}H{ends[1]:.1f}"/>')
            else:
                elements.append(label(middle, y - 7, _SIGNS[pair.status], f"sign {pair.status}"))
                elements.append(label(middle, y + 9, pair.status, f"word {pair.status}"))
        return elements

    def line(self, side: int, edge: tuple[int, int], left: float, lane: int | None, kind: str) -> str:
        """An edge: straight down to the next box, or through a lane beside the column."""
        (_, start), (end, _) = self._span(side, edge[0]), self._span(side, edge[1])
        if lane is None:
            x = left + self.width / 2
            path = f"M{x:.1f} {start:.1f}V{end - 6:.1f}"
            tip = [(x, end), (x - 3.6, end - 7), (x + 3.6, end - 7)]
        else:
            sign = (-1, 1)[side]
            x = left + side * self.width
            aside = x + sign * (8 + _LANE * (lane + 1))
            turn = aside - sign * _CORNER
            start, end = start - 9, end + 9
            path = (
                f"M{x:.1f} {start:.1f}H{turn:.1f}Q{aside:.1f} {start:.1f} {aside:.1f} {start + _CORNER:.1f}"
                f"V{end - _CORNER:.1f}Q{aside:.1f} {end:.1f} {turn:.1f} {end:.1f}H{x + sign * 6:.1f}"
            )
            tip = [(x, end), (x + sign * 7, end - 3.6), (x + sign * 7, end + 3.6)]
        corners = " L".join(f"{a:.1f} {b:.1f}" for a, b in tip)
        return f'<path class="line {kind}" d="{path}"/><path class="tip {kind}" d="M{corners}z"/>'


def _lanes(edges: Edges, rows: dict[int, int]) -> dict[tuple[int, int], int]:
    """The lanes, from 0 outwards, of the edges that do not simply lead to the next box."""
    far = sorted((edge for edge in edges if edge[1] != edge[0] + 1), key=lambda e: rows[e[1]] - rows[e[0]])
    lanes: dict[tuple[int, int], int] = {}
    for edge in far:
        start, end = rows[edge[0]], rows[edge[1]]
        taken = {lane for other, lane in lanes.items() if rows[other[0]] <= end and start <= rows[other[1]]}
        lanes[edge] = next(lane for lane in range(len(far)) if lane not in taken)
    return lanes


def _only_here(pairs: Sequence[Pair], before: Edges, after: Edges) -> tuple[set[tuple[int, int]], ...]:
    """The edges between matched parts that only the one, and only the other network has.

    Where added or removed parts alone stand between, the edge is there still.
    """
    there = {pair.before: pair.after for pair in pairs if pair.before is not None and pair.after is not None}
    back = {new: old for old, new in there.items()}
    old, new = _bridged(before, set(there)), _bridged(after, set(back))
    gone = {(a, b) for a, b in before if a in there and b in there and (there[a], there[b]) not in new}
    come = {(a, b) for a, b in after if a in back and b in back and (back[a], back[b]) not in old}
    return gone, come


def _bridged(edges: Edges, ends: Collection[int]) -> set[tuple[int, int]]:
    """The edges, and ways through parts that are not among `ends`, by where they begin and end."""
    found = set(edges)
    for start, end in sorted(edges, key=lambda edge: -edge[1]):
        if end not in ends:
            found |= {(start, far) for middle, far in list(found) if middle == end}
    return found


def _short(notes: Sequence[str]) -> str:
    more = f" (+{len(notes) - 1} more)" if len(notes) > 1 else ""
    return f"{_SIGNS['changed']} {fitted(notes[0], _WIDEST - 30 - text_width(more, 11.5), 11.5)}{more}"


def _facts(pairs: Sequence[Pair]) -> str:
    numbers = {status: sum(pair.status == status for pair in pairs) for status in (*_SIGNS, "equal")}
    if numbers["equal"] == len(pairs):
        return f"All {len(pairs)} parts are equal."
    return " \u00b7 ".join(f"{number} {status}" for status, number in numbers.items() if number)


def _totals(each: Architecture, other: Architecture | None) -> str:
    """Parameters and MACs, and by how much they differ from those of another network."""
    words = []
    figures = [("params", each.params, other and other.params), ("MACs", each.macs, other and other.macs)]
    for name, value, reference in figures:
        if value is None:
            continue
        share = f" ({100 * (value / reference - 1):+.3g}%)" if reference and value != reference else ""
        words.append(f"{count(value)} {name}{share}")
    return " \u00b7 ".join(words)


def _frame(status: str, line: str) -> str:
    shades = f"fill: {colour(f'{status}-back')}; stroke: {colour(status)}; {line}"
    text = f".lnas text.{status} {{ fill: {colour(status)} }}"
    return f".lnas .{status}.box, .lnas .{status}.sheet {{ {shades} }}\n{text}"


_STYLE = f"""
.lnas .equal.box, .lnas .equal.sheet {{ fill: {colour("back")}; stroke: {colour("border")} }}
{_frame("changed", "stroke-width: 2")}
{_frame("added", "stroke-width: 2.5")}
{_frame("removed", "stroke-width: 2; stroke-dasharray: 6 4")}
.lnas .sign {{ font-size: 21px; font-weight: 700; text-anchor: middle }}
.lnas .word {{ font-size: 11.5px; font-weight: 600; text-anchor: middle }}
.lnas .change {{ font-size: 11.5px; font-weight: 600; fill: {colour("changed")} }}
.lnas .same {{ stroke: {colour("faint")}; stroke-dasharray: 1 5; stroke-width: 1.5; stroke-linecap: round }}
.lnas .line.gone {{ stroke: {colour("removed")}; stroke-width: 2.2; stroke-dasharray: 6 4 }}
.lnas .line.new {{ stroke: {colour("added")}; stroke-width: 2.8 }}
.lnas .tip.gone {{ fill: {colour("removed")} }}
.lnas .tip.new {{ fill: {colour("added")} }}
"""
