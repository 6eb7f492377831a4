"""The suite every strategy passes, and a driver to try one out without an experiment.

    from lightning_nas.testing.strategies import StrategySuite

    class TestMyStrategy(StrategySuite):
        def strategy(self):
            return MyStrategy()

Run it with pytest; it needs hypothesis, which draws the spaces.
"""

from __future__ import annotations

import copy
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_nas.space import Sample, SearchSpace
from lightning_nas.strategies import Strategy, generator
from lightning_nas.testing.domains import search_spaces
from lightning_nas.trial import Status, Trial

Score = Callable[[Sample], "float | None"]


def search(
    strategy: Strategy,
    space: SearchSpace,
    score: Score,
    budget: int,
    *,
    seed: int = 0,
    concurrency: int = 1,
    trials: Iterable[Trial] = (),
) -> list[Trial]:
    """Runs a search in memory, as an experiment would.

    Args:
        strategy: proposes samples.
        space: where they lie.
        score: scores a sample, higher is better; None fails the trial.
        budget: how many trials there shall be in the end, those of `trials` among them.
        seed: the experiment's.
        concurrency: how many trials run at once. They finish in random order, decided by `seed`.
        trials: the history so far, all finished.

    Returns:
        The trials in the order of their numbers, all finished; fewer than `budget` if the strategy had
        no more samples.
    """
    done = list(trials)
    finishing = np.random.default_rng([seed, len(done)])
    running: list[int] = []
    exhausted = False
    while True:
        while len(running) < concurrency and len(done) < budget and not exhausted:
            sample = strategy.ask(space, done, generator(strategy, seed, len(done)))
            exhausted = sample is None
            if sample is not None:
                running.append(len(done))
                done.append(Trial(len(done), sample))
        if not running:
            return done
        number = running.pop(int(finishing.integers(len(running))))
        done[number] = finished(done[number], score(done[number].sample))


def finished(trial: Trial, score: float | None) -> Trial:
    """`trial` when it is over: completed, or failed if `score` is None."""
    if score is None:
        return replace(trial, status=Status.FAILED, reason="the test wants it so")
    return replace(trial, status=Status.COMPLETED, metrics={"default": score}, score=score)


def bumpy_score(space: SearchSpace) -> Score:
    """A score that differs from sample to sample, the same for equal spaces: linear in the code plus a wave."""
    weights = np.random.default_rng(0).normal(size=space.width)

    def score(sample: Sample) -> float:
        total = float(weights @ space.encode(sample))
        return total + 0.1 * float(np.sin(20 * total))

    return score


