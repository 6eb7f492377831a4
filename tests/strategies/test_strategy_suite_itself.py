"""The published suite finds what it is there to find: each wrong strategy fails the law it breaks."""

from __future__ import annotations

import functools
import random

import pytest
from hypothesis import Phase, settings
from hypothesis.errors import Flaky

from lightning_nas.strategies import Random
from lightning_nas.testing.strategies import StrategySuite


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    """No time is spent on making failures small, and the global generator comes back as it was."""
    hasty = functools.partial(settings, phases=(Phase.generate,))
    monkeypatch.setattr("lightning_nas.testing.strategies.settings", hasty)
    state = random.getstate()
    yield
    random.setstate(state)


class Wrong:
    """A strategy made of a function."""

    def __init__(self, ask):
        self._ask = ask
        self.calls = 0

    def ask(self, space, trials, rng):
        self.calls += 1
        return self._ask(self, space, trials, rng)


def adds_a_label(self, space, trials, rng):
    return {**space.sample(rng), "one more": 1}


def draws_from_elsewhere(self, space, trials, rng):
    if random.random() < 0.5:
        rng.random()
    return space.sample(rng)


def counts_its_calls(self, space, trials, rng):
    for _ in range(self.calls):
        rng.random()
    return space.sample(rng)


def walks_the_order_of_the_mapping(self, space, trials, rng):
    rng.random(sum(map(ord, next(iter(trials[-1].sample), "")))) if trials else None
    return space.sample(rng)


def writes_into_the_history(self, space, trials, rng):
    if trials:
        trials[-1].sample.clear()
    return space.sample(rng)


def wants_scores(self, space, trials, rng):
    if trials:
        max(trials, key=lambda trial: trial.score + 0.0)
    return Random().ask(space, trials, rng)


def overlooks_running_trials(self, space, trials, rng):
    return Random().ask(space, [trial for trial in trials if trial.status.is_final], rng)


def never_ends(self, space, trials, rng):
    return space.sample(rng)


def ends_early(self, space, trials, rng):
    return None if len(trials) == 2 else Random().ask(space, trials, rng)


@pytest.mark.parametrize(
    ("ask", "law"),
    [
        (adds_a_label, "samples_lie_in_the_space"),
        (draws_from_elsewhere, "only_the_generator_is_random"),
        (draws_from_elsewhere, "same_seed_same_samples"),
        (counts_its_calls, "resuming_equals_one_go"),
        (counts_its_calls, "one_object_serves_several_searches"),
        (walks_the_order_of_the_mapping, "permuted_labels_do_not_matter"),
        (writes_into_the_history, "asking_changes_nothing"),
        (counts_its_calls, "asking_changes_nothing"),
        (wants_scores, "failures_are_survived"),
        (overlooks_running_trials, "parallel_asks_do_not_repeat"),
        (never_ends, "the_search_ends_when_nothing_is_left"),
        (ends_early, "the_search_ends_when_nothing_is_left"),
    ],
    ids=lambda item: getattr(item, "__name__", item),
)
def test_a_wrong_strategy_fails(ask, law):
    class Suite(StrategySuite):
        examples = 60

        def strategy(self):
            return Wrong(ask)

    with pytest.raises((AssertionError, TypeError, Flaky)):
        getattr(Suite(), f"test_{law}")()
