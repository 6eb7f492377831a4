"""The numbers behind parallel coordinates: an axis for each label and metric, a place on each for a trial."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lightning_nas.charts.numbers import direction_of, needs_log
from lightning_nas.charts.text import is_finite, value_text
from lightning_nas.space import Categorical, Domain, value_key
from lightning_nas.trial import Mode, Status, Trial

NOT_ACTIVE = "not active"

_ROOM = 0.12
"""Below the low end, as a share of the axis, for the trials in which the label is not active."""

_TINY = 1e-300


@dataclass(frozen=True)
class Axis:
    """One axis.

    Args:
        name: the label or metric.
        kind: numbers, their logarithms, or texts.
        has_gap: whether some trial has no value here: it is placed at the bottom, apart from the values.
        low, high: the ends of the values of a "value" or "log" axis.
        categories: from the bottom; without `NOT_ACTIVE`.
    """

    name: str
    kind: Literal["value", "log", "category"]
    has_gap: bool
    low: float = 0.0
    high: float = 1.0
    categories: tuple[str, ...] = ()

    @property
    def bottom(self) -> float:
        """The lower end of what is drawn: `low`, or where the trials without a value are."""
        if not self.has_gap:
            return self.low
        if self.kind == "log":
            return float(self.low * (self.low / self.high) ** _ROOM)
        return self.low - (_ROOM * self.high - _ROOM * self.low)

    def place(self, value: Any) -> float | str:
        """Where a value is: a number, or a category; None is at the bottom."""
        if self.kind == "category":
            return NOT_ACTIVE if value is None else str(value)
        return self.bottom if value is None else float(value)

    def share(self, value: Any) -> float:
        """Where a value is between the ends of the axis, in [0, 1]."""
        place = self.place(value)
        if isinstance(place, str):
            texts = ((NOT_ACTIVE,) if self.has_gap else ()) + self.categories
            return (texts.index(place) + 0.5) / len(texts)
        bottom, high = self.bottom, self.high
        if self.kind == "log":
            place, bottom, high = math.log(place), math.log(bottom), math.log(high)
        return (place - bottom) / (high - bottom)

    def ticks(self) -> list[float]:
        """Round values between `low` and `high`, for an axis of numbers: powers of ten, or about five steps."""
        if self.kind == "log":
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            powers = [10.0**power for power in range(first, last + 1, max(1, (last - first) // 5))]
            return powers if len(powers) > 1 else [self.low, self.high]
        raw = (self.high - self.low) / 5
        if raw < _TINY:
            return [self.low, self.high]
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= raw * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


@dataclass(frozen=True)
class ParallelNumbers:
    """Axes, and the trials that are drawn on them.

    Args:
        axes: one for each label, then one for each metric.
        rows: (trial, one number or category for each axis), the worst trial first, so that the best is drawn last;
            None where a trial has no value.
        direction: of the first metric, which gives the colours.
    """

    axes: tuple[Axis, ...]
    rows: tuple[tuple[Trial, tuple[Any, ...]], ...]
    direction: Mode


def parallel_numbers(
    trials: Sequence[Trial],
    labels: Sequence[str],
    metrics: Sequence[str],
    top: float = 1.0,
    space: Mapping[str, Domain] | None = None,
) -> ParallelNumbers:
    """The completed trials on axes; see `charts.parallel` for the arguments.

    Raises:
        ValueError: unless `0 < top <= 1`.
    """
    if not 0 < top <= 1:
        raise ValueError(f"`0 < top <= 1` must hold, but got {top=}.")
    completed = [t for t in trials if t.status is Status.COMPLETED and t.score is not None]
    ranked = sorted(completed, key=lambda trial: (-(trial.score or 0.0), trial.number))
    kept = ranked[: math.ceil(top * len(ranked) - 1e-9)][::-1]
    directions = [direction_of(trials, metric) for metric in metrics]
    columns = [[_value(trial, label) for trial in kept] for label in labels]
    axes = []
    for i, label in enumerate(labels):
        domain = None if space is None else space.get(label)
        if isinstance(domain, Categorical) or not all(
            value is None or is_finite(value) for value in columns[i]
        ):
            texts = _texts(columns[i], domain)
            columns[i] = [None if value is None else texts[value_key(value)] for value in columns[i]]
            axes.append(Axis(label, "category", None in columns[i], categories=tuple(texts.values())))
        else:
            axes.append(_number_axis(label, columns[i], bool(getattr(domain, "log", False)), domain))
    for metric, direction in zip(metrics, directions):
        values = [trial.metrics.get(metric) for trial in kept]
        column = [value if is_finite(value) else None for value in values]
        columns.append(column)
        known = [value for value in column if value is not None]
        axes.append(_number_axis(metric, column, needs_log(known, direction)))
    rows = tuple(zip(kept, zip(*columns))) if columns else ()
    return ParallelNumbers(tuple(axes), rows, directions[0] if directions else "max")


def _texts(column: Sequence[Any], domain: Domain | None) -> dict[Hashable, str]:
    """A text for each value, by its key, in the order of the domain or else of the values; no two are the same."""
    known = sorted((value for value in column if value is not None), key=_order)
    listed = [_shown(value) for value in domain.values] if isinstance(domain, Categorical) else []
    texts: dict[Hashable, str] = {}
    for value in [*listed, *known]:
        text = value_text(value)
        if value_key(value) not in texts and text in texts.values():
            text = f"{text} ({len(texts) + 1})"
        texts.setdefault(value_key(value), text)
    return texts


def _number_axis(name: str, column: Sequence[Any], log: bool, domain: Domain | None = None) -> Axis:
    known = [float(value) for value in column if value is not None]
    ends = [
        float(end) for end in (getattr(domain, "low", None), getattr(domain, "high", None)) if end is not None
    ]
    low, high = min(known + ends, default=0.0), max(known + ends, default=1.0)
    log = log and low > 0
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)
    return Axis(name, "log" if log else "value", len(known) < len(column), low, high)


def _value(trial: Trial, label: str) -> Any:
    """The value of a label; None where it is not active. A choice may be None too, which is a text here."""
    if label not in trial.sample:
        return None
    return _shown(trial.sample[label])


def _shown(value: Any) -> Any:
    return "None" if value is None else value


def _order(value: Any) -> tuple[bool, Any]:
    return (False, value) if is_finite(value) else (True, value_text(value))
