"""Successive halving without waiting."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from lightning_nas.stopping.rule import Decision, Watched
from lightning_nas.stopping.rungs import check_rungs, rung_of
from lightning_nas.trial import Mode, Trial


@dataclass(frozen=True)
class ASHA:
    """Asynchronous successive halving: the best of those that came as far go further.

    Rungs lie at `min_steps`, `min_steps * reduction`, `min_steps * reduction**2`, ... steps, all below
    `max_steps`. A trial that reaches a rung goes on if it is in the best `1 / reduction` of all that have
    reached it so far, rounded down; else it is paused there. It goes on later, from its checkpoint, when
    enough others have come to the rung and it is among the best by then. Nobody waits for anybody. A
    trial whose metric is not finite at a rung never goes on.

    With the defaults two thirds of the trials end after 1 step, and 27 trials are needed for one that
    takes more than 9 (`trials_needed`).

    Args:
        max_steps: how many steps a trial takes that is never stopped, such as the Trainer's `max_epochs`.
            None: an `Experiment` asks the evaluator.
        min_steps: where the first rung lies. A step is one report, by default an epoch.
        reduction: one in so many goes on. The paper's eta, there 4.
        metric: what is looked at; None for the objective.
        mode: "max" or "min" for `metric`; None infers it from its name.

    Raises:
        ValueError: unless `1 <= min_steps <= max_steps` and `reduction >= 2`, or if `mode` is wrong.

    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020
    (arXiv:1810.05934), Algorithm 2. Unlike the paper, a trial that is promotable when it reaches its rung goes
    on at once, even while another waits in a higher rung; so it need not be stopped and started.
    """

    max_steps: int | None = None
    min_steps: int = 1
    reduction: int = 3
    metric: str | None = None
    mode: Mode | None = None

    def __post_init__(self) -> None:
        Watched(self.metric, self.mode)
        check_rungs(self.max_steps, self.reduction)
        if not 1 <= self.min_steps <= (self.max_steps or math.inf):
            raise ValueError(
                "`1 <= min_steps <= max_steps` must hold, but got "
                f"(min_steps={self.min_steps!r}, max_steps={self.max_steps!r})."
            )

    @property
    def rungs(self) -> tuple[int, ...]:
        """After how many steps a trial may be paused, in order.

        Raises:
            ValueError: if `max_steps` is None: there is no end of them.

        >>> ASHA(max_steps=81).rungs
        (1, 3, 9, 27)
        """
        if self.max_steps is None:
            raise ValueError("Without `max_steps` there is no last rung.")
        return tuple(self._rungs_below(self.max_steps))

    @property
    def trials_needed(self) -> int:
        """With how many trials one is sure to run to its end.

        >>> ASHA(max_steps=81).trials_needed
        81
        """
        return int(self.reduction ** len(self.rungs))

    def decide(self, trial: Trial, trials: Sequence[Trial]) -> Decision:
        """ "go" or "pause"; see `StoppingRule.decide`."""
        watched = Watched(self.metric, self.mode)
        watched.require(trial)
        before = trial.intermediate[-2].step + 1 if len(trial.intermediate) > 1 else 0
        reached = [steps for steps in self._rungs_below(trial.steps + 1) if steps > before]
        if not reached:
            return "go"
        return "go" if trial.number in self._promoted(reached[-1], trials, watched) else "pause"

    def resume(self, trials: Sequence[Trial]) -> int | None:
        """The best promotable trial of the highest rung that has one; see `PausingRule.resume`."""
        held = {trial.number: trial for trial in trials if trial.is_held}
        furthest = max((trial.steps for trial in held.values()), default=0)
        rungs = list(self._rungs_below(furthest + 1))
        watched = Watched(self.metric, self.mode)
        for low, high in reversed(list(zip(rungs, [*rungs[1:], math.inf]))):
            waiting = {number for number, trial in held.items() if low <= trial.steps < high}
            if waiting:
                promoted = self._promoted(low, trials, watched)
                number = next((number for number in promoted if number in waiting), None)
                if number is not None:
                    return number
        return None

    def budget(self, trial: Trial, trials: Sequence[Trial]) -> int | None:
        """The next rung; after the last one `max_steps`."""
        return next((steps for steps in self._rungs() if steps > trial.steps), self.max_steps)

    def _promoted(self, steps: int, trials: Sequence[Trial], watched: Watched) -> list[int]:
        """The numbers of the trials that may pass the rung at `steps`, best first."""
        rung = rung_of(trials, steps, watched)
        return rung.best(len(rung) // self.reduction)

    def _rungs(self) -> Iterator[int]:
        steps = self.min_steps
        while self.max_steps is None or steps < self.max_steps:
            yield steps
            steps *= self.reduction

    def _rungs_below(self, limit: int) -> Iterator[int]:
        return takewhile(lambda steps: steps < limit, self._rungs())
