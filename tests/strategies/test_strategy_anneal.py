"""Annealing: whom it draws near, and how near."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_nas.space import Categorical, Float, SearchSpace
from lightning_nas.strategies import Anneal, Random
from lightning_nas.trial import Status, Trial

SPACE = SearchSpace({"x": Float(0.0, 1.0), "op": Categorical(range(50))})


def history(n):
    """n trials around x = 0.5; the best has op 0, the next op 1, and so on."""
    return [Trial(i, {"x": 0.5, "op": i}, Status.COMPLETED, score=-float(i)) for i in range(n)]


def asked(strategy, trials, n=400):
    return [strategy.ask(SPACE, trials, np.random.default_rng([0, i])) for i in range(n)]


@pytest.mark.parametrize("n", [2, 10, 40])
def test_the_window_shrinks_with_the_trials(n):
    """Uniform within 1 / (1 + 0.1 n) around the value; the largest of 400 draws is near its end."""
    half = 0.5 / (1 + 0.1 * n)
    away = [abs(sample["x"] - 0.5) for sample in asked(Anneal(), history(n))]
    assert 0.95 * half < max(away) <= half


def test_a_label_without_order_is_redrawn_with_that_probability():
    """5 standard errors; the best trial is always taken, and one of 50 redraws gives its value again."""
    p = 1 / (1 + 0.1 * 10) * 49 / 50
    changed = np.mean([sample["op"] != 0 for sample in asked(Anneal(mean_rank=1), history(10))])
    assert abs(changed - p) < 5 * np.sqrt(p * (1 - p) / 400)


def test_the_rank_is_geometric():
    """With a window of zero only the rank decides: the r-th best with 1/2^r; 5 standard errors."""
    frozen = Anneal(shrinkage=1e9, dedup=False)
    found = [sample["op"] for sample in asked(frozen, history(8))]
    for rank in range(3):
        p = 0.5 ** (rank + 1)
        assert abs(found.count(rank) / 400 - p) < 5 * np.sqrt(p * (1 - p) / 400)


def test_without_scores_it_is_random_search():
    trials = [Trial(0, {"x": 0.5, "op": 0}, Status.FAILED), Trial(1, {"x": 0.5, "op": 1})]
    assert asked(Anneal(), trials, 5) == asked(Random(), trials, 5)


@pytest.mark.parametrize("arguments", [{"mean_rank": 0.5}, {"shrinkage": -0.1}])
def test_wrong_settings_are_refused(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"must hold, but got .*{name}={value}"):
        Anneal(**arguments)
