"""Charts that compare trials: by what was chosen, by two metrics, and by what mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_nas.charts.axes import NOT_ACTIVE, Axis, parallel_numbers
from lightning_nas.charts.numbers import importance_numbers, pareto_numbers
from lightning_nas.charts.options import LARGE, NARROW_PX, chart, empty, grid, item, legend, value_axis
from lightning_nas.charts.text import directed, is_finite, number_text, plain, trial_text
from lightning_nas.charts.theme import PALETTE, SCORES, Option
from lightning_nas.space import Domain
from lightning_nas.trial import Mode, Objective, Trial

_ABREAST = {"layout": "horizontal", "left": 64, "right": 64, "top": 24, "bottom": 92}
_STACKED = {"layout": "vertical", "left": 124, "right": 40, "top": 16, "bottom": 72}
_ROOM_ABREAST = 185
"""Letters on a page of 1280 pixels."""

_NAME = 18


def parallel(
    trials: Sequence[Trial],
    labels: Sequence[str],
    metrics: Sequence[str],
    top: float = 1.0,
    space: Mapping[str, Domain] | None = None,
) -> Option:
    """The completed trials as lines over an axis for each label and metric, coloured by the first metric.

    An axis has texts for a choice, logarithms where the domain has them, and the ends of the domain. Where a label
    is not active in a trial, or a metric is missing, the line goes through a place of its own at the bottom of
    the axis, named "not active". On narrow pages, and where their names have no room side by side, the axes lie
    one beneath the other.

    Args:
        trials: in any order.
        labels: which of the samples' labels, from left to right.
        metrics: which metrics, to the right of them.
        top: the share of trials that is drawn, the best by score, in (0, 1].
        space: of the samples; without it domains are guessed from the values.

    Raises:
        ValueError: if `top` is out of range.
    """
    numbers = parallel_numbers(trials, labels, metrics, top, space)
    if not numbers.rows or not numbers.axes:
        return empty("No finished trial yet" if not numbers.rows else "No label or metric is chosen")
    among = len(numbers.rows)
    data = [
        {
            "value": [axis.place(value) for axis, value in zip(numbers.axes, values)],
            "name": trial_text(trial, among=among),
            "trial": trial.number,
        }
        for trial, values in numbers.rows
    ]
    parts: Option = {}
    if metrics:
        parts["visualMap"] = _score_map(
            metrics[0], [values[len(labels)] for _, values in numbers.rows], len(labels), numbers.direction
        )
    longest = max(len(plain(axis.name, _NAME)) for axis in numbers.axes)
    wide = _ABREAST if len(numbers.axes) * (longest + 1) <= _ROOM_ABREAST else _STACKED
    opacity = 0.7 if among <= 100 else 0.35 if among <= 1000 else 0.12
    return chart(
        f"{among} trials over {', '.join(axis.name for axis in numbers.axes[:8])}.",
        parallel=wide,
        parallelAxis=[_parallel_axis(i, axis) for i, axis in enumerate(numbers.axes)],
        series=[
            {
                "type": "parallel",
                "data": data,
                "lineStyle": {"width": 1.5 if among <= 1000 else 1, "opacity": opacity},
                "emphasis": {"lineStyle": {"width": 3, "opacity": 1}},
                "inactiveOpacity": 0.03,
                "progressive": 1000,
            }
        ],
        media=[
            {"query": {"maxWidth": NARROW_PX}, "option": {"parallel": _STACKED}},
            {"option": {"parallel": wide}},
        ],
        **parts,
    )


def _parallel_axis(dimension: int, axis: Axis) -> Option:
    # The first line of the name stands where the values of trials without one are: at the bottom of the axis.
    bottom = NOT_ACTIVE if axis.has_gap and axis.kind != "category" else " "
    common: Option = {
        "dim": dimension,
        "type": axis.kind,
        "name": f"{bottom}\n{plain(axis.name, _NAME)}",
        "nameLocation": "start",
        "nameGap": 6,
        "nameTextStyle": {"lineHeight": 15},
        "z": 5,
    }
    if axis.kind == "category":
        texts = [*([NOT_ACTIVE] if axis.has_gap else []), *axis.categories]
        return {
            **common,
            "data": texts,
            "axisLabel": {"width": 90, "overflow": "truncate", "hideOverlap": True},
        }
    ticks = axis.ticks()
    return {
        **common,
        "min": axis.bottom,
        "max": axis.high,
        "axisLabel": {"customValues": ticks, "hideOverlap": True},
        "axisTick": {"customValues": ticks},
    }


def _score_map(name: str, values: Sequence[Any], dimension: int, direction: Mode) -> Option:
    """Colours from the worst to the best; a twentieth of the worst shares one colour, so that the rest differ."""
    known = sorted(value for value in values if is_finite(value)) or [0.0, 1.0]
    cut = len(known) // 20
    low, high = (known[cut], known[-1]) if direction == "max" else (known[0], known[-1 - cut])
    if low == high:
        low, high = low - (abs(low) or 1) * 1e-3, high + (abs(high) or 1) * 1e-3
    colours = SCORES if direction == "max" else SCORES[::-1]
    return {
        "type": "continuous",
        "dimension": dimension,
        "min": low,
        "max": high,
        "inRange": {"color": list(colours)},
        "outOfRange": {"color": [SCORES[0]]},
        "orient": "horizontal",
        "left": "center",
        "bottom": 4,
        "itemWidth": 12,
        "itemHeight": 120,
        "text": [number_text(float(high)), f"{plain(name, 24)}  {number_text(float(low))}"],
    }


def pareto(trials: Sequence[Trial], x: Objective, y: Objective) -> Option:
    """The completed trials by two metrics; those that no other beats in both are joined by a line of steps.

    Args:
        trials: in any order.
        x, y: the metrics of the two axes, and which way is better in each.
    """
    numbers = pareto_numbers(trials, x, y)
    if not numbers.front:
        return empty("No finished trial has both metrics yet")
    among = len(numbers.front) + len(numbers.others)

    def points(found: Sequence[tuple[Trial, float, float]]) -> list[Option]:
        return [item(trial, [*at], among, {numbers.x: at[0], numbers.y: at[1]}) for trial, *at in found]

    names = [directed(name, d) for name, d in zip((numbers.x, numbers.y), numbers.directions)]
    front = {
        "type": "line",
        "name": "Pareto front",
        "step": numbers.step,
        "data": points(numbers.front),
        "symbol": "circle",
        "symbolSize": 9,
        "showSymbol": True,
        "showAllSymbol": True,
        "lineStyle": {"color": PALETTE[4], "width": 1.5},
        "itemStyle": {"color": PALETTE[4]},
        "z": 3,
    }
    others = {
        "type": "scatter",
        "name": "other trials",
        "data": points(numbers.others),
        "symbolSize": 7 if among <= 500 else 4,
        "itemStyle": {"color": PALETTE[0], "opacity": 0.6},
        "large": among >= LARGE,
        "largeThreshold": LARGE,
    }
    return chart(
        f"{numbers.x} against {numbers.y} of {among} trials; {len(numbers.front)} are on the Pareto front.",
        legend=legend(),
        grid=grid(),
        xAxis=value_axis(names[0]),
        yAxis=value_axis(names[1], nameGap=46),
        series=[*([others] if numbers.others else []), front],
    )


def importance(scores: Mapping[str, float]) -> Option:
    """How much each label matters, as bars; the most important one on top, at most 15 and the sum of the rest.

    Args:
        scores: share by label, as `importances` gives them.
    """
    ranked = importance_numbers(scores)
    if not ranked:
        return empty("Importance is not known yet")
    data = [
        {
            "value": round(100 * share, 2),
            "name": f"{plain(label)}: {100 * share:.1f} %",
            "label": {"formatter": f"{100 * share:.0f} %"},
            "searched": label,
        }
        for label, share in ranked
    ]
    return chart(
        "Importance: " + ", ".join(f"{label} {100 * share:.0f} %" for label, share in ranked[:5]),
        grid=grid(left=12, right=56, top=8, bottom=36),
        xAxis=value_axis("share of what makes trials good (%)", scale=False, min=0),
        yAxis={
            "type": "category",
            "inverse": True,
            "data": [plain(label, 32) for label, _ in ranked],
            "axisTick": {"show": False},
            "axisLabel": {"interval": 0, "width": 160, "overflow": "truncate"},
        },
        series=[
            {
                "type": "bar",
                "data": data,
                "barMaxWidth": 20,
                "itemStyle": {"color": PALETTE[0]},
                "label": {"show": True, "position": "right"},
            }
        ],
    )
