"""`StoppingRule`: what every stopping rule is, and what it reads from reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from lightning_nas.errors import MetricError
from lightning_nas.trial import Intermediate, Mode, Objective, Trial

Decision = Literal["go", "pause", "stop"]


class StoppingRule(Protocol):
    """A function of the history that says, at each report, whether a trial goes on.

    It holds settings, never progress: what it answers depends on its arguments alone. So a search that
    was interrupted goes on as if it had not been. `lightning_nas.testing.stopping` is its test suite.
    """

    def decide(self, trial: Trial, trials: Sequence[Trial]) -> Decision:
        """Whether `trial`, whose last report is new, goes on, is paused or is stopped for good.

        Only a `PausingRule` may say "pause".

        Args:
            trial: the one that reported; it is also among `trials`.
            trials: all so far in the order of their numbers. Each report has a `score`.

        Raises:
            MetricError: if the report does not have the metric; the trial has then failed.
        """
        ...


@runtime_checkable
class PausingRule(StoppingRule, Protocol):
    """A stopping rule that may also pause a trial, and later let it go on.

    A paused trial keeps its number, sample, reports and checkpoint. One that the rule never names again
    stays paused to the end of the search, and is there when a longer one goes on.
    """

    def resume(self, trials: Sequence[Trial]) -> int | None:
        """The number of a paused trial (`is_held`) that is to go on, None if there is none.

        Asked before the strategy is asked for a new sample, and also when no new one may be tried.
        """
        ...

    def budget(self, trial: Trial, trials: Sequence[Trial]) -> int | None:
        """After how many steps, those already taken included, `trial` is to be decided about.

        Asked when a trial begins or goes on. None: at each report.
        """
        ...


@dataclass(frozen=True)
class Watched:
    """The metric that a rule looks at.

    Args:
        metric: its name; None for the objective.
        mode: "max" or "min"; None infers it from the name (see `Objective`). The objective has its own.

    Raises:
        ValueError: if `mode` is neither, or is given without `metric`.
    """

    metric: str | None
    mode: Mode | None

    def __post_init__(self) -> None:
        Objective(self.metric, self.mode)
        if self.metric is None and self.mode is not None:
            raise ValueError(
                f"`mode` belongs to `metric`, but got mode={self.mode!r} alone; the objective has its own."
            )

    def score(self, report: Intermediate) -> float | None:
        """The metric turned so that higher is better; -inf where it is not finite, None where it is missing."""
        if self.metric is None:
            return report.score
        return Objective(self.metric, self.mode).score_of_report(report.metrics)

    def scores(self, trial: Trial) -> list[float]:
        """The scores of all reports of `trial` that have one, in their order."""
        scores = map(self.score, trial.intermediate)
        return [score for score in scores if score is not None]

    def require(self, trial: Trial) -> None:
        """Raises unless the last report of `trial` has the metric.

        Raises:
            MetricError: says what the report has.
        """
        report = trial.intermediate[-1]
        if self.score(report) is None:
            name = "the objective" if self.metric is None else repr(self.metric)
            have = ", ".join(sorted(report.metrics)) or "nothing"
            raise MetricError(
                f"The stopping rule needs {name} in each report, but the one of step {report.step} has {have}; report "
                "it, or give the rule another metric=."
            )
