"""Random search: the distribution it draws from, and what is left when all has been tried."""

from __future__ import annotations

from collections import Counter

import numpy as np

from lightning_nas.space import Categorical, Condition, Float, Integer, SearchSpace
from lightning_nas.strategies import Dedup, Random
from lightning_nas.strategies.proposals import PATIENCE, leftover
from lightning_nas.trial import Trial


def draws(strategy, space, n):
    """n first asks, each with numbers of its own."""
    return [strategy.ask(space, [], np.random.default_rng([1, i])) for i in range(n)]


def test_active_labels_are_uniform_and_priors_count():
    """2,000 draws; each rate is within 5 standard errors (odds of a false alarm 1 in 100,000)."""
    space = SearchSpace(
        {
            "op": Categorical(["conv", "pool"]),
            "kernel": Categorical([1, 3, 5, 7]),
            "act": Categorical(["relu", "gelu"], prior=[0.8, 0.2]),
        },
        {"kernel": Condition({"op": ["conv"]})},
    )
    found = draws(Random(), space, 2000)
    rates = Counter((label, value) for sample in found for label, value in sample.items())
    expected = {("op", "conv"): 0.5, ("act", "relu"): 0.8} | {("kernel", k): 0.125 for k in (1, 3, 5, 7)}
    for item, p in expected.items():
        assert abs(rates[item] / 2000 - p) < 5 * np.sqrt(p * (1 - p) / 2000), item


def test_random_is_shorthand_for_dedup():
    space = SearchSpace({"a": Integer(0, 5), "b": Categorical(["x", "y", "z"])})
    long, short = Dedup(Random(dedup=False)), Random()
    trials = []
    for number in range(18):
        rngs = [np.random.default_rng([0, number]) for _ in range(2)]
        samples = [strategy.ask(space, trials, rng) for strategy, rng in zip((long, short), rngs)]
        assert samples[0] == samples[1]
        trials.append(Trial(number, samples[0]))
    assert long.ask(space, trials, rngs[0]) is short.ask(space, trials, rngs[1]) is None


def test_the_last_samples_are_found_however_rare_they_are():
    """The prior makes b = 1 come up once in 10**9 draws; it is found among the rest."""
    space = SearchSpace({"b": Categorical([0, 1], prior=[1 - 1e-9, 1e-9])})
    assert Random().ask(space, [Trial(0, {"b": 0})], np.random.default_rng(0)) == {"b": 1}


def test_what_is_left_is_uniform():
    """300 draws among three values unseen; 5 standard errors."""
    space = SearchSpace({"a": Categorical(range(4), prior=[1, 0, 0, 0])})
    seen = [Trial(0, {"a": 0})]
    counts = Counter(Random().ask(space, seen, np.random.default_rng(i))["a"] for i in range(300))
    assert set(counts) == {1, 2, 3}
    assert all(abs(count - 100) < 5 * np.sqrt(300 * 2 / 9) for count in counts.values())


def test_leftovers_of_a_space_too_large_to_list_are_random_samples():
    large = SearchSpace({f"x{i}": Integer(0, 9) for i in range(20)})
    samples = list(leftover(large, np.random.default_rng(0)))
    assert len(samples) == PATIENCE
    assert all(map(large.contains, samples))
    assert list(leftover(SearchSpace({"x": Float(0, 1)}), np.random.default_rng(0))) == []


def test_leftovers_may_be_changed_by_whoever_gets_them():
    space = SearchSpace({"a": Categorical([1, 2])})
    for sample in leftover(space, np.random.default_rng(0)):
        sample["a"] = 3
    assert {s["a"] for s in leftover(space, np.random.default_rng(0))} == {1, 2}


def test_true_and_one_are_two_samples():
    space = SearchSpace({"a": Categorical([True, 1, 1.0])})
    trials = []
    while (sample := Random().ask(space, trials, np.random.default_rng(len(trials)))) is not None:
        trials.append(Trial(len(trials), sample))
    assert sorted(type(trial.sample["a"]).__name__ for trial in trials) == ["bool", "float", "int"]
