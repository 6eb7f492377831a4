"""Regularized evolution: who is a parent, what a mutation changes, what crossover takes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_nas.space import Categorical, SearchSpace
from lightning_nas.strategies import Random, RegularizedEvolution
from lightning_nas.testing.domains import generators
from lightning_nas.trial import Status, Trial

SPACE = SearchSpace({f"x{i}": Categorical(range(5)) for i in range(6)})


def completed(number, sample, score):
    return Trial(number, sample, Status.COMPLETED, score=score)


def distance(one, other):
    return sum(one[label] != other[label] for label in one)


def history(scores, seed=0):
    rng = np.random.default_rng(seed)
    return [completed(i, SPACE.sample(rng), score) for i, score in enumerate(scores)]


@settings(max_examples=30)
@given(generators(), st.integers(1, 8), st.integers(1, 8))
def test_a_child_differs_in_one_label_from_one_of_the_newest(rng, population, rivals):
    population, rivals = max(population, rivals), min(population, rivals)
    trials = [completed(i, SPACE.sample(rng), float(rng.normal())) for i in range(20)]
    trials[7:18:3] = [Trial(t.number, t.sample, Status.FAILED) for t in trials[7:18:3]]
    child = RegularizedEvolution(population, rivals, dedup=False).ask(SPACE, trials, rng)
    newest = [trial.sample for trial in trials if trial.score is not None][-population:]
    assert 1 in {distance(child, sample) for sample in newest}


def test_until_the_population_is_full_it_is_random_search():
    trials = [*history([1.0] * 9), Trial(9, {f"x{i}": 0 for i in range(6)}, Status.FAILED)]
    strategy = RegularizedEvolution(population_size=10, sample_size=2)
    first, second = (s.ask(SPACE, trials, np.random.default_rng(3)) for s in (strategy, Random()))
    assert first == second


def test_the_best_wins_as_often_as_the_tournament_says():
    """S rivals of P with replacement hold the best with 1 - (1 - 1/P)^S; 1,000 asks, 5 standard errors."""
    # No two samples of the population share a label, so the parent is the sample one label away.
    trials = [completed(i, {f"x{j}": i for j in range(6)}, [0.0, 3.0, 1.0, 2.0, -1.0][i]) for i in range(5)]
    strategy = RegularizedEvolution(population_size=5, sample_size=3, dedup=False)
    wins = sum(
        distance(strategy.ask(SPACE, trials, np.random.default_rng([5, i])), trials[1].sample) == 1
        for i in range(1000)
    )
    p = 1 - (4 / 5) ** 3
    assert abs(wins / 1000 - p) < 5 * np.sqrt(p * (1 - p) / 1000)


def test_the_oldest_leaves_however_good_it_is():
    trials = [completed(i, {f"x{j}": i for j in range(6)}, [9.0, 0.0, 0.0][i]) for i in range(3)]
    strategy = RegularizedEvolution(population_size=2, sample_size=2, dedup=False)
    for i in range(50):
        assert distance(strategy.ask(SPACE, trials, np.random.default_rng(i)), trials[0].sample) >= 5


def test_each_label_changes_equally_often():
    """1,200 asks; 5 standard errors."""
    trials = history([1.0])
    strategy = RegularizedEvolution(population_size=1, sample_size=1, dedup=False)
    children = [strategy.ask(SPACE, trials, np.random.default_rng([2, i])) for i in range(1200)]
    changed = Counter(label for c in children for label in c if c[label] != trials[0].sample[label])
    assert sum(changed.values()) == 1200
    assert all(abs(changed[label] - 200) < 5 * np.sqrt(1200 * 5 / 36) for label in SPACE)


def test_a_mutation_rate_redraws_each_label_with_that_probability():
    """A redrawn label keeps its value with 1/5, so it changes with 0.3 * 4/5; 5 standard errors."""
    trials = history([1.0])
    strategy = RegularizedEvolution(population_size=1, sample_size=1, mutation_rate=0.3, dedup=False)
    children = [strategy.ask(SPACE, trials, np.random.default_rng([4, i])) for i in range(500)]
    rate = np.mean([distance(child, trials[0].sample) / 6 for child in children])
    assert abs(rate - 0.24) < 5 * np.sqrt(0.24 * 0.76 / 3000)


def test_crossover_takes_each_label_from_either_parent():
    """With next to no mutation all labels are a parent's; both parents give about half of them."""
    trials = [completed(i, {f"x{j}": i for j in range(6)}, 0.0) for i in range(2)]
    strategy = RegularizedEvolution(2, 1, mutation_rate=1e-12, crossover=True, dedup=False)
    children = [strategy.ask(SPACE, trials, np.random.default_rng([6, i])) for i in range(500)]
    values = [value for child in children for value in child.values()]
    assert set(values) == {0, 1}
    # Both parents are the same with odds 1/2, so labels of one child go together: variance per child
    # of at most (1/2)^2.
    assert abs(np.mean(values) - 0.5) < 5 * 0.5 / np.sqrt(500)
    assert {len(set(child.values())) for child in children} == {1, 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_size": 5, "population_size": 4}, r"sample_size=5, population_size=4"),
        ({"sample_size": 0}, r"1 <= sample_size"),
        ({"mutation_rate": 0.0}, r"0 < mutation_rate <= 1.*but got 0.0"),
        ({"mutation_rate": 1.5}, r"but got 1.5"),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RegularizedEvolution(**arguments)
