"""What successive halving compares: trials after the same number of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning_nas.stopping.rule import Watched
from lightning_nas.trial import Trial


@dataclass(frozen=True)
class Rung:
    """The score at which each trial came to a rung, by the trial's number."""

    scores: Mapping[int, float]

    def __len__(self) -> int:
        return len(self.scores)

    def best(self, k: int) -> list[int]:
        """The numbers of the `k` best trials, best first, without those whose score is -inf.

        Equal scores go to the earlier trial.
        """
        ranked = sorted(self.scores, key=lambda number: (-self.scores[number], number))[:k]
        return [number for number in ranked if self.scores[number] > -math.inf]


def rung_of(trials: Sequence[Trial], steps: int, watched: Watched) -> Rung:
    """The trials that have taken at least `steps` steps, with the first report at or after it that has a score."""
    scores = {}
    for trial in trials:
        if trial.steps >= steps:
            later = (watched.score(report) for report in trial.intermediate if report.step + 1 >= steps)
            score = next((score for score in later if score is not None), None)
            if score is not None:
                scores[trial.number] = score
    return Rung(scores)


def check_rungs(max_steps: int | None, reduction: int) -> None:
    """Raises ValueError unless `max_steps` is None or at least 1, and `reduction` a whole number >= 2."""
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"`max_steps` must be at least 1, but got {max_steps!r}.")
    if not isinstance(reduction, int) or reduction < 2:
        raise ValueError(f"`reduction` must be a whole number of at least 2, but got {reduction!r}.")
