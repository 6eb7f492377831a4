"""Draws cells: states, the operations between them, and what the cell puts out, from left to right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_nas.drawing.layout import Line, place
from lightning_nas.drawing.palette import colour
from lightning_nas.drawing.ranks import Box
from lightning_nas.drawing.svg import (
    MARGIN,
    document,
    fitted,
    label,
    line,
    plain,
    rectangle,
    text_width,
)

Edge = tuple[str, int]
"""An operation and the state it is applied to."""

_FAMILIES = {
    "sep_conv": "conv",
    "dil_conv": "dilated",
    "conv": "block",
    "nor_conv": "conv",
    "max_pool": "max-pool",
    "avg_pool": "avg-pool",
    "skip": "skip",
    "none": "none",
}
_GAP, _TITLE, _WIDEST = 42.0, 34.0, 190.0


def cell_svg(
    nodes: Sequence[Sequence[Edge]],
    concat: Sequence[int],
    title: str,
    inputs: Sequence[str] = ("cell k\u22122", "cell k\u22121"),
    is_reduction: bool = False,
) -> str:
    """The drawing of a cell.

    Args:
        nodes: the edges of each node; a node is their sum. States are numbered: first the inputs, then
            the nodes.
        concat: the states that make up the output.
        title: stands above.
        inputs: what the first states are called.
        is_reduction: mark the operations on the inputs with the stride 2 that they have.
    """
    first = len(inputs)
    depths = [0] * first
    for edges in nodes:
        depths.append(1 + max((depths[state] for _, state in edges), default=0))
    names = [f"{i}: {name}" for i, name in enumerate(inputs)] + [str(i) for i in range(first, len(depths))]
    kinds = ["input"] * first + ["node"] * len(nodes)
    boxes = [Box(text_width(name, 13) + 22, 34, 0) for name in names[:first]]
    boxes += [Box(36, 36, 2 * depth, is_round=True) for depth in depths[first:]]
    pairs: list[tuple[int, int]] = []
    for node, edges in enumerate(nodes, start=first):
        for operation, state in edges:
            name = f"{operation} /2" if is_reduction and state < first else str(operation)
            pairs += [(state, len(boxes)), (len(boxes), node)]
            boxes.append(Box(min(text_width(name, 13), _WIDEST) + 24, 30, 2 * depths[node] - 1))
            names.append(name)
            kinds.append("operation")
    output = len(boxes)
    boxes.append(Box(66, 26.0 + 14 * len(concat), 2 * max(depths) + 1, spread=14))
    names.append("concat" if len(concat) > 1 else "output")
    kinds.append("output")
    pairs += [(state, output) for state in concat]
    layout = place(boxes, pairs, _GAP)
    offset = (MARGIN, MARGIN + _TITLE)

    def faint(each: Line) -> str:
        is_unused = kinds[each.source] == "operation" and names[each.source].startswith("none")
        return "faint" if each.targets == {output} or is_unused else ""

    parts = [label(MARGIN, MARGIN + 6, title, "title")]
    parts += [line(each, offset, is_downwards=False, kind=faint(each)) for each in layout.lines]
    for item in layout.items:
        left, top = item.start + offset[0], item.place - item.breadth / 2 + offset[1]
        kind, name = kinds[item.number], names[item.number]
        fill = f"operation family-{_family(name)}" if kind == "operation" else kind
        radius = item.breadth / 2 if kind == "node" else 6
        parts += [
            f"<g><title>{plain(f'node {name}' if kind == 'node' else name)}</title>",
            rectangle(left, top, item.end - item.start, item.breadth, fill, radius),
            label(
                left + (item.end - item.start) / 2,
                item.place + offset[1],
                fitted(name, _WIDEST, 13),
                f"middle on-{kind}",
            ),
            "</g>",
        ]
    width = max(layout.length, text_width(title, 17, is_bold=True)) + 2 * MARGIN
    return document(width, layout.breadth + _TITLE + 2 * MARGIN, title, parts, _style())


def cells_svg(sample: Mapping[str, Any], concat: Mapping[str, Sequence[int]] | None = None) -> dict[str, str]:
    """The drawings of the cells that a sample describes, by the cells' labels.

    Cells are known by their labels: those of `nn.Cell` (`normal/op_2_0` with `normal/input_2_0` or
    `normal/input_2`), and `edge_0_1` and so on as in NAS-Bench-201, whose cell is called "cell".

    Args:
        sample: its other labels do not matter; a cell with labels missing is left out.
        concat: the states that a cell's output concatenates, by cell; of an `nn.Cell` all nodes if None, which
            a sample does not tell.
    """
    drawings = {}
    for name in dict.fromkeys(m[1] for m in map(_OPERATION.match, sample) if m):
        nodes, first = _nodes(sample, name)
        if not nodes:
            continue
        states = (concat or {}).get(name, range(first, first + len(nodes)))
        inputs = [f"cell k\u2212{first - i}" for i in range(first)] if first > 1 else ["input"]
        title = {"normal": "Normal cell", "reduce": "Reduction cell"}.get(name, f"Cell {name}")
        drawings[name] = cell_svg(nodes, list(states), title, inputs, is_reduction=name == "reduce")
    for name in dict.fromkeys(m[1] for m in map(_EDGE.match, sample) if m):
        nodes = _dense_nodes(sample, name)
        title = f"Cell {name.rstrip('/')}" if name else "Cell"
        if nodes:
            drawings[name.rstrip("/") or "cell"] = cell_svg(nodes, [len(nodes)], title, ["input"])
    return drawings


_OPERATION = re.compile(r"(.+)/op_\d+_\d+$", re.DOTALL)
_EDGE = re.compile(r"((?:.+/)?)edge_\d+_\d+$", re.DOTALL)


def _nodes(sample: Mapping[str, Any], name: str) -> tuple[list[list[Edge]], int]:
    """The edges of each node of an `nn.Cell`, and the number of its inputs; no nodes if labels are missing."""
    slots = sorted(
        (int(node), int(k))
        for node, k in (
            m.groups() for m in (re.match(re.escape(name) + r"/op_(\d+)_(\d+)$", x) for x in sample) if m
        )
    )
    first = slots[0][0]
    nodes: list[list[Edge]] = [[] for _ in range(slots[-1][0] - first + 1)]
    for node, k in slots:
        together = sample.get(f"{name}/input_{node}")
        state = sample.get(f"{name}/input_{node}_{k}")
        if isinstance(together, (list, tuple)) and k < len(together):
            state = together[k]
        if isinstance(state, (list, tuple)) and len(state) == 1:  # as NNI exported it
            state = state[0]
        if not isinstance(state, int) or not 0 <= state < node:
            return [], first
        nodes[node - first].append((str(sample[f"{name}/op_{node}_{k}"]), state))
    return nodes, first


def _dense_nodes(sample: Mapping[str, Any], prefix: str) -> list[list[Edge]]:
    """The edges of each node but the first, where each takes all before it; none if labels are missing."""
    nodes: list[list[Edge]] = []
    while f"{prefix}edge_0_{len(nodes) + 1}" in sample:
        node = len(nodes) + 1
        labels = [f"{prefix}edge_{state}_{node}" for state in range(node)]
        if not all(each in sample for each in labels):
            return []
        nodes.append([(str(sample[each]), state) for state, each in enumerate(labels)])
    return nodes


def _family(operation: str) -> str:
    return next((family for start, family in _FAMILIES.items() if operation.startswith(start)), "other")


def _style() -> str:
    families = {**{family: family for family in _FAMILIES.values()}, "other": "other"}
    rules = [f".lnas .family-{name} {{ fill: {colour(fill)} }}" for name, fill in families.items()]
    return "\n".join(
        [
            *rules,
            f".lnas .input, .lnas .output {{ fill: {colour('back')}; stroke: {colour('border')} }}",
            f".lnas .node {{ fill: {colour('ink')} }}",
            f".lnas .on-operation {{ fill: {colour('on-fill')} }}",
            f".lnas .on-node {{ fill: {colour('box')}; font-weight: 600 }}",
            f".lnas .family-none {{ stroke: {colour('ink')}; stroke-dasharray: 4 3 }}\n",
        ]
    )
