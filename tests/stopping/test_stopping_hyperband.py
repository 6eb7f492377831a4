"""Hyperband: the brackets of the paper's Table 1, and synchronous halving within them."""

from __future__ import annotations

import math

import pytest
from histories import trial

from lightning_nas.stopping import Hyperband
from lightning_nas.stopping.hyperband import Bracket
from lightning_nas.testing.stopping import race
from lightning_nas.trial import Status, Trial


def test_the_brackets_are_those_of_the_paper() -> None:
    """Table 1 of the JMLR paper: R = 81, eta = 3."""
    found = [list(zip(b.counts, b.steps)) for b in Hyperband(max_steps=81).brackets]
    assert found == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]
    assert Hyperband(max_steps=81).round == 143


def test_rungs_are_whole_steps() -> None:
    """R = 60 as in NNI: 60/27, 60/9, 60/3 and 60 steps, rounded down."""
    assert Hyperband(max_steps=60).brackets[0].steps == (2, 6, 20, 60)
    assert Hyperband(max_steps=1).brackets == Hyperband(max_steps=1, reduction=2).brackets
    assert Hyperband(max_steps=1).round == 1


# R = 9, eta = 3: (9, 1) (3, 3) (1, 9); (5, 3) (1, 9); (3, 9). A round takes 17 trials.
NINE = Hyperband(max_steps=9)


def held(number: int, *scores: float) -> Trial:
    return trial(number, scores, Status.PAUSED)


def test_a_rung_waits_for_the_last_of_its_trials() -> None:
    first = [held(n, n / 10) for n in range(8)]
    assert NINE.resume(first) is None
    assert NINE.resume([*first, Trial(8, {})]) is None
    assert NINE.resume([*first, held(8, 0.0)]) == 7
    assert NINE.resume([*first, Trial(8, {}, Status.FAILED)]) == 7


def test_the_best_third_of_a_rung_goes_on_and_no_other() -> None:
    trials = [held(n, n / 10) for n in range(9)]
    order = []
    while (number := NINE.resume(trials)) is not None:
        order.append(number)
        trials[number] = trial(number, [number / 10], Status.RUNNING)
    assert order == [8, 7, 6]
    for number in order:
        trials[number] = held(number, number / 10, 0.0, -number / 10)
    assert NINE.resume(trials) == 6  # the best of the three at the next rung


def test_every_trial_is_paused_at_the_rungs_of_its_bracket() -> None:
    pauses = {}
    for number in (0, 8, 9, 13, 14, 16, 17):
        pauses[number] = [n for n in range(1, 10) if NINE.decide(trial(number, [0.5] * n), []) == "pause"]
    assert pauses == {0: [1, 3], 8: [1, 3], 9: [3], 13: [3], 14: [], 16: [], 17: [1, 3]}


def test_the_budget_of_a_trial_is_the_next_rung_of_its_bracket() -> None:
    assert [NINE.budget(trial(0, [0.5] * n), []) for n in (0, 1, 3)] == [1, 3, 9]
    assert [NINE.budget(trial(9, [0.5] * n), []) for n in (0, 3)] == [3, 9]
    assert NINE.budget(trial(14, []), []) == 9


def test_one_bracket_does_not_wait_for_another() -> None:
    second = [Trial(n, {}) for n in range(9)] + [held(n, 0.0, 0.0, n / 100) for n in range(9, 14)]
    assert NINE.resume(second) == 13


def test_a_failure_on_the_way_is_not_replaced() -> None:
    trials = [held(n, n / 10) for n in range(9)]
    trials[8] = trial(8, [0.8, 0.8], Status.FAILED)
    trials[7] = held(7, 0.7, 0.7, 0.7)
    trials[6] = held(6, 0.6, 0.6, 0.6)
    assert NINE.resume(trials) == 7  # of the two that came through, not trial 5


def test_what_is_not_finite_never_goes_on() -> None:
    assert NINE.resume([held(n, -math.inf) for n in range(9)]) is None


def test_a_round_takes_the_steps_of_its_table() -> None:
    """9*1 + 3*2 + 1*6, 5*3 + 1*6 and 3*9 steps, in whatever order the trials run."""
    curves = [[number / 100] * 9 for number in range(17)]
    for concurrency in (1, 4):
        trials = race(NINE, curves, concurrency=concurrency, seed=concurrency)
        assert sum(t.steps for t in trials) == 9 + 6 + 6 + 15 + 6 + 27
        assert [t.number for t in trials if t.status is Status.COMPLETED] == [8, 13, 14, 15, 16]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_steps": 0}, "`max_steps` must be at least 1"),
        ({"reduction": 0}, "`reduction` must be a whole number"),
        ({"max_steps": 3, "min_steps": 4}, "`1 <= min_steps <= max_steps` must hold"),
    ],
)
def test_wrong_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Hyperband(**settings)


def test_without_its_horizon_there_are_no_brackets() -> None:
    with pytest.raises(ValueError, match="`max_steps` of Hyperband must be given"):
        Hyperband().brackets  # noqa: B018


def test_no_rung_lies_below_the_lowest_that_is_asked_for() -> None:
    assert Hyperband(81, min_steps=9).brackets == tuple(
        Bracket(counts, steps)
        for counts, steps in (((9, 3, 1), (9, 27, 81)), ((5, 1), (27, 81)), ((3,), (81,)))
    )
    assert Hyperband(9, min_steps=1) == NINE
