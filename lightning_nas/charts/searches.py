"""Charts of a whole search: how it went, and what its trials did meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning_nas.charts.numbers import (
    curve_colours,
    curve_numbers,
    direction_of,
    duration_numbers,
    history_numbers,
    needs_log,
)
from lightning_nas.charts.options import (
    chart,
    empty,
    grid,
    item,
    legend,
    number_axis,
    points_by_status,
    value_axis,
)
from lightning_nas.charts.text import directed, duration_text, number_text, plain, time_unit, trial_text
from lightning_nas.charts.theme import FAINT, LINE, STATUS_COLOURS, Option
from lightning_nas.trial import Objective, Status, Trial

_DASH = "path://M0 4h14v2H0z"


def history(trials: Sequence[Trial], objective: Objective) -> Option:
    """The best so far as a line of steps, beside every trial as a point.

    Only completed trials compete for the best. A failed trial has no value: it stands at the bottom edge. A
    running or paused one has the value of its last report; values that are not finite are left out. A loss that
    spans a factor above 1,000 gets a logarithmic axis.

    Args:
        trials: in any order.
        objective: which metric counts.
    """
    numbers = history_numbers(trials, objective)
    if not numbers.points and not numbers.failed:
        return empty("No finished trial yet")
    among = len(trials)
    metric = numbers.metric or ""
    points = [
        (trial, item(trial, [trial.number, value], among, {metric: value})) for trial, value in numbers.points
    ]
    failed = [(trial, item(trial, [trial.number, 0], among)) for trial in numbers.failed]
    best = {
        "type": "line",
        "name": "best so far",
        "step": "end",
        "data": _steps(numbers.best),
        "symbol": "none",
        "lineStyle": {"color": LINE, "width": 2},
        "itemStyle": {"color": LINE},
        "silent": True,
        "z": 3,
    }
    by_status = points_by_status(points)
    by_status += points_by_status(failed, yAxisIndex=1, clip=False, symbolSize=10 if len(failed) < 500 else 6)
    legend_data: list[Option] = [{"name": each["name"]} for each in by_status]
    if numbers.best:
        legend_data.insert(0, {"name": "best so far", "icon": _DASH})
    kind = "log" if needs_log([value for _, value in numbers.points], numbers.direction) else "value"
    return chart(
        f"{metric or 'No value'} of {among} trials"
        + (f"; the best is {number_text(numbers.best[-1][1])}." if numbers.best else "."),
        legend=legend(data=legend_data),
        grid=grid(),
        xAxis=number_axis(),
        # Failed trials are at 0 of an axis of their own, which is the bottom edge whatever the values are.
        yAxis=[
            value_axis(directed(metric, numbers.direction) if metric else "", type=kind, nameGap=46),
            {"type": "value", "min": 0, "max": 1, "show": False},
        ],
        dataZoom=[{"type": "inside", "zoomOnMouseWheel": "ctrl", "moveOnMouseWheel": False}],
        series=[*([best] if numbers.best else []), *by_status],
    )


def curves(trials: Sequence[Trial], metric: str) -> Option:
    """What each trial reported of a metric over its steps: one line for each, named `trial 7`.

    The best eight have colours, the others are faint; a value that was not finite is a gap. Of more than 500
    reports of a trial, or 50,000 in all, every k-th is drawn. A browser takes a second for 500 trials; choose among
    more.

    Args:
        trials: those to compare.
        metric: a name among what they report.
    """
    found = curve_numbers(trials, metric)
    if not found:
        return empty(f"No trial has reported {plain(metric)} yet" if trials else "No trial is chosen")
    drawn = sorted(found, key=lambda curve: -curve.rank)
    finite = [value for curve in found for value in curve.values if value is not None]
    direction = direction_of(trials, metric)
    few = sum(len(curve.steps) for curve in found) <= 2000
    colours = curve_colours(found)
    series = [
        {
            "type": "line",
            "name": f"trial {curve.trial.number}",
            "data": [
                {"value": [step, value], "name": _report_text(curve.trial, metric, step, value), "trial": n}
                if few
                else [step, value]
                for step, value in zip(curve.steps, curve.values)
            ],
            "symbol": "circle",
            "symbolSize": 5,
            "showSymbol": few or len(curve.steps) == 1,
            "lineStyle": {
                "color": colours.get(n, FAINT),
                "width": 2 if n in colours else 1,
                "opacity": 1 if n in colours or few else 0.45,
            },
            "itemStyle": {"color": colours.get(n, FAINT)},
            "endLabel": {"show": False, "formatter": "{a}", "color": LINE},
            "emphasis": {"lineStyle": {"width": 3, "opacity": 1}, "endLabel": {"show": not few}},
            "triggerLineEvent": True,
            "z": 3 if n in colours else 2,
        }
        for curve in drawn
        for n in [curve.trial.number]
    ]
    named = [f"trial {curve.trial.number}" for curve in drawn[::-1] if curve.trial.number in colours]
    return chart(
        f"{metric} of {len(found)} trials over their steps.",
        legend=legend(data=named),
        grid=grid(),
        xAxis=value_axis("step", minInterval=1, splitLine={"show": False}),
        yAxis=value_axis(metric, nameGap=46, type="log" if needs_log(finite, direction) else "value"),
        series=series,
    )


def durations(trials: Sequence[Trial]) -> Option:
    """How long each trial's last attempt took, coloured by status, with the median of the completed ones."""
    numbers = duration_numbers(trials)
    if not numbers.seconds:
        return empty("No trial has ended yet")
    size, unit = time_unit(max(seconds for _, seconds in numbers.seconds))
    points = []
    for trial, seconds in numbers.seconds:
        text = trial_text(trial, {}, len(trials)).replace("\n", f"\n{duration_text(seconds)}\n", 1)
        points.append((trial, {"value": [trial.number, seconds / size], "name": text, "trial": trial.number}))
    series: list[Option] = points_by_status(points)
    if numbers.median is not None:
        series[0]["markLine"] = {
            "silent": True,
            "symbol": "none",
            "lineStyle": {"color": LINE, "type": "dashed"},
            "label": {
                "formatter": f"median {duration_text(numbers.median)}",
                "position": "insideEndTop",
                "color": LINE,
            },
            "data": [{"yAxis": numbers.median / size}],
        }
    return chart(
        f"Durations of {len(points)} trials.",
        legend=legend(),
        grid=grid(),
        xAxis=number_axis(),
        yAxis=value_axis(f"duration ({unit})", nameGap=46, min=0),
        series=series,
    )


