"""Grid search: its order, its points, and foreign trials in between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from lightning_nas.space import Categorical, Condition, Float, Integer, SearchSpace
from lightning_nas.strategies import Enqueue, GridSearch
from lightning_nas.testing.domains import search_spaces
from lightning_nas.testing.strategies import search
from lightning_nas.trial import Trial

RNG = np.random.default_rng(0)


@settings(max_examples=20)
@given(search_spaces(max_labels=4, finite=True, max_size=3))
def test_it_walks_the_space_in_order(space):
    trials = search(GridSearch(), space, lambda sample: 0.0, 50)
    assert [trial.sample for trial in trials] == [s for _, s in zip(range(50), space.enumerate())]


def test_continuous_labels_take_evenly_spaced_points():
    space = SearchSpace({"lr": Float(1e-4, 1.0, log=True), "momentum": Float(0.0, 1.0)})
    trials = search(GridSearch(points=5), space, lambda sample: 0.0, 100)
    rates = list(dict.fromkeys(trial.sample["lr"] for trial in trials))
    np.testing.assert_allclose(rates, [1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    assert [trial.sample["momentum"] for trial in trials[:5]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert len(trials) == 25


def test_it_goes_on_around_samples_others_have_tried():
    space = SearchSpace({"x": Integer(0, 4)})
    trials = search(Enqueue([{"x": 2}, {"x": 0}], then=GridSearch()), space, lambda sample: 0.0, 9)
    assert [trial.sample["x"] for trial in trials] == [2, 0, 1, 3, 4]


def test_it_starts_again_when_the_history_is_another():
    space = SearchSpace({"x": Integer(0, 4)})
    grid = GridSearch()
    trials = search(grid, space, lambda sample: 0.0, 3)
    assert grid.ask(space, trials, RNG) == {"x": 3}
    assert grid.ask(space, trials[:1], RNG) == {"x": 1}
    assert grid.ask(space, [Trial(0, {"x": 4})], RNG) == {"x": 0}


def test_conditions_hold_on_the_grid():
    space = SearchSpace({"op": Categorical(["a", "b"]), "p": Float(0, 1)}, {"p": Condition({"op": ["b"]})})
    trials = search(GridSearch(points=2), space, lambda sample: 0.0, 9)
    assert [trial.sample for trial in trials] == [{"op": "a"}, {"op": "b", "p": 0.0}, {"op": "b", "p": 1.0}]


def test_fewer_than_two_points_are_refused():
    with pytest.raises(ValueError, match=r"`points >= 2` must hold, but got 1"):
        GridSearch(points=1)
