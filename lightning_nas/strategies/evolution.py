"""Evolution with ageing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from lightning_nas.space import Sample, SearchSpace
from lightning_nas.strategies.history import Seen, score_of
from lightning_nas.strategies.proposals import PATIENCE, Accepted, Draws, Proposals, leftover
from lightning_nas.strategies.random_search import random_samples
from lightning_nas.strategies.strategy import check_seed
from lightning_nas.trial import Trial


@dataclass(frozen=True)
class RegularizedEvolution:
    """Ageing evolution: a tournament picks a parent, one label changes, the oldest leaves.

    Until `population_size` trials have a score it is random search.

    Args:
        population_size: trials with a score that count, the newest ones. P in the paper.
        sample_size: rivals per tournament, drawn with replacement. S in the paper.
        mutation_rate: redraw each label with this probability, as NNI does with 0.05, instead of
            changing one label. A label redrawn may get the value it had.
        crossover: take each label from either of two parents, evenly, before the mutation.
        dedup: no sample twice; the search ends when all have been tried.
        seed: replaces the experiment's.

    Raises:
        ValueError: unless `1 <= sample_size <= population_size` and `0 < mutation_rate <= 1`.

    Source: Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019,
    Algorithm 1 (arXiv:1802.01548). Unlike the paper, a mutation never redraws the value it replaces,
    and the default `dedup` draws again instead of evaluating a sample twice. `crossover` and
    `mutation_rate` are NNI's.
    """

    population_size: int = 100
    sample_size: int = 25
    mutation_rate: float | None = None
    crossover: bool = False
    dedup: bool = True
    seed: int | None = None
    _seen: Seen = field(default_factory=Seen, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not 1 <= self.sample_size <= self.population_size:
            raise ValueError(
                "`1 <= sample_size <= population_size` must hold, but got "
                f"(sample_size={self.sample_size}, population_size={self.population_size})."
            )
        if self.mutation_rate is not None and not 0 < self.mutation_rate <= 1:
            raise ValueError(
                f"`0 < mutation_rate <= 1` must hold, but got {self.mutation_rate}; None changes one label."
            )

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """A child of the population, or None if all samples have been tried."""
        return next(self.propose(space, trials, rng), None)

    def propose(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Proposals:
        """Children of the population without end (see `proposals`)."""
        newest = (trial for trial in reversed(trials) if trial.score is not None)
        population = list(islice(newest, self.population_size))[::-1]
        if len(population) < self.population_size:
            samples = random_samples(space, rng)
        else:
            samples = self._children(space, population, rng)
        draws = Draws(samples, leftover(space, rng))
        return Accepted(draws, self._seen.unseen(space, trials), PATIENCE) if self.dedup else draws

    def _children(
        self, space: SearchSpace, population: Sequence[Trial], rng: np.random.Generator
    ) -> Iterator[Sample]:
        while True:
            child = self._parent(population, rng)
            if self.crossover:
                child = _crossed(space, child, self._parent(population, rng), rng)
            if self.mutation_rate is not None:
                yield _redrawn(space, child, self.mutation_rate, rng)
            else:
                yield mutated(space, child, rng)

    def _parent(self, population: Sequence[Trial], rng: np.random.Generator) -> Sample:
        rivals = rng.integers(len(population), size=self.sample_size).tolist()
        best: Trial = max((population[i] for i in rivals), key=score_of)
        return best.sample


def mutated(space: SearchSpace, sample: Sample, rng: np.random.Generator) -> Sample:
    """`sample` with another value at one active label; as it is if no label has another value."""
    if all(space[label].size == 1 for label in sample):
        return dict(sample)
    return space.mutate(sample, rng)


def _redrawn(space: SearchSpace, sample: Sample, rate: float, rng: np.random.Generator) -> Sample:
    """`sample` with each label drawn afresh with probability `rate`."""
    kept = {label: sample[label] for label in space if label in sample and rng.random() >= rate}
    return space.complete(kept, rng)


def _crossed(space: SearchSpace, one: Sample, other: Sample, rng: np.random.Generator) -> Sample:
    """Each label of both from either, each label of one from that; what then is missing is drawn."""
    child = {}
    for label in space:
        parents = [parent for parent in (one, other) if label in parent]
        if parents:
            child[label] = parents[int(rng.random() * len(parents))][label]
    return space.complete(child, rng)
