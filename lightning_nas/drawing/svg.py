"""What all drawings are made of: text that fits, lines with arrows, and the document around them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lightning_nas.drawing.layout import Line
from lightning_nas.drawing.palette import colour

_NARROW, _WIDE = set("fijlrtI|!.,:;'()[]{}/ -\u00b7"), set("mwMWQO@%\u2192")
MARGIN = 20.0
_LEAST = 0.8  # of its own size, below which a page lets a drawing scroll instead of making it smaller


def text_width(text: str, size: float, is_bold: bool = False) -> float:
    """About how wide a text is in pixels, rather too much than too little, in a font of `size` pixels."""
    units = sum(0.34 if c in _NARROW else 0.9 if c in _WIDE else 0.68 if c.isupper() else 0.58 for c in text)
    return units * size * (1.06 if is_bold else 1.0)


def fitted(text: str, width: float, size: float, is_bold: bool = False) -> str:
    """The text, cut in its middle if it is wider than `width` pixels: of a path, both ends say most."""
    if text_width(text, size, is_bold) <= width:
        return text
    keep = len(text) - 1
    while keep > 1:
        cut = f"{text[: keep // 2]}\u2026{text[len(text) - (keep - keep // 2) :]}"
        if text_width(cut, size, is_bold) <= width:
            return cut
        keep -= 1
    return "\u2026"


def plain(text: object) -> str:
    """Text as XML can hold it: escaped, without control characters and halves of characters."""
    letters = (c if c.isprintable() and not "\ud800" <= c <= "\udfff" else " " for c in str(text))
    return escape("".join(letters))


def label(x: float, y: float, text: str, kind: str = "") -> str:
    """A text whose middle height is at `y`; `kind` is a class of the style."""
    attribute = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attribute}>{plain(text)}</text>'


def rectangle(left: float, top: float, width: float, height: float, kind: str, radius: float = 6) -> str:
    """A rectangle; `kind` is a class of the style."""
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="{radius:.1f}"/>'
    )


def line(each: Line, offset: tuple[float, float], is_downwards: bool, kind: str = "") -> str:
    """A line of a layout, with an arrow where it reaches a box.

    Args:
        each: the line.
        offset: of the layout's origin in the drawing, (x, y).
        is_downwards: whether the layout flows down; else it flows to the right.
        kind: a class of the style.
    """

    def point(along: float, across: float) -> str:
        x, y = (across, along) if is_downwards else (along, across)
        return f"{x + offset[0]:.1f} {y + offset[1]:.1f}"

    start, end = each.start, each.end
    tip = end[0] - (6.0 if each.is_last else 0.0)
    arrive = min(each.arrive, tip)
    steps = [f"M{point(*start)}"]
    if each.turn > start[0]:
        steps.append(f"L{point(each.turn, start[1])}")
    if arrive > each.turn:
        middle = (each.turn + arrive) / 2
        points = (point(middle, start[1]), point(middle, end[1]), point(arrive, end[1]))
        steps.append("C" + " ".join(points))
    if tip > arrive:
        steps.append(f"L{point(tip, end[1])}")
    attribute = f"line {kind}".strip()
    drawn = f'<path class="{attribute}" d="{" ".join(steps)}"/>'
    if each.is_last:
        corners = [end, (end[0] - 7, end[1] - 3.6), (end[0] - 7, end[1] + 3.6)]
        drawn += f'<path class="tip {kind}" d="M{" L".join(point(*corner) for corner in corners)}z"/>'
    return drawn


def document(width: float, height: float, title: str, parts: Sequence[str], style: str = "") -> str:
    """A drawing that scales down to four fifths with the page it stands in, then asks to be scrolled.

    Args:
        width, height: in pixels.
        title: what a screen reader says of it.
        parts: its elements.
        style: CSS besides the common one; each rule begins with `.lnas`.
    """
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="lnas" role="img" width="{width:.0f}" '
            f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" style="width:100%;'
            f'max-width:{width:.0f}px;min-width:{min(width, max(_LEAST * width, 320)):.0f}px;height:auto">',
            f"<title>{plain(title)}</title>",
            f"<style>{_STYLE}{style}</style>",
            rectangle(0, 0, width, height, "paper", 0),
            *parts,
            "</svg>\n",
        ]
    )


_FONT = "'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
_STYLE = f"""
.lnas text {{ font-family: {_FONT}; font-size: 13px; dominant-baseline: central; fill: {colour("ink")} }}
.lnas .title {{ font-size: 17px; font-weight: 600 }}
.lnas .muted {{ font-size: 11.5px; fill: {colour("muted")} }}
.lnas .strong {{ font-weight: 600 }}
.lnas .middle {{ text-anchor: middle }}
.lnas .label {{ font-size: 11.5px; font-weight: 600; fill: {colour("label")} }}
.lnas .paper {{ fill: {colour("paper")} }}
.lnas .line {{ fill: none; stroke: {colour("line")}; stroke-width: 1.5 }}
.lnas .tip {{ fill: {colour("line")} }}
.lnas .line.faint {{ stroke: {colour("faint")}; stroke-dasharray: 5 4 }}
.lnas .tip.faint {{ fill: {colour("faint")} }}
"""
