"""The box of a layer or block: how large it is, and its drawing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lightning_nas.drawing.folding import Part
from lightning_nas.drawing.palette import LIGHT, colour
from lightning_nas.drawing.svg import fitted, label, plain, rectangle, text_width
from lightning_nas.drawing.words import all_of, choices_of, costs, family, pretty, size_of

WIDEST, NARROWEST = 262.0, 96.0
"""Of a box, in pixels."""
_LEFT, _RIGHT, _ROW, _PAD = 14.0, 10.0, 16.0, 7.0
_STACK = 4.0  # how far the sheet behind a block looks out


@dataclass(frozen=True)
class Picture:
    """What stands on a box: pairs of a text and a class of the style, one or two in each row.

    `said` is said besides to those who point at it.
    """

    part: Part
    rows: tuple[tuple[tuple[str, str], ...], ...]
    said: tuple[str, ...] = ()

    def with_row(self, text: str, kind: str, said: Sequence[str]) -> Picture:
        """The same with one more row, of which `said` is the full text."""
        return replace(self, rows=(*self.rows, ((text, kind),)), said=tuple(said))

    @property
    def is_end(self) -> bool:
        """Whether it is an input or output of the network."""
        return self.part.kind in ("input", "output")

    @property
    def width(self) -> float:
        """In pixels, as it would like to be."""
        rows = [sum(text_width(t, _size(kind), kind == "strong") for t, kind in row) for row in self.rows]
        gaps = [8.0 * (len(row) - 1) for row in self.rows]
        stack = _STACK if self.part.is_block else 0.0
        return min(max(w + g + _LEFT + _RIGHT + stack + 1 for w, g in zip(rows, gaps)), WIDEST)

    @property
    def height(self) -> float:
        """In pixels."""
        return _ROW * len(self.rows) + 2 * _PAD + (_STACK if self.part.is_block else 0.0)


def picture(part: Part) -> Picture:
    """What is written on a part."""
    rows: list[tuple[tuple[str, str], ...]] = []
    shape = "" if part.shape is None else size_of(part.shape)
    if part.kind in ("input", "output"):
        rows.append(((part.name, "strong"), (shape, "muted")))
    else:
        name = part.name
        if part.is_block:
            rows.append(((part.name, "strong"), (part.kind, "muted")))
            name = f"{len(part.layers)} layers"
        else:
            rows.append(((part.kind, "strong"), (pretty(part.detail), "")))
            if re.fullmatch(rf"{re.escape(part.kind)}(_\d+)?", name):
                name = ""  # a function that says no more
        rows.append(((" \u00b7 ".join(filter(None, (name, shape))), "muted"),))
        rows.append(((costs(part), "muted"),))
    if part.choices:
        rows.append(((choices_of(part), "label"),))
    kept = [tuple((text, kind) for text, kind in row if text) for row in rows]
    return Picture(part, tuple(row for row in kept if row))


def drawn(box: Picture, left: float, top: float, width: float, kind: str = "") -> list[str]:
    """The elements of a box, `box.height` high; `kind` is a further class of the style."""
    part, height = box.part, box.height
    marks = " ".join(filter(None, ("box", "chosen" if part.is_chosen else "", kind)))
    said = "; ".join([all_of(part), *box.said])
    elements = [f'<g data-name="{plain(part.name)}"{_folded(part)}><title>{plain(said)}</title>']
    if part.is_block:
        width, height = width - _STACK, height - _STACK
        elements.append(rectangle(left + _STACK, top + _STACK, width, height, f"sheet {kind}".strip()))
    if box.is_end:
        elements.append(rectangle(left, top, width, height, "end", min(height / 2, 15)))
    else:
        fill = "block" if part.is_block else family(part.kind)
        elements.append(rectangle(left, top, width, height, marks))
        elements.append(rectangle(left, top + 5, 4, height - 10, f"fill-{fill}", 1.5))
    for number, row in enumerate(box.rows):
        y = top + _PAD + _ROW * (number + 0.5)
        x, room = left + _LEFT, width - _LEFT - _RIGHT
        # Of two texts the first gives way, as long as enough of it is left.
        rest = sum(text_width(text, _size(style)) + 8 for text, style in row[1:])
        rest = rest if rest < room / 2 else 0.0
        for text, style in row:
            shown = fitted(text, room - rest, _size(style), style == "strong")
            elements.append(label(x, y, shown, style))
            used = text_width(shown, _size(style), style == "strong") + 8
            x, room, rest = x + used, room - used, 0.0
            if room < 8:
                break
    elements.append("</g>")
    return elements


def _folded(part: Part) -> str:
    return f' data-block="{plain(part.name)}"' if part.is_block else ""


def _size(kind: str) -> float:
    return 11.5 if kind in ("muted", "label", "change") else 13.0


STYLE = "\n".join(
    [
        "",
        *(f".lnas .fill-{name} {{ fill: {colour(name)} }}" for name in LIGHT),
        f".lnas .box, .lnas .sheet {{ fill: {colour('box')}; stroke: {colour('border')} }}",
        f".lnas .box.chosen {{ stroke: {colour('label')}; stroke-width: 1.5 }}",
        f".lnas .end {{ fill: {colour('back')}; stroke: {colour('border')} }}\n",
    ]
)
"""CSS of boxes."""
