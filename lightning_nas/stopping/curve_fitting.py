"""Stopping what is not going to be good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_nas.stopping.curves import extrapolated
from lightning_nas.stopping.rule import Decision, Watched
from lightning_nas.trial import Mode, Status, Trial

_FEWEST = 4  # reports: with fewer every curve fits


@dataclass(frozen=True)
class CurveFitting:
    """Stops a trial whose learning curve, continued to its end, does not come near the best so far.

    The curve is continued by several parametric ones, weighted by how well they fit (see `curves`). The
    best so far is the best last report among the completed trials; as long as there is none, nothing is
    stopped, nor is a trial with a report that is not finite: leave that to another rule.

    Args:
        max_steps: with how many reports a trial ends, such as the Trainer's `max_epochs`. NNI's `epoch_num`.
            None: an `Experiment` asks the evaluator.
        start_step: no trial is judged before it has made so many reports.
        threshold: a trial is stopped unless it is predicted to end above `threshold` times the best, in
            (0, 1]. For a metric that is minimised, or negative: above the best less `1 - threshold` of its
            absolute value.
        gap: one report in so many is judged.
        metric: what is looked at; None for the objective.
        mode: "max" or "min" for `metric`; None infers it from its name.

    Raises:
        ValueError: unless `start_step >= 4`, `max_steps >= 1`, `gap >= 1` and `0 < threshold <= 1`, or if
            `mode` is wrong.

    Source: Domhan et al., "Speeding up Automatic Hyperparameter Optimization of Deep Neural Networks by
    Extrapolation of Learning Curves", IJCAI 2015; in the form of NNI's `Curvefitting`, which compares a single
    prediction with a threshold instead of a probability.
    """

    max_steps: int | None = None
    start_step: int = 6
    threshold: float = 0.95
    gap: int = 1
    metric: str | None = None
    mode: Mode | None = None

    def __post_init__(self) -> None:
        Watched(self.metric, self.mode)
        least = {"max_steps": 1, "start_step": _FEWEST, "gap": 1}
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ValueError(f"`{name}` must be at least {minimum}, but got {value!r}.")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"`threshold` must be in (0, 1], but got {self.threshold!r}.")

    def decide(self, trial: Trial, trials: Sequence[Trial]) -> Decision:
        """ "go" or "stop"; see `StoppingRule.decide`.

        Raises:
            ValueError: if `max_steps` is None.
        """
        if self.max_steps is None:
            raise ValueError("`max_steps` of CurveFitting must be given: it is the step that is predicted.")
        watched = Watched(self.metric, self.mode)
        watched.require(trial)
        curve = watched.scores(trial)
        n = len(curve)
        if n < self.start_step or (n - self.start_step) % self.gap or n >= self.max_steps:
            return "go"
        completed = (watched.scores(other) for other in trials if other.status is Status.COMPLETED)
        best = max((scores[-1] for scores in completed if scores), default=None)
        prediction = None if best is None else extrapolated(curve, self.max_steps)
        if best is None or prediction is None:
            return "go"
        return "go" if prediction > best - (1 - self.threshold) * abs(best) else "stop"
