"""Every strategy passes the published suite, alone and wrapped."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lightning_nas.space import Sample, SearchSpace
from lightning_nas.strategies import (
    TPE,
    Anneal,
    Constrained,
    Dedup,
    Enqueue,
    GridSearch,
    LocalSearch,
    Random,
    RegularizedEvolution,
    Strategy,
)
from lightning_nas.strategies.grid import on_grid
from lightning_nas.testing.strategies import StrategySuite


class TestRandom(StrategySuite):
    def strategy(self) -> Strategy:
        return Random()


class TestRandomWithRepeats(StrategySuite):
    repeats = True

    def strategy(self) -> Strategy:
        return Random(dedup=False)


class TestGridSearch(StrategySuite):
    def strategy(self) -> Strategy:
        return GridSearch(points=3)

    def expected(self, space: SearchSpace) -> Iterable[Sample]:
        return on_grid(space, 3).enumerate()


class TestRegularizedEvolution(StrategySuite):
    def strategy(self) -> Strategy:
        return RegularizedEvolution(population_size=4, sample_size=2)


class TestRegularizedEvolutionAsInNNI(StrategySuite):
    def strategy(self) -> Strategy:
        return RegularizedEvolution(population_size=4, sample_size=2, mutation_rate=0.3, crossover=True)


class TestRegularizedEvolutionWithRepeats(StrategySuite):
    repeats = True

    def strategy(self) -> Strategy:
        return RegularizedEvolution(population_size=4, sample_size=2, dedup=False)


class TestLocalSearch(StrategySuite):
    def strategy(self) -> Strategy:
        return LocalSearch(initial=3, patience=3)


class TestPlainLocalSearch(StrategySuite):
    def strategy(self) -> Strategy:
        return LocalSearch(initial=1, patience=None, guided=False)


class TestTPE(StrategySuite):
    examples = 4
    budget = 9

    def strategy(self) -> Strategy:
        return TPE(startup_trials=3)


class TestTPEWithRepeats(StrategySuite):
    examples = 4
    budget = 9
    repeats = True

    def strategy(self) -> Strategy:
        return TPE(startup_trials=3, dedup=False)


class TestAnneal(StrategySuite):
    def strategy(self) -> Strategy:
        return Anneal()


class TestAnnealWithRepeats(StrategySuite):
    repeats = True

    def strategy(self) -> Strategy:
        return Anneal(dedup=False)


class AskOnly:
    """Somebody else's strategy: mutates the newest trial."""

    def ask(self, space, trials, rng: np.random.Generator):
        if not trials or space.size == 1:
            return space.sample(rng)
        return space.mutate(trials[-1].sample, rng)


class TestDedupOfAskOnly(StrategySuite):
    def strategy(self) -> Strategy:
        return Dedup(AskOnly())

    def spaces(self):
        return self.finite_spaces()


class TestDedupOfRepeats(StrategySuite):
    def strategy(self) -> Strategy:
        return Dedup(RegularizedEvolution(population_size=3, sample_size=2, dedup=False))


def starts_early(sample: Sample) -> bool:
    """A rule that refuses about half of the samples, and no property a domain has."""
    return sum(map(ord, repr(sorted(sample.items())))) % 2 == 0


class TestConstrained(StrategySuite):
    def strategy(self) -> Strategy:
        return Constrained(Random(), starts_early)

    def expected(self, space: SearchSpace) -> Iterable[Sample]:
        return filter(starts_early, space.enumerate())


class TestDedupOfConstrained(TestConstrained):
    examples = 6

    def strategy(self) -> Strategy:
        return Dedup(Constrained(Anneal(dedup=False), starts_early))


class TestConstrainedGrid(TestConstrained):
    def strategy(self) -> Strategy:
        return Constrained(GridSearch(points=3), starts_early)


class TestEnqueueOfNothing(StrategySuite):
    def strategy(self) -> Strategy:
        return Enqueue([], then=LocalSearch(initial=2))
