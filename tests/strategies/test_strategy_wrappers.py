"""Wrappers: what they refuse, what they fall back on, and how they compose."""

from __future__ import annotations

import dataclasses
from itertools import permutations

import numpy as np
import pytest

from lightning_nas.errors import SampleError
from lightning_nas.space import Categorical, Float, Integer, SearchSpace
from lightning_nas.strategies import Constrained, Dedup, Enqueue, GridSearch, Random
from lightning_nas.testing.strategies import search
from lightning_nas.trial import Trial

SPACE = SearchSpace({"a": Integer(0, 3), "b": Integer(0, 3)})


class Constant:
    """Somebody else's strategy: asks for one sample, and counts how often."""

    def __init__(self, sample):
        self.sample, self.calls = sample, 0

    def ask(self, space, trials, rng):
        self.calls += 1
        rng.random()
        return dict(self.sample)


class Script:
    """Somebody else's strategy: asks for the next of some samples that no trial has had, then ends."""

    def __init__(self, samples):
        self.samples = samples

    def ask(self, space, trials, rng):
        had = [trial.sample for trial in trials]
        return next((sample for sample in self.samples if sample not in had), None)


def zero(sample):
    return 0.0


def run(strategy, space=SPACE, budget=50):
    return [trial.sample for trial in search(strategy, space, zero, budget)]


# -- Dedup --------------------------------------------------------------------------------------


def test_dedup_counts_what_its_key_tells_apart():
    found = run(Dedup(Random(), key=lambda sample: sample["a"] + sample["b"]))
    assert sorted(sample["a"] + sample["b"] for sample in found) == list(range(7))


def test_the_key_is_called_once_per_sample():
    calls = []

    def key(sample):
        calls.append(SPACE.key(sample))
        return sample["a"]

    run(Dedup(Random(), key=key))
    assert len(calls) == len(set(calls)) <= 16


def test_after_500_repeats_dedup_draws_among_the_rest():
    constant = Constant({"a": 1, "b": 1})
    trials = [Trial(0, {"a": 1, "b": 1})]
    sample = Dedup(constant).ask(SPACE, trials, np.random.default_rng(0))
    assert constant.calls == 500
    assert sample != {"a": 1, "b": 1}
    assert SPACE.contains(sample)
    assert len(run(Dedup(Constant({"a": 1, "b": 1})))) == 16


def test_in_a_continuous_space_500_repeats_end_the_search():
    space = SearchSpace({"x": Float(0, 1)})
    assert run(Dedup(Constant({"x": 0.5})), space) == [{"x": 0.5}]


def test_a_strategy_that_ends_is_not_gone_beyond():
    assert run(Dedup(Script([{"a": 0, "b": 0}, {"a": 1, "b": 0}]))) == [{"a": 0, "b": 0}, {"a": 1, "b": 0}]


def test_the_graph_needs_a_model():
    wrapped = Dedup(Random(), key="graph")
    with pytest.raises(ValueError, match=r"works within an Experiment; elsewhere give key=net.graph_key"):
        wrapped.ask(SPACE, [], np.random.default_rng(0))
    by_a = dataclasses.replace(wrapped, key=lambda sample: sample["a"])
    assert len(run(by_a)) == 4


@pytest.mark.parametrize("key", ["Graph", 3])
def test_other_keys_are_refused(key):
    with pytest.raises(ValueError, match=f"must be a function of a sample, 'graph' or None, but got {key!r}"):
        Dedup(Random(), key=key)


# -- Constrained --------------------------------------------------------------------------------


def test_a_rare_sample_is_found_in_a_space_that_can_be_listed():
    space = SearchSpace({f"x{i}": Integer(0, 9) for i in range(4)})
    one = Constrained(Random(), rule=lambda sample: set(sample.values()) == {7}, patience=10)
    assert run(one, space) == [{f"x{i}": 7 for i in range(4)}]


def test_a_rule_nothing_obeys_ends_the_search():
    assert run(Constrained(Random(), rule=lambda sample: False)) == []


def test_a_grid_keeps_its_order_under_a_rule():
    found = run(Constrained(GridSearch(), rule=lambda sample: sample["a"] < sample["b"]))
    assert found == [{"a": a, "b": b} for a in range(4) for b in range(4) if a < b]


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (TypeError, {"rule": 3}, r"`rule` must be a function of a sample, but got 3"),
        (ValueError, {"rule": bool, "patience": 0}, r"`patience >= 1` must hold, but got 0"),
    ],
)
def test_wrong_settings_are_refused(error, arguments, message):
    with pytest.raises(error, match=message):
        Constrained(Random(), **arguments)


# -- Enqueue ------------------------------------------------------------------------------------


def test_the_queue_comes_first_and_the_strategy_sees_its_trials():
    queue = [{"a": 3, "b": 3}, {"a": 0, "b": 0}]
    found = run(Enqueue(queue, then=Random()))
    assert found[:2] == queue
    assert len(found) == 16


def test_a_queue_alone_ends_the_search():
    assert run(Enqueue([{"a": 0, "b": 1}, {"a": 0, "b": 1}])) == [{"a": 0, "b": 1}] * 2


def test_the_strategy_behind_a_queue_draws_as_without_one():
    trials = [Trial(0, {"a": 3, "b": 3})]
    first, second = (
        s.ask(SPACE, trials, np.random.default_rng(1))
        for s in (Enqueue([{"a": 3, "b": 3}], then=Random()), Random())
    )
    assert first == second


def test_a_wrong_sample_in_the_queue_is_named_before_the_first_trial():
    queue = Enqueue([{"a": 0, "b": 0}, {"a": 9, "b": 0}])
    with pytest.raises(SampleError, match=r"enqueued sample number 1 does not fit.*'a'.*9 is not"):
        queue.ask(SPACE, [], np.random.default_rng(0))


def test_a_queue_is_written_as_the_space_writes_it():
    space = SearchSpace({"size": Categorical([(3, 3), (5, 5)]), "n": Integer(0, 1)})
    assert run(Enqueue([{"n": np.int64(1), "size": [5, 5]}]), space) == [{"n": 1, "size": (5, 5)}]


# -- together -----------------------------------------------------------------------------------

WRAPPERS = {
    "dedup": lambda s: Dedup(s, key=lambda sample: tuple(sorted(sample.values()))),
    "rule": lambda s: Constrained(s, rule=lambda sample: sample["a"] != sample["b"]),
    "queue": lambda s: Enqueue([{"a": 0, "b": 0}, {"a": 2, "b": 1}, {"a": 1, "b": 2}], then=s),
}


@pytest.mark.parametrize("order", list(permutations(WRAPPERS)), ids="-".join)
@pytest.mark.parametrize("inside", [Random(dedup=False), GridSearch()], ids=lambda s: type(s).__name__)
def test_wrappers_compose_in_any_order(order, inside):
    """Every unordered pair of two different values comes up; a queue outside brings its own besides."""
    strategy = inside
    for name in order:
        strategy = WRAPPERS[name](strategy)
    found = run(strategy)
    pairs = [tuple(sorted(sample.values())) for sample in found]
    assert {pair for pair in pairs if pair[0] != pair[1]} == {(a, b) for b in range(4) for a in range(b)}
    if order.index("rule") > order.index("queue"):
        assert all(a != b for a, b in pairs)
    if order.index("dedup") > order.index("queue"):
        assert len(set(pairs)) == len(pairs)
