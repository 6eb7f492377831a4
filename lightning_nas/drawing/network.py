"""Draws a whole network, from top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from lightning_nas.architecture import Architecture
from lightning_nas.drawing import boxes
from lightning_nas.drawing.folding import fold
from lightning_nas.drawing.layout import longest_paths, place
from lightning_nas.drawing.ranks import Box
from lightning_nas.drawing.svg import MARGIN, document, label, line, text_width
from lightning_nas.drawing.words import count

_GAP, _TITLE = 24.0, 58.0


def network_svg(
    architecture: Architecture,
    depth: int | None = None,
    opened: Collection[str] = (),
    title: str | None = None,
) -> str:
    """The drawing of a network: a box for each layer or block, in the order in which data pass.

    A block is drawn as a stack; a layer that a choice put there has the choice's label after a diamond.
    In the document, blocks carry `data-block` with their path, for a page that opens them by `opened`.

    Args:
        architecture: what to draw.
        depth: how many levels of modules within blocks are opened: 0 folds the network into its blocks.
            None draws every layer where there are at most 40, else as 0.
        opened: paths of blocks that are opened by one level more.
        title: stands above; the network's class if None.

    Raises:
        ValueError: if `depth` is negative.
    """
    parts, edges = fold(architecture, depth, opened)
    name = title or architecture.kinds.get("", "Network")
    if not parts:
        return document(320, 80, name, [label(MARGIN, 40, f"{name} has no layers.")])
    pictures = [boxes.picture(part) for part in parts]
    ranks = longest_paths(len(parts), edges)
    # Boxes below each other look best alike; where many stand side by side, room counts more.
    is_slim = max(Counter(ranks).values()) <= 2
    widest = max(each.width for each in pictures if not each.is_end or not is_slim)
    widths = [
        widest if is_slim and not each.is_end else max(each.width, boxes.NARROWEST) for each in pictures
    ]
    layout = place(
        [Box(each.height, width, rank, spread=18.0) for each, width, rank in zip(pictures, widths, ranks)],
        edges,
        _GAP,
        has_spine=True,
    )
    offset = (MARGIN, MARGIN + _TITLE)
    facts = _facts(architecture)
    room = max(text_width(name, 17, is_bold=True), text_width(facts, 11.5))
    if layout.breadth < room:
        offset = (MARGIN + (room - layout.breadth) / 2, offset[1])
    elements = [label(MARGIN, MARGIN + 6, name, "title"), label(MARGIN, MARGIN + 30, facts, "muted")]
    elements += [line(each, offset, is_downwards=True) for each in layout.lines]
    for item in layout.items:
        left, top = item.place - item.breadth / 2 + offset[0], item.start + offset[1]
        elements += boxes.drawn(pictures[item.number], left, top, item.breadth)
    width, height = max(layout.breadth, room) + 2 * MARGIN, layout.length + _TITLE + 2 * MARGIN
    return document(width, height, f"{name}: {facts}", elements, boxes.STYLE)


def _facts(architecture: Architecture) -> str:
    layers = [layer for layer in architecture.layers if layer.kind not in ("input", "output")]
    words = [f"{len(layers)} layers", f"{count(architecture.params)} parameters"]
    if architecture.macs is not None:
        words.append(f"{count(architecture.macs)} MACs")
    idle = architecture.params - sum(layer.params for layer in layers)
    if idle:
        words.append(f"{count(idle)} of the parameters not used in evaluation")
    return " \u00b7 ".join(words)
