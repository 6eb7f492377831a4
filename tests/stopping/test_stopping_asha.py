"""ASHA: rungs and promotions worked out by hand from the paper's Algorithm 2."""

from __future__ import annotations

import math

import pytest
from histories import history, trial

from lightning_nas.stopping import ASHA
from lightning_nas.testing.stopping import race
from lightning_nas.trial import Status


def test_rungs_lie_below_the_end_of_the_training() -> None:
    assert ASHA(max_steps=81).rungs == (1, 3, 9, 27)
    assert ASHA(max_steps=82).rungs == (1, 3, 9, 27, 81)
    assert ASHA(max_steps=100, min_steps=5, reduction=4).rungs == (5, 20, 80)
    assert ASHA(max_steps=1).rungs == ()
    assert ASHA(max_steps=100, min_steps=5, reduction=4).trials_needed == 64


def test_a_trial_goes_on_if_it_is_in_the_best_third_of_those_that_reached_its_rung() -> None:
    held = history([0.1], [0.2], [0.3], [0.4], status=Status.PAUSED)  # with it five, of which one goes on
    for score, decision in ((0.5, "go"), (0.4, "pause"), (0.35, "pause")):
        new = trial(4, [score])
        assert ASHA(max_steps=9).decide(new, [*held, new]) == decision
    new = trial(5, [0.35])  # the sixth: now two
    assert ASHA(max_steps=9).decide(new, [*held, trial(4, [0.3], Status.PAUSED), new]) == "go"


def test_the_first_trial_waits_for_others() -> None:
    assert ASHA(max_steps=9).decide(trial(0, [0.9]), [trial(0, [0.9])]) == "pause"


def test_between_rungs_and_after_the_last_trials_go_on() -> None:
    others = history([0.9] * 8, [0.9] * 8)
    for steps in (2, 4, 8, 9):
        new = trial(2, [0.0] * steps)
        assert ASHA(max_steps=9).decide(new, [*others, new]) == "go"
    new = trial(2, [0.0] * 3)
    assert ASHA(max_steps=9).decide(new, [*others, new]) == "pause"


def test_a_rung_remembers_the_score_its_trials_had_there() -> None:
    """Trial 0 has got better since: at the rung after one step it had 0.1."""
    older, new = trial(0, [0.1, 0.9]), trial(1, [0.2])
    assert ASHA(max_steps=8, reduction=2).decide(new, [older, new]) == "go"


def test_the_best_promotable_trial_of_the_highest_rung_resumes_first() -> None:
    rule = ASHA(max_steps=9)
    low = history([0.1], [0.6], [0.3], [0.5], [0.2], [0.0], status=Status.PAUSED)
    assert rule.resume(low) == 1  # two of six, the better one first
    assert rule.resume([*low[:1], trial(1, [0.6]), *low[2:]]) == 3  # the other one
    assert rule.resume([low[0], trial(1, [0.6]), low[2], trial(3, [0.5]), *low[4:]]) is None
    assert rule.resume(low[:2]) is None  # of two no one is in the best third
    high = [trial(n, [0.9, 0.9, score], Status.PAUSED) for n, score in ((6, 0.1), (7, 0.3), (8, 0.2))]
    assert rule.resume([*low, *high]) == 7
    assert rule.resume([]) is None


def test_a_trial_that_was_promoted_once_is_not_promoted_again() -> None:
    """Three are at the rung, the best has gone on and come back to the next rung: nobody else may follow."""
    trials = [trial(0, [0.9, 0.1, 0.1], Status.PAUSED), *history([], [0.2], [0.3], status=Status.PAUSED)[1:]]
    assert ASHA(max_steps=9).resume(trials) is None


def test_equal_scores_go_to_the_earlier_trial_and_what_is_not_finite_never_goes_on() -> None:
    rule = ASHA(max_steps=9, reduction=2)
    assert rule.resume(history([0.5], [0.5], status=Status.PAUSED)) == 0
    diverged = history([-math.inf], [-math.inf], status=Status.PAUSED)
    assert rule.resume(diverged) is None


def test_failed_trials_keep_their_place_in_a_rung_but_do_not_go_on() -> None:
    rule = ASHA(max_steps=9, reduction=2)
    trials = [trial(0, [0.9], Status.FAILED), trial(1, [0.5], Status.PAUSED), trial(2, [0.1], Status.PAUSED)]
    assert rule.resume(trials) is None
    assert rule.resume([*trials, trial(3, [0.2], Status.PAUSED)]) == 1


def test_the_budget_is_the_next_rung_and_in_the_end_the_whole_training() -> None:
    rule = ASHA(max_steps=20)
    assert [rule.budget(trial(0, [0.0] * n), []) for n in (0, 1, 2, 3, 8, 9, 15)] == [1, 3, 3, 9, 9, 20, 20]
    assert ASHA().budget(trial(0, [0.0] * 100), []) == 243


def test_a_race_spends_what_the_halving_promises() -> None:
    """27 trials of increasing quality, one at a time: at each rung a third goes on, the last one all the way.

    Each new trial is the best so far, so the third is known only as trials come: those that were best when
    they came went on, which is what the paper says asynchrony costs.
    """
    curves = [[number / 100] * 27 for number in range(27)]
    falling = race(ASHA(max_steps=27), curves[::-1])
    reached = [sum(t.steps > rung for t in falling) for rung in (0, 1, 3, 9)]
    assert reached == [27, 9, 3, 1]
    assert [t.number for t in falling if t.status is Status.COMPLETED] == [0]
    assert sum(t.steps for t in falling) == 18 * 1 + 6 * 3 + 2 * 9 + 27
    rising = race(ASHA(max_steps=27), curves)
    assert [t.number for t in rising if t.status is Status.COMPLETED][-1] == 26
    assert sum(t.steps for t in rising) > 18 * 1 + 6 * 3 + 2 * 9 + 27


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_steps": 0}, "`max_steps` must be at least 1, but got 0"),
        (
            {"min_steps": 0},
            r"`1 <= min_steps <= max_steps` must hold, but got \(min_steps=0, max_steps=None\)",
        ),
        ({"min_steps": 5, "max_steps": 4}, r"got \(min_steps=5, max_steps=4\)"),
        ({"reduction": 1}, "`reduction` must be a whole number of at least 2, but got 1"),
        ({"reduction": 2.5}, "`reduction` must be a whole number of at least 2, but got 2.5"),
    ],
)
def test_wrong_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        ASHA(**settings)


def test_without_an_end_there_are_no_last_rung_and_no_number_of_trials() -> None:
    with pytest.raises(ValueError, match="Without `max_steps` there is no last rung"):
        ASHA().rungs  # noqa: B018