def statuses(counts: Mapping[Status, int]) -> Option:
    """How many trials have each status: a bar for each status that some have.

    Args:
        counts: as `Store.counts` gives them; a key may also be the text of a status.
    """
    known = {Status(status): count for status, count in counts.items()}
    shown = [(status, known[status]) for status in Status if known.get(status)]
    if not shown:
        return empty("No trial yet")
    names = [status.value for status, _ in shown]
    return chart(
        "Trials by status: " + ", ".join(f"{count} {status.value}" for status, count in shown),
        grid=grid(left=12, right=48, top=8, bottom=8),
        xAxis={"type": "value", "show": False},
        yAxis={
            "type": "category",
            "inverse": True,
            "data": names,
            "axisTick": {"show": False},
            "axisLine": {"show": False},
        },
        # A series for each, so that each has its colour on light and dark pages.
        series=[
            {
                "type": "bar",
                "name": status.value,
                "data": [{"value": [count, status.value], "name": f"{status.value}: {count}"}],
                "barMaxWidth": 22,
                "barGap": "-100%",
                "itemStyle": {"color": STATUS_COLOURS[status]},
                "label": {"show": True, "position": "right", "formatter": str(count)},
            }
            for status, count in shown
        ],
    )


def _steps(best: Sequence[tuple[int, float]]) -> list[list[float]]:
    # ECharts leaves out a step of less than a pixel and would draw a slope to the next one: so each step is
    # followed by a point.
    points: dict[int, float] = {}
    for i, (number, value) in enumerate(best):
        points[number] = value
        if i + 1 < len(best):
            points.setdefault(number + 1, value)
    return [[number, value] for number, value in points.items()]


def _report_text(trial: Trial, metric: str, step: int, value: float | None) -> str:
    shown = "not finite" if value is None else number_text(value)
    return f"trial {trial.number}\nstep {step}\n{plain(metric)}: {shown}"