class StrategySuite(ABC):
    """What a strategy owes its driver. Subclass it, say how to make the strategy, run pytest.

    Attributes:
        repeats: whether the strategy may ask for a sample twice. Then it need not end either.
        budget: trials per search.
        examples: spaces per test; fewer for a slow strategy.
    """

    repeats: bool = False
    budget: int = 10
    examples: int = 10

    @abstractmethod
    def strategy(self) -> Strategy:
        """A fresh object with the settings under test, the same at each call."""

    def spaces(self) -> st.SearchStrategy[SearchSpace]:
        """The spaces the strategy must cope with: by default all kinds."""
        return search_spaces(max_labels=5)

    def finite_spaces(self) -> st.SearchStrategy[SearchSpace]:
        """Small spaces, to be searched to the end."""
        return search_spaces(max_labels=3, finite=True, max_size=3)

    def expected(self, space: SearchSpace) -> Iterable[Sample]:
        """The samples a search of a finite `space` tries before it ends: by default all."""
        return space.enumerate()

    def score(self, space: SearchSpace) -> Score:
        """What the searches of the tests maximise."""
        return bumpy_score(space)

    # -- the laws --------------------------------------------------------------------------------

    def test_samples_lie_in_the_space(self) -> None:
        def law(space: SearchSpace, seed: int) -> None:
            for trial in self._search(space, seed):
                assert space.contains(trial.sample), space.why_not(trial.sample)

        self._holds(law, self.spaces())

    def test_same_seed_same_samples(self) -> None:
        def law(space: SearchSpace, seed: int) -> None:
            assert _samples(self._search(space, seed)) == _samples(self._search(space, seed))

        self._holds(law, self.spaces())

    def test_only_the_generator_is_random(self) -> None:
        def law(space: SearchSpace, seed: int) -> None:
            before = _global_states()
            self._search(space, seed)
            assert _global_states() == before

        self._holds(law, self.spaces())

    def test_resuming_equals_one_go(self) -> None:
        """A fresh object and a history read back from JSON, before each ask."""

        def law(space: SearchSpace, seed: int) -> None:
            in_one_go = self._search(space, seed)
            resumed: list[Trial] = []
            for number in range(self.budget):
                resumed = [_read_back(space, trial) for trial in resumed]
                resumed = search(
                    self.strategy(), space, self.score(space), number + 1, seed=seed, trials=resumed
                )
            assert _samples(resumed) == _samples(in_one_go)

        self._holds(law, self.spaces())

    def test_one_object_serves_several_searches(self) -> None:
        def law(spaces: tuple[SearchSpace, SearchSpace], seed: int) -> None:
            strategy = self.strategy()
            histories: tuple[list[Trial], list[Trial]] = ([], [])
            for number in range(self.budget):
                for space, history in zip(spaces, histories):
                    if len(history) == number:
                        history[:] = search(
                            strategy, space, self.score(space), number + 1, seed=seed, trials=history
                        )
            for space, history in zip(spaces, histories):
                assert _samples(history) == _samples(self._search(space, seed))

        self._holds(law, st.tuples(self.spaces(), self.spaces()))

    def test_permuted_labels_do_not_matter(self) -> None:
        def law(space: SearchSpace, seed: int) -> None:
            backwards = SearchSpace(_reversed(space), _reversed(space.conditions))
            score = self.score(space)
            there = search(self.strategy(), space, score, self.budget, seed=seed)
            back: list[Trial] = []
            for number in range(len(there)):
                back = [replace(trial, sample=_reversed(trial.sample)) for trial in back]
                back = search(self.strategy(), backwards, score, number + 1, seed=seed, trials=back)
            assert _samples(back) == _samples(there)

        self._holds(law, self.spaces())

    def test_asking_changes_nothing(self) -> None:
        def law(space: SearchSpace, seed: int) -> None:
            strategy, score = self.strategy(), self.score(space)
            trials: list[Trial] = []
            for number in range(self.budget):
                before = copy.deepcopy(trials)
                first = strategy.ask(space, trials, generator(strategy, seed, number))
                assert trials == before
                assert strategy.ask(space, trials, generator(strategy, seed, number)) == first
                if first is None:
                    break
                trials.append(finished(Trial(number, first), score(first)))

        self._holds(law, self.spaces())

    def test_failures_are_survived(self) -> None:
        """All trials fail, or every second one."""

        def law(case: tuple[SearchSpace, int], seed: int) -> None:
            space, period = case
            score, asked = self.score(space), iter(range(10**6))
            trials = search(
                self.strategy(),
                space,
                lambda sample: None if next(asked) % period == 0 else score(sample),
                self.budget,
                seed=seed,
            )
            assert all(space.contains(trial.sample) for trial in trials)
            assert len(trials) == len(self._search(space, seed))

        self._holds(law, st.tuples(self.spaces(), st.sampled_from([1, 2])))

    def test_parallel_asks_do_not_repeat(self) -> None:
        if self.repeats:
            pytest.skip("this strategy may repeat samples")

        def law(space: SearchSpace, seed: int) -> None:
            trials = search(self.strategy(), space, self.score(space), self.budget, seed=seed, concurrency=4)
            keys = [space.key(trial.sample) for trial in trials]
            assert len(set(keys)) == len(keys)

        self._holds(law, self.spaces())

    def test_the_search_ends_when_nothing_is_left(self) -> None:
        if self.repeats:
            pytest.skip("this strategy may repeat samples")

        def law(space: SearchSpace, seed: int) -> None:
            expected = {space.key(sample) for sample in self.expected(space)}
            trials = search(self.strategy(), space, self.score(space), len(expected) + 1, seed=seed)
            assert len(trials) == len(expected)
            assert {space.key(trial.sample) for trial in trials} == expected

        self._holds(law, self.finite_spaces())

    # -- within ----------------------------------------------------------------------------------

    def _search(self, space: SearchSpace, seed: int) -> list[Trial]:
        return search(self.strategy(), space, self.score(space), self.budget, seed=seed)

    def _holds(self, law: Callable[[Any, int], None], cases: st.SearchStrategy[Any]) -> None:
        @settings(max_examples=self.examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(cases, st.integers(0, 2**32 - 1))
        def check(case: Any, seed: int) -> None:
            law(case, seed)

        check()


def _global_states() -> tuple[object, str]:
    """The generators a strategy must not draw from."""
    return random.getstate(), repr(np.random.get_state())  # noqa: NPY002


def _samples(trials: Sequence[Trial]) -> list[Sample]:
    return [trial.sample for trial in trials]


def _reversed(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return dict(reversed(list(mapping.items())))


def _read_back(space: SearchSpace, trial: Trial) -> Trial:
    return replace(trial, sample=space.check(json.loads(json.dumps(trial.sample))))
