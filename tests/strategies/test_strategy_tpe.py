"""TPE: that it is Optuna's, what it makes of running and failed trials, and how quiet it is."""

from __future__ import annotations

import logging

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lightning_nas.space import Categorical, Condition, Float, Integer, SearchSpace, Subset
from lightning_nas.strategies import TPE, Random
from lightning_nas.testing.strategies import bumpy_score, search
from lightning_nas.trial import Status, Trial

LINE = SearchSpace({"x": Float(0.0, 1.0)})


def completed(number, sample, score):
    return Trial(number, sample, Status.COMPLETED, score=score)


def on_a_line(*positions, score):
    return [completed(i, {"x": x}, score(x)) for i, x in enumerate(positions)]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_its_densities_are_optunas():
    """The same history and seed, in Optuna's own words for the same space, give the same sample."""
    space = SearchSpace(
        {
            "a": Categorical(["p", "q", "r"]),
            "b": Float(1e-4, 1.0, log=True),
            "c": Integer(-3, 12),
            "d": Float(-5.0, 5.0),
            "e": Float(0.5, 2.0, step=0.25),
        }
    )
    theirs = {
        "a": CategoricalDistribution(["p", "q", "r"]),
        "b": FloatDistribution(1e-4, 1.0, log=True),
        "c": IntDistribution(-3, 12),
        "d": FloatDistribution(-5.0, 5.0),
        "e": FloatDistribution(0.5, 2.0, step=0.25),
    }
    trials = search(Random(), space, bumpy_score(space), 25)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler())
    for trial in trials:
        study.add_trial(optuna.create_trial(value=trial.score, params=trial.sample, distributions=theirs))
    for seed in range(10):
        ours = TPE(dedup=False).ask(space, trials, np.random.default_rng(seed))
        drawn = int(np.random.default_rng(seed).integers(2**32))
        sampler = optuna.samplers.TPESampler(
            seed=drawn, multivariate=True, constant_liar=True, n_startup_trials=0
        )
        study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.RUNNING))
        running = study.get_trials(deepcopy=False)[-1]
        expected = sampler.sample_relative(study, running, theirs)
        study.tell(running.number, state=optuna.trial.TrialState.FAIL)
        assert ours.pop("a") == expected.pop("a")
        assert ours == pytest.approx(expected)


def test_higher_is_better():
    trials = on_a_line(*np.linspace(0, 1, 30), score=lambda x: x)
    asked = [TPE().ask(LINE, trials, np.random.default_rng(i))["x"] for i in range(20)]
    assert min(asked) > 0.5


def test_until_there_are_scores_it_is_random_search():
    trials = [Trial(i, {"x": i / 30}, Status.FAILED) for i in range(30)]
    trials[:9] = on_a_line(*np.linspace(0, 0.5, 9), score=lambda x: x)
    first, second = (s.ask(LINE, trials, np.random.default_rng(1)) for s in (TPE(), Random()))
    assert first == second


@pytest.mark.parametrize("status", [Status.RUNNING, Status.FAILED])
def test_it_keeps_away_from_running_and_failed_trials(status):
    """All that is known is even; with ten such trials at the left end it asks further to the right."""
    trials = on_a_line(*np.linspace(0, 1, 20), score=lambda x: 0.0)
    there = [Trial(20 + i, {"x": 0.001 * i}, status) for i in range(20)]

    def mean(trials):
        return np.mean([TPE().ask(LINE, trials, np.random.default_rng(i))["x"] for i in range(40)])

    assert mean(trials + there) > mean(trials) + 0.05


def test_a_score_that_arrives_late_counts():
    """A fresh object, and one that knew the trial as running, agree."""
    trials = on_a_line(*np.linspace(0, 1, 15), score=lambda x: -((x - 0.3) ** 2))
    used = TPE()
    running = [*trials[:4], Trial(4, trials[4].sample), *trials[5:]]
    used.ask(LINE, running, np.random.default_rng(0))
    assert used.ask(LINE, trials, np.random.default_rng(1)) == TPE().ask(
        LINE, trials, np.random.default_rng(1)
    )


def test_labels_of_a_condition_learn_from_the_trials_that_had_them():
    space = SearchSpace(
        {"op": Categorical(["a", "b"]), "x": Float(0, 1), "y": Float(0, 1)},
        {"x": Condition({"op": ["a"]}), "y": Condition({"op": ["b"]})},
    )
    rng = np.random.default_rng(0)
    trials = []
    for number in range(60):
        sample = space.sample(rng)
        trials.append(completed(number, sample, 1 + sample["x"] if "x" in sample else sample["y"]))
    asked = [TPE().ask(space, trials, np.random.default_rng(i)) for i in range(20)]
    assert sum(sample["op"] == "a" for sample in asked) >= 15
    assert np.mean([sample["x"] for sample in asked if "x" in sample]) > 0.7


def test_subsets_have_the_size_they_may_have():
    space = SearchSpace({"s": Subset(range(6), size=(2, 3)), "t": Subset(["only"], size=1)})

    def score(sample):
        return float(sum(sample["s"]))

    trials = search(TPE(dedup=False), space, score, 40)
    assert all(space.contains(trial.sample) for trial in trials)
    assert max(trial.score for trial in trials) == 3 + 4 + 5


def test_a_repeat_is_mutated_until_it_is_new():
    space = SearchSpace({f"x{i}": Categorical(range(3)) for i in range(4)})
    near = [sample for sample in space.enumerate() if sum(value > 0 for value in sample.values()) <= 3]
    trials = [completed(i, sample, -float(sum(sample.values()))) for i, sample in enumerate(near)]
    repeats = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        expected = TPE(dedup=False).ask(space, trials, rng)
        while expected in near:
            expected = space.mutate(expected, rng)
            repeats += 1
        assert TPE().ask(space, trials, np.random.default_rng(seed)) == expected
    assert repeats > 0


def test_it_beats_random_search():
    """A sphere in three dimensions, 30 trials, the medians of four searches."""
    space = SearchSpace({f"x{i}": Float(-5.0, 5.0) for i in range(3)})

    def score(sample):
        return -sum((value - 1) ** 2 for value in sample.values())

    def best_scores(strategy):
        return [max(t.score for t in search(strategy, space, score, 30, seed=s)) for s in range(4)]

    assert np.median(best_scores(TPE())) > np.median(best_scores(Random()))


def test_it_says_nothing_and_changes_no_setting_of_optuna(capfd, recwarn):
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        space = SearchSpace({"a": Categorical(["p", "q"]), "b": Float(0, 1)}, {"b": Condition({"a": ["q"]})})
        search(TPE(), space, bumpy_score(space), 14)
        assert optuna.logging.get_verbosity() == logging.DEBUG
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize("arguments", [{"startup_trials": 0}, {"candidates": 0}])
def test_wrong_settings_are_refused(arguments):
    with pytest.raises(ValueError, match=r"`startup_trials >= 1` and `candidates >= 1` must hold.*=0"):
        TPE(**arguments)
