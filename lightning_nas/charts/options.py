"""What the charts share: margins, axes, tooltips, and the chart that says that there is nothing yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightning_nas.charts.text import plain, trial_text
from lightning_nas.charts.theme import STATUS_COLOURS, STATUS_SHAPES, Option, themed
from lightning_nas.trial import Status, Trial

LARGE = 2000
"""From so many points on, ECharts draws a series as one shape: 10,000 then take a tenth of a second."""

NARROW_PX = 600
"""Below this width a chart takes its narrow form."""


def chart(description: str, **parts: Any) -> Option:
    """An option with what every chart has.

    Nothing is animated, since pages draw again whenever a value arrives. A tooltip is the name of what is under
    the pointer, put in by ECharts' template, which escapes it: labels and values are other people's text.

    Args:
        description: what the chart shows, for screen readers.
        parts: the components of ECharts.
    """
    option: Option = {
        "animation": False,
        "aria": {"enabled": True, "label": {"description": plain(description, 300)}},
        "tooltip": {
            "trigger": "item",
            "confine": True,
            "formatter": "{b}",
            "extraCssText": "white-space: pre-wrap; overflow-wrap: anywhere; max-width: 360px",
        },
        **parts,
    }
    return themed(option)


def empty(text: str) -> Option:
    """A chart that says why there is nothing to see."""
    title = {
        "text": text,
        "left": "center",
        "top": "middle",
        "textStyle": {"fontSize": 14, "fontWeight": "normal"},
    }
    return chart(text, title=title, series=[])


def grid(**changes: Any) -> Option:
    """Margins that leave room for the legend above and the names of the axes."""
    bounds = {"left": 12, "right": 12, "top": 4, "bottom": 4}
    return {"left": 64, "right": 24, "top": 40, "bottom": 48, "outerBounds": bounds, **changes}


def value_axis(name: str, **changes: Any) -> Option:
    """An axis of numbers with its name along it; it need not begin at 0."""
    return {
        "type": "value",
        "name": plain(name),
        "nameLocation": "middle",
        "nameGap": 28,
        "scale": True,
        "axisLabel": {"hideOverlap": True},
        "axisLine": {"onZero": False},
        **changes,
    }


def number_axis(**changes: Any) -> Option:
    """The axis of trials' numbers."""
    return value_axis("trial", minInterval=1, splitLine={"show": False}, **changes)


def legend(**changes: Any) -> Option:
    """A legend above the chart, which scrolls where it is too long."""
    return {"type": "scroll", "top": 4, "left": 12, "right": 12, "itemWidth": 14, "itemHeight": 10, **changes}


def item(trial: Trial, value: list[Any], among: int, metrics: Mapping[str, float] | None = None) -> Option:
    """A point that knows its trial: `trial` is its number, `name` the text of its tooltip."""
    return {"value": value, "name": trial_text(trial, metrics, among), "trial": trial.number}


def points_by_status(points: Iterable[tuple[Trial, Option]], **changes: Any) -> list[Option]:
    """A series of points for each status that some trial has, in its colour and shape."""
    by_status: dict[Status, list[Option]] = {}
    for trial, point in points:
        by_status.setdefault(trial.status, []).append(point)
    return [
        {
            "type": "scatter",
            "name": status.value,
            "data": by_status[status],
            "symbol": STATUS_SHAPES[status].replace("ring", "circle"),
            "symbolSize": 8 if len(by_status[status]) < 500 else 5,
            "itemStyle": _style(status),
            "large": len(by_status[status]) >= LARGE,
            "largeThreshold": LARGE,
            **changes,
        }
        for status in Status
        if status in by_status
    ]


def _style(status: Status) -> Option:
    colour = STATUS_COLOURS[status]
    if STATUS_SHAPES[status] == "ring":
        return {"color": "transparent", "borderColor": colour, "borderWidth": 2}
    return {"color": colour, "opacity": 0.85}
