"""Local search: its steps, its climbs and restarts, and the model that orders the steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_nas.space import Categorical, Condition, Float, Integer, SearchSpace, Subset
from lightning_nas.strategies import LocalSearch, Random
from lightning_nas.strategies.moves import drawn_near, steps
from lightning_nas.strategies.promise import features, promise
from lightning_nas.testing.domains import domains, generators, search_spaces
from lightning_nas.testing.strategies import search
from lightning_nas.trial import Status, Trial

TABLE = np.random.default_rng(0).random((4, 4))
SPACE = SearchSpace({f"x{i}": Categorical(range(4)) for i in range(4)})


def additive(sample):
    return float(sum(TABLE[i, sample[f"x{i}"]] for i in range(4)))


def completed(number, sample, score):
    return Trial(number, sample, Status.COMPLETED, score=score)


def plain(**settings):
    return LocalSearch(**{"initial": 1, "patience": None, "guided": False, **settings})


# -- steps --------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(search_spaces(max_labels=4, finite=True, max_size=4), generators())
def test_in_small_domains_the_steps_are_the_neighbours(space, rng):
    sample = space.sample(rng)
    keys = list(map(space.key, steps(space, sample)))
    assert len(set(keys)) == len(keys)
    assert set(keys) == set(map(space.key, space.neighbours(sample)))


@settings(max_examples=40)
@given(search_spaces(max_labels=4), generators())
def test_steps_are_other_samples_of_the_space(space, rng):
    sample = space.sample(rng)
    for step in steps(space, sample):
        assert space.contains(step)
        assert space.key(step) != space.key(sample)


def test_a_number_steps_by_halves_of_its_range():
    space = SearchSpace({"x": Float(0.0, 64.0)})
    found = sorted(step["x"] for step in steps(space, {"x": 16.0}))
    assert found == [0.0, 8.0, 12.0, 14.0, 15.0, 17.0, 18.0, 20.0, 24.0, 32.0, 48.0]


def test_a_large_subset_gains_loses_or_swaps_a_member():
    space = SearchSpace({"x": Subset(list("abcdef"), size=(1, 3))})
    found = [step["x"] for step in steps(space, {"x": ["a", "c", "d"]})]
    assert len(found) == 3 + 3 * 3
    assert all(len(set(members) & {"a", "c", "d"}) == 2 for members in found)


@settings(max_examples=60)
@given(domains(), generators(), st.floats(0, 1))
def test_a_draw_near_a_value_stays_in_the_domain_and_the_window(domain, rng, width):
    value = domain.sample(rng)
    near = drawn_near(domain, value, width, rng)
    assert near in domain
    if isinstance(domain, Float) and domain.step is None:
        assert abs(domain.encode(near) - domain.encode(value)) <= width / 2 + 1e-6
    if width == 0 and isinstance(domain, (Categorical, Integer, Subset)):
        assert domain.key(near) == domain.key(value)


# -- climbs -------------------------------------------------------------------------------------


def test_the_first_climb_ends_at_the_top_of_an_additive_function():
    """It has one local optimum; a climb tries at most 12 steps from each of at most 13 samples."""
    for seed in range(5):
        trials = search(plain(), SPACE, additive, 60, seed=seed)
        assert max(trial.score for trial in trials) == pytest.approx(TABLE.max(axis=1).sum())


def test_each_step_starts_from_the_best_of_the_climb():
    trials = search(plain(), SPACE, additive, 30)
    best = trials[0]
    for trial in trials[1:]:
        if best.score == pytest.approx(TABLE.max(axis=1).sum()):
            break
        assert sum(best.sample[label] != trial.sample[label] for label in SPACE) == 1
        best = max(best, trial, key=lambda t: t.score)


def test_a_climb_without_progress_ends_and_the_next_starts_at_random():
    start = {f"x{i}": 0 for i in range(4)}
    trials = [completed(0, start, 1.0)]
    trials += [completed(i, {**start, "x0": i}, 0.0) for i in (1, 2)]
    for patience, is_over in ((2, True), (3, False)):
        sample = plain(patience=patience).ask(SPACE, trials, np.random.default_rng(1))
        anew = Random().ask(SPACE, trials, np.random.default_rng(1))
        assert (sample == anew) is is_over
        assert (sum(sample[label] != 0 for label in SPACE) == 1) is not is_over


def test_a_failure_is_a_step_without_progress_but_a_running_trial_is_none():
    start = {f"x{i}": 0 for i in range(4)}
    over = [completed(0, start, 1.0), completed(1, {**start, "x0": 1}, 0.0)]
    anew = np.random.default_rng(1)
    for status, is_over in ((Status.FAILED, True), (Status.RUNNING, False)):
        trials = [*over, Trial(2, {**start, "x0": 2}, status)]
        sample = plain(patience=2).ask(SPACE, trials, np.random.default_rng(1))
        anew = Random().ask(SPACE, trials, np.random.default_rng(1))
        assert (sample == anew) is is_over


def test_each_climb_starts_with_its_random_samples():
    """Two workers of a climb of three random samples: the first four asks are random."""
    trials = []
    strategy = LocalSearch(initial=3)
    for number in range(3):
        rngs = [np.random.default_rng([0, number]) for _ in range(2)]
        sample = strategy.ask(SPACE, trials, rngs[0])
        assert sample == Random().ask(SPACE, trials, rngs[1])
        trials.append(completed(number, sample, float(number)))
    sample = strategy.ask(SPACE, trials, np.random.default_rng(3))
    assert sum(sample[label] != trials[-1].sample[label] for label in SPACE) == 1


def test_the_model_finds_the_top_of_a_large_additive_function_sooner():
    """Eight labels of eight values; the sum of four searches after 50 trials each."""
    table = np.random.default_rng(1).random((8, 8))
    space = SearchSpace({f"x{i}": Categorical(range(8)) for i in range(8)})

    def score(sample):
        return float(sum(table[i, sample[f"x{i}"]] for i in range(8)))

    def total(strategy):
        return sum(max(t.score for t in search(strategy, space, score, 50, seed=s)) for s in range(4))

    assert total(LocalSearch()) > total(LocalSearch(guided=False)) > total(Random())


# -- the model ----------------------------------------------------------------------------------


def test_features_are_flags_codes_and_hats():
    space = SearchSpace(
        {"op": Categorical(["a", "b"]), "p": Float(0.0, 1.0), "s": Subset(["x", "y", "z"])},
        {"p": Condition({"op": ["b"]})},
    )
    np.testing.assert_allclose(
        features(space, {"op": "b", "p": 0.3, "s": ["x", "z"]}),
        [1, 0, 1, 1, 0, 0.8, 0.2, 0, 0, 1, 1, 0, 1],
    )
    assert features(space, {"op": "a", "s": []}).tolist() == [1, 1, 0] + [0] * 6 + [1, 0, 0, 0]
    assert features(SearchSpace({}), {}).shape == (0,)


def test_promise_by_hand():
    """Two trials of one feature: targets log(2) / 2 and minus that, weight half of the first."""
    known, scores, ahead = np.array([[0.0], [1.0]]), np.array([0.0, 5.0]), np.array([[1.0], [2.0]])
    mean, error = math.log(2) / 2 / 2, math.sqrt(1 / 2)
    np.testing.assert_allclose(promise(known, scores, ahead), [mean + error, 2 * (mean + error)])


def test_promise_depends_on_ranks_and_puts_all_failures_last():
    rng = np.random.default_rng(0)
    known, ahead = rng.random((6, 3)), rng.random((4, 3))
    scores = np.array([3.0, 1.0, 2.0, -np.inf, 0.0, -np.inf])
    stretched = np.where(np.isneginf(scores), scores, np.exp(scores))
    np.testing.assert_allclose(promise(known, scores, ahead), promise(known, stretched, ahead))
    swapped = [0, 1, 2, 5, 4, 3]
    np.testing.assert_allclose(promise(known, scores, ahead), promise(known[swapped], scores[swapped], ahead))


@pytest.mark.parametrize("arguments", [{"initial": 0}, {"patience": 0}])
def test_wrong_settings_are_refused(arguments):
    with pytest.raises(ValueError, match=r"`initial >= 1` and `patience >= 1` must hold.*=0"):
        LocalSearch(**arguments)
