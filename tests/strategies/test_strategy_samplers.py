"""GP and CMA-ES: the published suite, what is their own, and what is said where their packages are missing."""

from __future__ import annotations

import importlib.util
import math
import pickle
from dataclasses import replace

import numpy as np
import optuna
import pytest

from lightning_nas.space import Categorical, Condition, Float, Integer, SearchSpace
from lightning_nas.strategies import CMAES, GP, Random, Strategy, generator
from lightning_nas.testing.strategies import StrategySuite, bumpy_score, search
from lightning_nas.trial import Status, Trial

needs_samplers = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("scipy", "cmaes")),
    reason='needs the extra "samplers" (it is part of "dev")',
)

SPACE = SearchSpace({f"x{i}": Categorical(range(4)) for i in range(2)} | {"y": Integer(0, 9)})
BALL = SearchSpace({f"x{i}": Float(-5.0, 5.0) for i in range(3)})
CONDITIONAL = SearchSpace(
    {"op": Categorical(["a", "b"]), "x": Float(0, 1), "y": Float(0, 1)},
    {"x": Condition({"op": ["a"]}), "y": Condition({"op": ["b"]})},
)


def near_one(sample):
    return -sum((value - 1) ** 2 for value in sample.values())


@needs_samplers
class TestCMAES(StrategySuite):
    def strategy(self) -> Strategy:
        return CMAES(population_size=4)


@needs_samplers
class TestCMAESWithRepeats(StrategySuite):
    repeats = True

    def strategy(self) -> Strategy:
        return CMAES(dedup=False)


@needs_samplers
@pytest.mark.slow
class TestGP(StrategySuite):
    examples = 2
    budget = 6

    def strategy(self) -> Strategy:
        return GP(startup_trials=3)


@needs_samplers
@pytest.mark.slow
class TestGPWithRepeats(TestGP):
    repeats = True

    def strategy(self) -> Strategy:
        return GP(startup_trials=3, dedup=False)


@needs_samplers
@pytest.mark.parametrize("make", [GP, CMAES])
def test_a_used_strategy_shows_and_pickles_its_settings_alone(make):
    strategy = make(seed=3)
    shown, unused = repr(strategy), pickle.dumps(make(seed=3))
    trials = search(strategy, SPACE, bumpy_score(SPACE), 12)
    assert (repr(strategy), pickle.dumps(strategy)) == (shown, unused)
    again = pickle.loads(unused)
    asked = [each.ask(SPACE, trials, np.random.default_rng(0)) for each in (strategy, again)]
    assert asked[0] == asked[1]
    assert generator(strategy, 5, 2).random() == np.random.default_rng([3, 2]).random()
    with pytest.raises(ValueError, match="whole number >= 0, but got -1"):
        make(seed=-1)


@needs_samplers
@pytest.mark.slow
def test_a_gaussian_process_needs_few_trials_for_a_ball():
    """Three dimensions, 24 trials, medians of three searches: random search is at -3.7 or so, GP near 0."""

    def median(strategy):
        return np.median(
            [max(t.score for t in search(strategy, BALL, near_one, 24, seed=s)) for s in range(3)]
        )

    assert median(Random()) < -0.5
    assert median(GP()) > -0.05


@needs_samplers
def test_cma_es_closes_in_on_the_middle_of_a_ball():
    """Its last 30 of 150 trials score better than its first 30 by far; 20 generations of 7."""
    trials = search(CMAES(), BALL, near_one, 150)
    first, last = (np.median([t.score for t in part]) for part in (trials[:30], trials[-30:]))
    assert first < -3
    assert last > -0.5


@needs_samplers
def test_cma_es_is_that_of_the_package():
    """The same generations told to the package itself give the same draw."""
    from cmaes import CMA

    trials = search(Random(), BALL, near_one, 16)
    theirs = CMA(np.full(3, 0.5), 0.2, bounds=np.array([[0.0, 1.0]] * 3), population_size=5)
    for start in (0, 5, 10):
        codes = [np.array([(v + 5) / 10 for v in t.sample.values()]) for t in trials[start : start + 5]]
        theirs.tell([(code, -t.score) for code, t in zip(codes, trials[start : start + 5])])
    theirs.reseed_rng(int(np.random.default_rng(4).integers(2**32)))
    asked = CMAES(population_size=5, sigma=0.2).ask(BALL, trials, np.random.default_rng(4))
    assert list(asked.values()) == pytest.approx(10 * theirs.ask() - 5)


@needs_samplers
def test_a_late_score_counts_in_its_place():
    """A fresh object, and one that knew a trial as running, agree."""
    trials = search(Random(), BALL, near_one, 14)
    for make in (GP, lambda: CMAES(population_size=4)):
        used = make()
        used.ask(BALL, [*trials[:2], Trial(2, trials[2].sample), *trials[3:]], np.random.default_rng(0))
        asked = [each.ask(BALL, trials, np.random.default_rng(1)) for each in (used, make())]
        assert asked[0] == asked[1]


@needs_samplers
def test_a_gaussian_process_learns_labels_that_have_conditions():
    rng = np.random.default_rng(0)
    trials = []
    for number in range(16):
        sample = CONDITIONAL.sample(rng)
        score = 1 + sample["x"] if "x" in sample else sample["y"]
        trials.append(Trial(number, sample, Status.COMPLETED, score=score))
    asked = [GP().ask(CONDITIONAL, trials, np.random.default_rng(i)) for i in range(5)]
    assert all(sample["op"] == "a" and sample["x"] > 0.85 for sample in asked)


@needs_samplers
def test_a_label_that_is_not_active_leaves_the_mean_of_its_number():
    trials = [
        Trial(i, {"op": "b", "y": y}, Status.COMPLETED, score=y) for i, y in enumerate([0.5, 0.6, 0.7, 0.8])
    ]
    strategy = CMAES(population_size=4)
    strategy.ask(CONDITIONAL, trials, np.random.default_rng(0))
    mean = strategy._memo._cma.mean
    assert mean[0] == 0.5
    assert mean[1] > 0.65


@needs_samplers
def test_a_gaussian_process_says_nothing_and_changes_no_setting_of_optuna(capfd, recwarn):
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        search(GP(startup_trials=3), SPACE, bumpy_score(SPACE), 5)
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@needs_samplers
@pytest.mark.parametrize("worst", [4, 1])
def test_trials_that_diverged_are_the_worst(worst):
    """Every fourth, or every one, was paused with a metric that was not finite."""
    trials = search(Random(), BALL, near_one, 12)
    trials = [replace(t, score=t.score if t.number % worst else -math.inf) for t in trials]
    for strategy in (GP(), CMAES(population_size=4)):
        assert BALL.contains(strategy.ask(BALL, trials, np.random.default_rng(0)))


@needs_samplers
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GP(startup_trials=0), "`startup_trials >= 1` must hold, but got 0"),
        (lambda: CMAES(population_size=3), "`population_size >= 4` must hold, but got 3"),
        (lambda: CMAES(sigma=0.0), "`sigma > 0` must hold, but got 0.0"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("make", "package"), [(GP, "scipy"), (CMAES, "cmaes")])
def test_a_missing_package_is_named_with_the_remedy(make, package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=rf'needs the package {package}.*pip install "lightning-nas\[samplers\]"'
    ):
        make()
