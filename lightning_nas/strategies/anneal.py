"""Annealing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from lightning_nas.space import Sample, SearchSpace
from lightning_nas.strategies.history import Seen, score_of
from lightning_nas.strategies.moves import drawn_near
from lightning_nas.strategies.proposals import PATIENCE, Accepted, Draws, Proposals, leftover
from lightning_nas.strategies.random_search import random_samples
from lightning_nas.strategies.strategy import check_seed
from lightning_nas.trial import Trial


@dataclass(frozen=True)
class Anneal:
    """Draws near one of the best trials, ever nearer as trials add up.

    The trial is the r-th best, r geometrically distributed. Around its value each label is drawn from a
    window whose width is `1 / (1 + shrinkage * t)` of its range, t the trials with a score that had the
    label; a label without order is drawn afresh with that probability. Before there is a score it is
    random search.

    Args:
        mean_rank: mean of r; 1 always takes the best.
        shrinkage: how fast the windows shrink.
        dedup: no sample twice; the search ends when all have been tried.
        seed: replaces the experiment's.

    Raises:
        ValueError: unless `mean_rank >= 1` and `shrinkage >= 0`.

    Source: the annealing of hyperopt (Bergstra et al., "Hyperopt: a Python library for model selection
    and hyperparameter optimization", Computational Science & Discovery 2015), whose `avg_best_idx` and
    `shrink_coef` these are; its defaults. Unlike there, numbers on a grid are drawn in a window too.
    """

    mean_rank: float = 2.0
    shrinkage: float = 0.1
    dedup: bool = True
    seed: int | None = None
    _seen: Seen = field(default_factory=Seen, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not (self.mean_rank >= 1 and self.shrinkage >= 0):
            raise ValueError(
                "`mean_rank >= 1` and `shrinkage >= 0` must hold, but got "
                f"(mean_rank={self.mean_rank}, shrinkage={self.shrinkage})."
            )

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """A sample near one of the best, or None if all samples have been tried."""
        return next(self.propose(space, trials, rng), None)

    def propose(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Proposals:
        """Samples near the best without end (see `proposals`)."""
        scored = [trial for trial in trials if trial.score is not None]
        samples = self._near_the_best(space, scored, rng) if scored else random_samples(space, rng)
        draws = Draws(samples, leftover(space, rng))
        return Accepted(draws, self._seen.unseen(space, trials), PATIENCE) if self.dedup else draws

    def _near_the_best(
        self, space: SearchSpace, scored: list[Trial], rng: np.random.Generator
    ) -> Iterator[Sample]:
        ranked = sorted(scored, key=score_of, reverse=True)
        had = dict.fromkeys(space, len(scored))
        had.update(Counter(label for trial in scored for label in trial.sample if label in space.conditions))
        while True:
            rank = min(int(rng.geometric(1 / self.mean_rank)), len(ranked))
            middle = ranked[rank - 1].sample
            near = {
                label: drawn_near(space[label], middle[label], 1 / (1 + self.shrinkage * had[label]), rng)
                for label in space
                if label in middle
            }
            yield space.complete(near, rng)
