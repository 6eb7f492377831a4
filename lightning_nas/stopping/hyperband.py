"""Successive halving with several ways to spend the same budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from lightning_nas.stopping.rule import Decision, Watched
from lightning_nas.stopping.rungs import check_rungs, rung_of
from lightning_nas.trial import Mode, Trial


@dataclass(frozen=True)
class Bracket:
    """One run of successive halving.

    Args:
        counts: how many trials are to reach each rung; the first is how many begin.
        steps: where the rungs lie; the last is the full training, where no one is paused.
    """

    counts: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Hyperband:
    """Brackets of successive halving, from many short trials to few long ones.

    The number of a trial decides its bracket: the first trials belong to the first bracket, the next
    ones to the second, and after the last bracket the first begins anew. Within a bracket each rung is
    synchronous: when all its trials have come there, the best `1 / reduction` go on from their checkpoints
    and the others stay paused. Where one bracket waits, the next begins, so that workers are not idle. A
    trial that fails on its way to a rung is out; one whose metric is not finite at a rung never goes on.

    A round of all brackets takes `round` trials: give `max_trials` a multiple of it, since a bracket that is
    cut short by the end of the search waits for ever.

    Args:
        max_steps: how many steps a trial takes that is never paused, such as the Trainer's `max_epochs`.
            The paper's R. None: an `Experiment` asks the evaluator.
        reduction: one in so many goes on. The paper's eta.
        min_steps: no rung lies lower. The paper's r, there 1.
        metric: what is looked at; None for the objective.
        mode: "max" or "min" for `metric`; None infers it from its name.

    Raises:
        ValueError: unless `1 <= min_steps <= max_steps` and `reduction >= 2`, or if `mode` is wrong.

    Source: Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 2018
    (arXiv:1603.06560), Algorithm 1. Rungs are rounded down to whole steps. With `strategies.TPE` this is
    nearly BOHB (Falkner et al., ICML 2018), which however builds its model from the highest rung that has
    enough trials.
    """

    max_steps: int | None = None
    reduction: int = 3
    metric: str | None = None
    mode: Mode | None = None
    min_steps: int = 1

    def __post_init__(self) -> None:
        Watched(self.metric, self.mode)
        check_rungs(self.max_steps, self.reduction)
        if not 1 <= self.min_steps <= (self.max_steps or math.inf):
            raise ValueError(
                "`1 <= min_steps <= max_steps` must hold, but got "
                f"(min_steps={self.min_steps!r}, max_steps={self.max_steps!r})."
            )

    @cached_property
    def brackets(self) -> tuple[Bracket, ...]:
        """The brackets of one round, in order.

        Raises:
            ValueError: if `max_steps` is None.

        >>> Hyperband(max_steps=9).brackets[0]
        Bracket(counts=(9, 3, 1), steps=(1, 3, 9))
        """
        if self.max_steps is None:
            raise ValueError("`max_steps` of Hyperband must be given: it decides the brackets.")
        eta, most = self.reduction, 0
        while self.min_steps * eta ** (most + 1) <= self.max_steps:
            most += 1
        brackets = []
        for s in range(most, -1, -1):
            n = -(-(most + 1) * eta**s // (s + 1))  # rounded up
            counts = tuple(n // eta**i for i in range(s + 1))
            steps = tuple(self.max_steps * eta**i // eta**s for i in range(s + 1))
            brackets.append(Bracket(counts, steps))
        return tuple(brackets)

    @property
    def round(self) -> int:
        """How many trials all brackets take once."""
        return sum(bracket.counts[0] for bracket in self.brackets)

    @property
    def trials_needed(self) -> int:
        """With how many trials one is sure to run to its end."""
        return self.brackets[0].counts[0]

    def decide(self, trial: Trial, trials: Sequence[Trial]) -> Decision:
        """ "go" or "pause"; see `StoppingRule.decide`."""
        Watched(self.metric, self.mode).require(trial)
        before = trial.intermediate[-2].step + 1 if len(trial.intermediate) > 1 else 0
        bracket = self._bracket(trial.number)
        return "pause" if any(before < steps <= trial.steps for steps in bracket.steps[:-1]) else "go"

    def resume(self, trials: Sequence[Trial]) -> int | None:
        """The best waiting trial of the first rung that is complete; see `PausingRule.resume`."""
        if not any(trial.is_held for trial in trials):
            return None
        watched = Watched(self.metric, self.mode)
        first = 0
        while first < len(trials):
            bracket = self._bracket(first)
            members = trials[first : first + bracket.counts[0]]
            first += bracket.counts[0]
            if len(members) < bracket.counts[0]:
                return None
            number = next(_waiting(bracket, members, watched), None)
            if number is not None:
                return number
        return None

    def budget(self, trial: Trial, trials: Sequence[Trial]) -> int | None:
        """The next rung of the trial's bracket, at last `max_steps`."""
        bracket = self._bracket(trial.number)
        return next((steps for steps in bracket.steps if steps > trial.steps), None)

    def _bracket(self, number: int) -> Bracket:
        """The bracket that the trial of this number belongs to."""
        place = number % self.round
        for bracket in self.brackets:
            place -= bracket.counts[0]
            if place < 0:
                return bracket
        raise AssertionError("the brackets cover a round")


def _waiting(bracket: Bracket, members: Sequence[Trial], watched: Watched) -> Iterator[int]:
    """The numbers of the trials of a bracket that may pass the rung at which they are held."""
    for low, high, count in zip(bracket.steps, bracket.steps[1:], bracket.counts[1:]):
        if any(trial.steps < low and not trial.status.is_final for trial in members):
            return  # this rung is still being filled
        promoted = rung_of(members, low, watched).best(count)
        held = {trial.number for trial in members if trial.is_held and trial.steps < high}
        yield from (number for number in promoted if number in held)
        members = [trial for trial in members if trial.number in promoted]
