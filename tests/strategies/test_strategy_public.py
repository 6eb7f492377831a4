"""The public list of `lightning_nas.strategies`, and what all its classes have in common."""

from __future__ import annotations

import ast
import dataclasses
import pickle
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from lightning_nas import strategies
from lightning_nas.space import Categorical, SearchSpace
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
    generator,
)
from lightning_nas.testing.strategies import bumpy_score, search

SPACE = SearchSpace({f"x{i}": Categorical(range(4)) for i in range(4)})

ALL = [
    Random(),
    GridSearch(),
    RegularizedEvolution(population_size=5, sample_size=2),
    LocalSearch(),
    TPE(),
    Anneal(),
    Dedup(Random(dedup=False)),
    Constrained(Random(), rule=bool),
    Enqueue([{f"x{i}": 0 for i in range(4)}], then=TPE()),
]


def test_the_table_equals_the_imports_that_type_checkers_see():
    tree = ast.parse(Path(strategies.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    found = {node.names[0].asname: node.module for node in block.body}
    assert found == {name: f"lightning_nas.strategies.{module}" for name, module in strategies._NAMES.items()}
    assert all(hasattr(strategies, name) and name in dir(strategies) for name in strategies.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Evolution'"):
        strategies.Evolution  # noqa: B018


@pytest.mark.parametrize("strategy", ALL, ids=lambda s: type(s).__name__)
def test_strategies_show_their_settings_and_nothing_else(strategy):
    before = repr(strategy)
    search(strategy, SPACE, bumpy_score(SPACE), 15)
    assert repr(strategy) == before
    assert "0x" not in before


@pytest.mark.parametrize("strategy", ALL, ids=lambda s: type(s).__name__)
def test_a_used_strategy_is_pickled_without_what_it_remembers(strategy):
    unused = len(pickle.dumps(dataclasses.replace(strategy)))
    trials = search(strategy, SPACE, bumpy_score(SPACE), 15)
    pickled = cloudpickle.dumps(strategy)
    assert len(pickle.dumps(strategy)) == unused
    again = pickle.loads(pickled)
    assert again == strategy
    assert again.ask(SPACE, trials, np.random.default_rng(0)) == strategy.ask(
        SPACE, trials, np.random.default_rng(0)
    )


@pytest.mark.parametrize("make", [Random, GridSearch, RegularizedEvolution, LocalSearch, TPE, Anneal])
def test_a_seed_of_its_own_replaces_the_experiments(make):
    assert generator(make(seed=0), 5, 3).random() == np.random.default_rng([0, 3]).random()
    assert generator(make(), 5, 3).random() == np.random.default_rng([5, 3]).random()
    for wrap in (Dedup, lambda s: Constrained(s, bool), lambda s: Enqueue([], then=s)):
        assert wrap(make(seed=7)).seed == 7
    for wrong in (-1, 1.5, True, "1"):
        with pytest.raises(ValueError, match=f"whole number >= 0, but got {wrong!r}"):
            make(seed=wrong)


def test_a_strategy_without_a_seed_takes_the_experiments():
    class AskOnly:
        def ask(self, space, trials, rng):
            return space.sample(rng)

    assert generator(AskOnly(), 4, 2).random() == np.random.default_rng([4, 2]).random()
    assert Enqueue([]).seed is None
