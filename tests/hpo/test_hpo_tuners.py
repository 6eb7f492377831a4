"""Tuners by NNI's names, and our strategies on all of NNI's types."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lightning_nas.hpo import make_strategy, read_space
from lightning_nas.hpo.tuners import TunerError
from lightning_nas.space import Sample, SearchSpace
from lightning_nas.strategies import (
    TPE,
    Anneal,
    GridSearch,
    LocalSearch,
    Random,
    RegularizedEvolution,
    Strategy,
)
from lightning_nas.trial import Status, Trial

ALL_TYPES = {
    "choice": {"_type": "choice", "_value": ["a", "b"]},
    "nested": {
        "_type": "choice",
        "_value": [{"_name": "none"}, {"_name": "some", "x": {"_type": "normal", "_value": [0, 1]}}],
    },
    "randint": {"_type": "randint", "_value": [0, 5]},
    "uniform": {"_type": "uniform", "_value": [0, 1]},
    "quniform": {"_type": "quniform", "_value": [2, 10, 5]},
    "loguniform": {"_type": "loguniform", "_value": [0.001, 1]},
    "qloguniform": {"_type": "qloguniform", "_value": [1, 100, 3]},
    "normal": {"_type": "normal", "_value": [0, 2]},
    "qnormal": {"_type": "qnormal", "_value": [0, 2, 0.5]},
    "lognormal": {"_type": "lognormal", "_value": [0, 1]},
    "qlognormal": {"_type": "qlognormal", "_value": [0, 1, 1]},
}


def searched(
    strategy: Strategy, space: SearchSpace, score: Callable[[Sample], float], n: int, seed: int = 0
) -> list[Trial]:
    trials: list[Trial] = []
    for number in range(n):
        sample = strategy.ask(space, trials, np.random.default_rng([seed, number]))
        if sample is None:
            break
        assert space.why_not(sample) is None
        value = score(sample)
        trials.append(Trial(number, sample, Status.COMPLETED, {"default": value}, value))
    return trials


@pytest.mark.parametrize(
    "strategy",
    [
        Random(),
        TPE(startup_trials=4),
        Anneal(),
        GridSearch(),
        LocalSearch(),
        RegularizedEvolution(6, 2),
    ],
    ids=lambda each: type(each).__name__,
)
def test_every_strategy_searches_all_ten_types(strategy: Strategy) -> None:
    space = read_space(ALL_TYPES).space
    trials = searched(strategy, space, lambda sample: -abs(sample["normal"] - 1), 14)
    assert len({space.key(trial.sample) for trial in trials}) == 14


def test_tpe_comes_nearer_than_random_search_on_normals() -> None:
    space = read_space({k: ALL_TYPES[k] for k in ("normal", "lognormal")}).space

    def score(sample: Sample) -> float:
        return -abs(sample["normal"] - 3) - abs(math.log(sample["lognormal"]) + 1.5)

    def median(make: Callable[[], Strategy]) -> float:
        return float(
            np.median([max(t.score for t in searched(make(), space, score, 40, i)) for i in range(7)])
        )

    # Medians of seven searches of 40 trials: random search is between -0.8 and -1.3 in five such lots, TPE
    # between -0.2 and -0.45.
    assert median(TPE) > median(Random) + 0.2


def test_a_grid_puts_normals_at_the_middles_of_equally_likely_parts() -> None:
    space = read_space({"x": {"_type": "normal", "_value": [10, 2]}}).space
    trials = searched(GridSearch(points=3), space, lambda _: 0.0, 9)
    # The normal quantiles at 1/6, 1/2 and 5/6 lie 0.9674 deviations off the mean.
    assert [trial.sample["x"] for trial in trials] == pytest.approx([8.0652, 10, 11.9348], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "arguments", "strategy", "mode", "default_mode"),
    [
        ("TPE", {}, TPE(startup_trials=20), None, "min"),
        ("tpe", {"optimize_mode": "maximize", "seed": 3}, TPE(startup_trials=20, seed=3), "max", "min"),
        (
            "Tpe",
            {"tpe_args": {"n_startup_jobs": 5, "n_ei_candidates": 9, "gamma": 0.25}},
            TPE(startup_trials=5, candidates=9),
            None,
            "min",
        ),
        ("RANDOM", {"optimize_mode": "minimize"}, Random(), "min", "max"),
        ("GridSearch", {}, GridSearch(), None, "max"),
        ("anneal", {}, Anneal(), None, "min"),
        ("Evolution", {"population_size": 9}, RegularizedEvolution(9, 2), None, "max"),
        ("BatchTuner", {}, GridSearch(), None, "max"),
    ],
)
def test_a_name_of_nnis_gives_the_strategy(
    name: str, arguments: dict[str, Any], strategy: Strategy, mode: str | None, default_mode: str
) -> None:
    made = make_strategy(name, arguments)
    assert (made.strategy, made.mode, made.default_mode) == (strategy, mode, default_mode)
    assert made.is_batch == (name == "BatchTuner")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "GP",
            {},
            "the tuner GP has no counterpart here; there are TPE, Random, GridSearch, Anneal, Evolution",
        ),
        ("Hyperband", {}, "the tuner Hyperband has no counterpart here"),
        ("Evolutoin", {}, "there is no tuner 'Evolutoin'; did you mean Evolution?"),
        ("xyz", {}, "there is no tuner 'xyz'; there are TPE"),
        (
            "Random",
            {"sed": 1},
            "the tuner Random has no argument 'sed' here; it may have optimize_mode, seed",
        ),
        ("Random", {"seed": -1}, "the tuner Random cannot be made of {'seed': -1}"),
        ("Evolution", {"population_size": 0}, "cannot be made of"),
        ("TPE", {"tpe_args": {"prior_weight": 2}}, "prior_weight=2 has no counterpart here"),
        ("TPE", {"tpe_args": {"n_startup": 2}}, "it has no argument 'n_startup'"),
    ],
)
def test_another_name_or_argument_is_refused_by_name(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TunerError, match=message):
        make_strategy(name, arguments)
