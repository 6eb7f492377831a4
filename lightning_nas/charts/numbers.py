"""The numbers behind the charts of trials, which a page and its twin in matplotlib draw alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from lightning_nas.charts.text import is_finite
from lightning_nas.charts.theme import PALETTE
from lightning_nas.errors import MetricError
from lightning_nas.trial import Mode, Objective, Status, Trial

_POINTS_PER_CURVE = 500
_POINTS_IN_ALL = 50_000


@dataclass(frozen=True)
class HistoryNumbers:
    """A search so far.

    Args:
        metric: the objective's name; None while no trial has it.
        direction: which way is better.
        points: the trials that have a finite value, and the value: the final one, or that of the last report.
        failed: those that failed.
        best: (number, value) wherever the best of the completed trials changes, and at the last trial.
    """

    metric: str | None
    direction: Mode
    points: tuple[tuple[Trial, float], ...]
    failed: tuple[Trial, ...]
    best: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Curve:
    """What one trial reported of a metric; None in `values` where it was not finite.

    Args:
        trial: the trial.
        steps, values: of equal length.
        rank: 0 for the best of the curves; by score, and without one by the last value.
    """

    trial: Trial
    steps: tuple[int, ...]
    values: tuple[float | None, ...]
    rank: int = 0


@dataclass(frozen=True)
class DurationNumbers:
    """How long trials took, in seconds.

    Args:
        seconds: by trial, for those that have ended or were paused.
        median: of the completed ones; None if there is none.
    """

    seconds: tuple[tuple[Trial, float], ...]
    median: float | None


@dataclass(frozen=True)
class ParetoNumbers:
    """Two metrics of the completed trials.

    Args:
        x, y: their names.
        directions: of both, which way is better.
        front: (trial, x, y) of those that no other beats in both, by x; equal ones are all there.
        others: the rest, likewise, by number.
    """

    x: str
    y: str
    directions: tuple[Mode, Mode]
    front: tuple[tuple[Trial, float, float], ...]
    others: tuple[tuple[Trial, float, float], ...]

    @property
    def step(self) -> str:
        """Where the line along the front turns between two points: at the "start", the first, or at the "end"."""
        return "end" if self.directions[0] == "min" else "start"


def known_metrics(trial: Trial) -> Mapping[str, float]:
    """The metrics of a trial: the final ones, or those of its last report."""
    return trial.metrics or (trial.intermediate[-1].metrics if trial.intermediate else {})


def metric_in(trial: Trial, objective: Objective) -> str | None:
    """The name of the objective among the metrics of a trial; None if it is not there."""
    try:
        return objective.name_in(known_metrics(trial))
    except MetricError:
        return None


def value_of(trial: Trial, objective: Objective) -> float | None:
    """The objective as a trial has it; None if it is not there or not finite."""
    name = metric_in(trial, objective)
    value = None if name is None else known_metrics(trial)[name]
    return float(value) if value is not None and is_finite(value) else None


def direction_of(trials: Sequence[Trial], metric: str) -> Mode:
    """Which way is better for a metric: what the trials' scores say, else what its name does."""
    for trial in trials:
        value = trial.metrics.get(metric)
        if trial.score is not None and value and abs(trial.score) == abs(value):
            return "max" if trial.score == value else "min"
    return Objective().direction(metric)


def history_numbers(trials: Sequence[Trial], objective: Objective) -> HistoryNumbers:
    """Best so far, beside every trial."""
    named = (metric_in(trial, objective) for trial in trials)
    metric = objective.metric or next((name for name in named if name is not None), None)
    direction = objective.direction(metric or "")
    points: list[tuple[Trial, float]] = []
    best: list[tuple[int, float]] = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        value = value_of(trial, objective)
        if value is None or trial.status is Status.FAILED:
            continue
        points.append((trial, value))
        is_better = not best or (value > best[-1][1] if direction == "max" else value < best[-1][1])
        if trial.status is Status.COMPLETED and is_better:
            best.append((trial.number, value))
    last = max((trial.number for trial in trials), default=0)
    if best and best[-1][0] != last:
        best.append((last, best[-1][1]))
    failed = tuple(trial for trial in trials if trial.status is Status.FAILED)
    return HistoryNumbers(metric, direction, tuple(points), failed, tuple(best))


