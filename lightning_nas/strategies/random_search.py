"""Random search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from lightning_nas.space import Sample, SearchSpace
from lightning_nas.strategies.history import Seen
from lightning_nas.strategies.proposals import PATIENCE, Accepted, Draws, Proposals, leftover
from lightning_nas.strategies.strategy import check_seed
from lightning_nas.trial import Trial


@dataclass(frozen=True)
class Random:
    """Draws each active label on its own, uniformly or by its prior.

    Args:
        dedup: no sample twice; the search ends when all have been tried. `Random()` is shorthand for
            `Dedup(Random(dedup=False))`.
        seed: replaces the experiment's.

    Raises:
        ValueError: unless `seed` is None or a whole number >= 0.

    Source: Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 2012; for
    architectures Li and Talwalkar, "Random Search and Reproducibility for Neural Architecture Search",
    UAI 2019 (arXiv:1902.07638).
    """

    dedup: bool = True
    seed: int | None = None
    _seen: Seen = field(default_factory=Seen, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_seed(self.seed)

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """A random sample, or None if all have been tried."""
        return next(self.propose(space, trials, rng), None)

    def propose(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Proposals:
        """Random samples without end (see `proposals`)."""
        draws = Draws(random_samples(space, rng), leftover(space, rng))
        return Accepted(draws, self._seen.unseen(space, trials), PATIENCE) if self.dedup else draws


def random_samples(space: SearchSpace, rng: np.random.Generator) -> Iterator[Sample]:
    """Random samples without end."""
    while True:
        yield space.sample(rng)
