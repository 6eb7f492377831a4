"""Stopping what is worse than the middle of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_nas.stopping.rule import Decision, Watched
from lightning_nas.trial import Mode, Status, Trial


@dataclass(frozen=True)
class MedianStop:
    """Stops a trial whose best report so far is worse than the median of the others' averages so far.

    After its n-th report, the others are the completed trials with at least n reports, each with the mean of
    its first n. Of an even number of means the lower of the two in the middle counts, so that the rule
    stops less. Equal is not worse. As long as no other trial has completed, nothing is stopped.

    Args:
        start_step: no trial is stopped before it has made so many reports.
        metric: what is looked at; None for the objective.
        mode: "max" or "min" for `metric`; None infers it from its name.

    Raises:
        ValueError: if `start_step` is negative, or `mode` is wrong.

    Source: Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.1;
    in the form of NNI's `Medianstop`, whose median is the lower one of the values turned so that higher is
    better.
    """

    start_step: int = 0
    metric: str | None = None
    mode: Mode | None = None

    def __post_init__(self) -> None:
        Watched(self.metric, self.mode)
        if self.start_step < 0:
            raise ValueError(f"`start_step` must be at least 0, but got {self.start_step!r}.")

    def decide(self, trial: Trial, trials: Sequence[Trial]) -> Decision:
        """ "go" or "stop"; see `StoppingRule.decide`."""
        watched = Watched(self.metric, self.mode)
        watched.require(trial)
        own = watched.scores(trial)
        n = len(own)
        if n < self.start_step:
            return "go"
        others = (watched.scores(other) for other in trials if other.status is Status.COMPLETED)
        means = sorted(sum(scores[:n]) / n for scores in others if len(scores) >= n)
        if not means:
            return "go"
        return "stop" if max(own) < means[(len(means) - 1) // 2] else "go"
