"""What one evaluation of one sample is, and how trials are compared."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Protocol

from lightning_nas.errors import MetricError
from lightning_nas.space import Sample as Sample

Metrics = dict[str, float]
"""`{name: value}`, all finite."""

Mode = Literal["max", "min"]

_LOWER_IS_BETTER = ("loss", "error", "err", "mse", "mae", "rmse", "perplexity", "latency", "params", "flops")


class Status(str, Enum):
    """Where a trial stands. COMPLETED, STOPPED and FAILED are final."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return self in (Status.COMPLETED, Status.STOPPED, Status.FAILED)


@dataclass(frozen=True, slots=True)
class Intermediate:
    """One report of a running trial.

    Args:
        step: counts from 0 (an epoch, unless the user says otherwise).
        metrics: what was reported.
        score: the objective in this report, turned so that higher is better; -inf where it is not finite,
            None where it is not reported (see `Objective.score_of_report`). It follows from the metrics, so
            reports are compared without it.
    """

    step: int
    metrics: Mapping[str, float]
    score: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Trial:
    """One evaluation of one sample: what was asked for and what came of it.

    Args:
        number: counts from 0 in the order in which samples were asked for.
        sample: the active labels and their values.
        status: see `Status`.
        metrics: the final metrics; empty until the trial is completed or stopped. A trial that a stopping
            rule paused has those of its last report, also once it goes on.
        score: the objective in `metrics` turned so that higher is better; None while unknown, and for good
            when the trial failed.
        intermediate: the reports so far, in the order they came.
        traceback: of the exception that ended a failed trial.
        reason: one line on why the trial failed, was stopped or paused.
        started, finished: Unix time in seconds, of the last attempt.
        artifacts: `{name: path}`, paths relative to the experiment's folder.
        budget: how many steps the trial may take before its stopping rule is asked about it; a trial that
            the rule paused has used it up. None: the rule is asked at each report.
    """

    number: int
    sample: Sample
    status: Status = Status.RUNNING
    metrics: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    intermediate: tuple[Intermediate, ...] = ()
    traceback: str | None = None
    reason: str | None = None
    started: float | None = None
    finished: float | None = None
    artifacts: Mapping[str, str] = field(default_factory=dict)
    budget: int | None = None

    @property
    def steps(self) -> int:
        """How many steps it has taken, by its last report; 0 before the first."""
        return self.intermediate[-1].step + 1 if self.intermediate else 0

    @property
    def is_held(self) -> bool:
        """Whether a stopping rule paused it: it goes on only if the rule says so."""
        return self.status is Status.PAUSED and self.budget is not None and self.steps >= self.budget

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None before the end."""
        if self.started is None or self.finished is None:
            return None
        return self.finished - self.started


class Report(Protocol):
    """How an evaluator reports progress: True says go on, False says stop now."""

    def __call__(self, step: int, metrics: Mapping[str, float]) -> bool: ...


@dataclass(frozen=True)
class Candidate:
    """What an evaluator is given: a sample, a way to build its model, and a folder to write to.

    Args:
        number: the trial's number.
        sample: the sample to evaluate.
        build: makes a fresh plain model of the sample. Raises `TypeError` in a search without a
            model (a plain hyper-parameter space).
        directory: the trial's own folder; it exists.
        resume_from: a checkpoint written by an earlier attempt of this trial, or None.
        may_pause: whether the trial may be told to stop only to go on later. An evaluator that can then
            leaves a checkpoint, named `checkpoint`, in `directory`; one that cannot begins anew.
        budget: after how many steps, earlier attempts included, the stopping rule looks at the trial again;
            None if it does so at each report. What Hyperband calls the budget of a configuration.
        steps: how many steps earlier attempts have reported.
        experiment: the name of the experiment, that of its folder.
    """

    number: int
    sample: Sample
    build: Callable[[], Any]
    directory: Path
    resume_from: Path | None = None
    may_pause: bool = False
    budget: int | None = None
    steps: int = 0
    experiment: str = ""


@dataclass(frozen=True)
class Objective:
    """Which metric counts, and which way is better.

    Args:
        metric: a name among the metrics the evaluator returns. None takes `default` if it is
            there, else the only metric.
        mode: "max" or "min"; None infers it from the metric's name: names with a part such as
            `loss`, `error` or `mse` are minimised, all others maximised.

    Raises:
        ValueError: if `mode` is neither of these.

    >>> Objective("val_loss").score({"val_loss": 0.5, "val_acc": 0.9})
    -0.5
    """

    metric: str | None = None
    mode: Mode | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("max", "min", None):
            raise ValueError(f"`mode` must be 'max' or 'min', but got {self.mode!r}.")

    def name_in(self, metrics: Mapping[str, float]) -> str:
        """The name of the metric that counts among `metrics`.

        Raises:
            MetricError: if it is not there; the message lists what is.
        """
        if self.metric is not None:
            if self.metric not in metrics:
                raise MetricError(
                    f"The objective {self.metric!r} is not among the metrics of this trial; it has "
                    f"{_names(metrics)}."
                )
            return self.metric
        if "default" in metrics:
            return "default"
        if len(metrics) != 1:
            raise MetricError(
                f"The trial has several metrics ({_names(metrics)}) or none; say which one counts with objective=."
            )
        return next(iter(metrics))

    def direction(self, name: str) -> Mode:
        """ "max" or "min" for the metric called `name`."""
        return self.mode or _inferred_mode(name)

    def score(self, metrics: Mapping[str, float]) -> float:
        """The objective's value in `metrics`, turned so that higher is better.

        Raises:
            MetricError: if the metric is missing or not finite.
        """
        name = self.name_in(metrics)
        value = float(metrics[name])
        if not math.isfinite(value):
            raise MetricError(f"The objective {name!r} must be finite, but is {value}.")
        return value if self.direction(name) == "max" else -value

    def score_of_report(self, metrics: Mapping[str, float]) -> float | None:
        """As `score`, but -inf, worse than all, for a value that is not finite, and None for one that is missing.

        >>> Objective("acc").score_of_report({"acc": float("nan")}), Objective("acc").score_of_report({})
        (-inf, None)
        """
        try:
            name = self.name_in(metrics)
        except MetricError:
            return None
        value = float(metrics[name])
        if not math.isfinite(value):
            return -math.inf
        return value if self.direction(name) == "max" else -value


def _names(metrics: Mapping[str, float]) -> str:
    return ", ".join(sorted(metrics)) or "nothing"


@functools.lru_cache(maxsize=1024)
def _inferred_mode(name: str) -> Mode:
    parts = name.lower().replace("/", "_").replace("-", "_").split("_")
    return "min" if any(part in _LOWER_IS_BETTER for part in parts) else "max"


def best(trials: Sequence[Trial], k: int = 1) -> list[Trial]:
    """The `k` completed trials with the highest score, best first; ties go to the earlier trial."""
    ranked = [t for t in trials if t.score is not None and t.status is Status.COMPLETED]
    return sorted(ranked, key=lambda t: (-t.score, t.number))[:k]  # type: ignore[operator]


def as_metrics(value: Any) -> Metrics:
    """Reads what a user returned or reported: a number becomes `{"default": number}`.

    Numbers of numpy and torch count as numbers. NaN and infinities are let through here, so that
    `Objective.score` can name the metric.

    Raises:
        MetricError: for anything but a number or a mapping of names to numbers.

    >>> as_metrics(0.5)
    {'default': 0.5}
    """
    items = value.items() if isinstance(value, Mapping) else [("default", value)]
    metrics: Metrics = {}
    for name, number in items:
        try:
            metrics[str(name)] = float(number)
        except (TypeError, ValueError, OverflowError):
            raise MetricError(
                f"A result must be a number or a dict of numbers, but {name!r} is of type "
                f"{type(number).__name__}."
            ) from None
    return metrics
