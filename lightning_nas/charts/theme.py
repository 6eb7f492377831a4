"""Colours: one set for light pages and one for dark ones.

The categorical colours are those of Okabe and Ito, which people with each kind of colour blindness can tell
apart ("Color Universal Design", 2008, jfly.uni-koeln.de/color); a dark page takes the sky blue where a light
one takes the blue, and has no black. Scores run through viridis (van der Walt and Smith, 2015), from the
end that is nearest to the background to the one that stands out. A status has a shape besides its colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_nas.trial import Status

Option = dict[str, Any]
"""What `echarts.setOption` takes; JSON can hold it."""

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#7a5c00", "#4d4d4d")
_DARK_PALETTE = ("#56b4e8", "#e69f01", "#1fb58a", "#dd8fb8", "#f0762b", "#3d8fd1", "#f0e442", "#c8c8c8")

STATUS_COLOURS: Mapping[Status, str] = {
    Status.COMPLETED: PALETTE[0],
    Status.STOPPED: PALETTE[1],
    Status.RUNNING: PALETTE[2],
    Status.PAUSED: PALETTE[3],
    Status.FAILED: PALETTE[4],
}
STATUS_SHAPES: Mapping[Status, str] = {
    Status.COMPLETED: "circle",
    Status.STOPPED: "triangle",
    Status.RUNNING: "ring",
    Status.PAUSED: "rect",
    Status.FAILED: "diamond",
}

LINE = "#1a1a1a"
"""What stands out most: the best so far, the front."""

FAINT = "#9a9a9a"
"""What is there for comparison."""

SCORES = ("#b8de29", "#3cbb75", "#238a8d", "#39568c", "#440154")
"""From the worst to the best."""

WEIGHTS = ("#f2f5f9", "#9ecae1", "#3182bd", "#08306b")
"""From 0 to the largest."""

_DARK = dict(
    zip(
        (*PALETTE, LINE, FAINT, *SCORES, *WEIGHTS),
        (
            *_DARK_PALETTE,
            *("#f2f2f2", "#777777"),
            *("#453781", "#33638d", "#20a387", "#95d840", "#fde725"),
            *("#23272e", "#1f4e79", "#3a8bcf", "#d6ecff"),
        ),
    )
)
_LIGHT_AGAIN = {dark: light for light, dark in _DARK.items()}

# text, quieter text, axis, grid, and the tooltip's background
_LIGHT_PAGE = ("#222222", "#555555", "#8a8a8a", "#e4e4e4", "#ffffff")
_DARK_PAGE = ("#e6e6e6", "#b5b5b5", "#8a8a8a", "#3a3d42", "#2a2d33")

_AXES = ("xAxis", "yAxis", "parallelAxis")


def themed(option: Mapping[str, Any], dark: bool = False) -> Option:
    """A copy of a chart in the colours of a light or a dark page; the background stays transparent.

    The data are shared with the original, so that thousands of points cost nothing. A themed chart may be
    themed again.

    Args:
        option: what a function of this package gave.
        dark: whether the page is dark.
    """
    result: Option = _recoloured(option, _DARK if dark else _LIGHT_AGAIN)
    text, quiet, axis, grid, ground = _DARK_PAGE if dark else _LIGHT_PAGE
    result.update(
        darkMode=dark, backgroundColor="transparent", color=list(_DARK_PALETTE if dark else PALETTE)
    )
    result["textStyle"] = {**result.get("textStyle", {}), "color": text}
    for name in _AXES:
        for each in _listed(result, name):
            each["nameTextStyle"] = {**each.get("nameTextStyle", {}), "color": quiet}
            each["axisLabel"] = {**each.get("axisLabel", {}), "color": quiet}
            each["axisTick"] = {**each.get("axisTick", {}), "lineStyle": {"color": axis}}
            if name == "parallelAxis":  # whose labels stand among the lines
                each["axisLabel"].update(textBorderColor=ground, textBorderWidth=4)
            line = each.get("axisLine", {})
            each["axisLine"] = {**line, "lineStyle": {**line.get("lineStyle", {}), "color": axis}}
            each["splitLine"] = {**each.get("splitLine", {}), "lineStyle": {"color": grid}}
    for name, style in (
        ("title", {"textStyle": text, "subtextStyle": quiet}),
        ("legend", {"textStyle": text, "pageTextStyle": quiet}),
        ("visualMap", {"textStyle": quiet}),
    ):
        for each in _listed(result, name):
            for key, colour in style.items():
                each[key] = {**each.get(key, {}), "color": colour}
            if name == "legend":
                each.update(pageIconColor=text, pageIconInactiveColor=grid)
    for each in _listed(result, "tooltip"):
        each.update(backgroundColor=ground, borderColor=axis)
        each["textStyle"] = {**each.get("textStyle", {}), "color": text}
    return result


def _listed(option: Option, name: str) -> list[Option]:
    """The components of a kind, of which there may be none, one or several."""
    found = option.get(name, [])
    return found if isinstance(found, list) else [found]


def _recoloured(value: Any, colours: Mapping[str, str]) -> Any:
    """A copy with other colours; what is under `data` is neither copied nor looked at."""
    if isinstance(value, Mapping):
        return {key: each if key == "data" else _recoloured(each, colours) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_recoloured(each, colours) for each in value]
    return colours.get(value, value) if isinstance(value, str) else value