def curve_numbers(trials: Sequence[Trial], metric: str) -> list[Curve]:
    """What each trial reported of `metric`, by number; none for trials that never did.

    Where there are more than 500 reports of a trial, or 50,000 in all, every k-th is taken, and the last.
    """
    curves = []
    for trial in trials:
        known = [each for each in trial.intermediate if metric in each.metrics]
        if known:
            values = (each.metrics[metric] for each in known)
            finite = tuple(float(value) if is_finite(value) else None for value in values)
            curves.append(Curve(trial, tuple(each.step for each in known), finite))
    room = max(2, min(_POINTS_PER_CURVE, _POINTS_IN_ALL // max(len(curves), 1)))
    sign = 1.0 if direction_of(trials, metric) == "max" else -1.0

    def merit(curve: Curve) -> float:
        if curve.trial.score is not None:
            return curve.trial.score
        return max((sign * v for v in curve.values[-1:] if v is not None), default=-math.inf)

    ranked = sorted(curves, key=lambda curve: (-merit(curve), curve.trial.number))
    ranks = {curve.trial.number: rank for rank, curve in enumerate(ranked)}
    return [
        replace(_thinned(curve, room), rank=ranks[curve.trial.number])
        for curve in sorted(curves, key=lambda curve: curve.trial.number)
    ]


def curve_colours(curves: Sequence[Curve]) -> dict[int, str]:
    """A colour by trial number for the best eight of the curves; the others are faint.

    They are dealt out by number, so that no curve changes its colour when a running trial becomes the best.
    """
    chosen = sorted(curve.trial.number for curve in curves if curve.rank < len(PALETTE))
    return dict(zip(chosen, PALETTE))


def _thinned(curve: Curve, room: int) -> Curve:
    stride = math.ceil(len(curve.steps) / room)
    if stride == 1:
        return curve
    kept = sorted({*range(0, len(curve.steps), stride), len(curve.steps) - 1})
    return replace(
        curve, steps=tuple(curve.steps[i] for i in kept), values=tuple(curve.values[i] for i in kept)
    )


def duration_numbers(trials: Sequence[Trial]) -> DurationNumbers:
    """How long each trial took: its last attempt."""
    found = tuple((t, s) for t in trials if (s := t.duration_s) is not None and is_finite(s) and s >= 0)
    completed = [s for t, s in found if t.status is Status.COMPLETED]
    return DurationNumbers(found, median(completed) if completed else None)


def pareto_numbers(trials: Sequence[Trial], x: Objective, y: Objective) -> ParetoNumbers:
    """Two metrics of the completed trials, and which of these no other beats.

    A trial is beaten by one that is at least as good in both and better in one.
    """
    found = []
    for trial in trials:
        if trial.status is Status.COMPLETED:
            values = value_of(trial, x), value_of(trial, y)
            if values[0] is not None and values[1] is not None:
                found.append((trial, values[0], values[1]))
    names = [
        each.metric or next((n for trial in trials if (n := metric_in(trial, each)) is not None), "")
        for each in (x, y)
    ]
    directions = x.direction(names[0]), y.direction(names[1])
    x_sign, y_sign = (1.0 if direction == "max" else -1.0 for direction in directions)
    front: list[tuple[Trial, float, float]] = []
    best_y = -math.inf
    # From the best x on, a point is on the front if its y is better than that of all before it.
    for trial, x_value, y_value in sorted(found, key=lambda p: (-x_sign * p[1], -y_sign * p[2], p[0].number)):
        is_equal = bool(front) and front[-1][1:] == (x_value, y_value)
        if y_sign * y_value > best_y or is_equal:
            front.append((trial, x_value, y_value))
            best_y = y_sign * y_value
    on_front = {trial.number for trial, _, _ in front}
    others = [point for point in found if point[0].number not in on_front]
    front.sort(key=lambda point: (point[1], point[0].number))
    return ParetoNumbers(names[0], names[1], directions, tuple(front), tuple(others))


def importance_numbers(scores: Mapping[str, float], most: int = 15) -> list[tuple[str, float]]:
    """Labels and shares, the largest first; of more than `most`, the rest as one sum, which comes last."""
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    rest = ranked[most:]
    return ranked[:most] + ([(f"{len(rest)} others", sum(share for _, share in rest))] if rest else [])


def needs_log(values: Sequence[float], direction: Mode) -> bool:
    """Whether values are told apart only on a logarithmic axis: a loss that spans a factor above 1,000."""
    return direction == "min" and bool(values) and min(values) > 0 and max(values) > 1000 * min(values)
