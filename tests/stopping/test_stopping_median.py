"""The median rule, with medians of running averages worked out by hand."""

from __future__ import annotations

import math

import pytest
from histories import history, trial

from lightning_nas.stopping import MedianStop
from lightning_nas.trial import Intermediate, Status, Trial

# Averages of the first two reports: 0.25, 0.5, 0.75, 1.
FOUR = history([0.0, 0.5, 2.0], [0.25, 0.75, 2.0], [0.5, 1.0, 2.0], [0.75, 1.25, 2.0])


@pytest.mark.parametrize(
    ("others", "reports", "decision"),
    [
        (FOUR, [0.0, 0.49], "stop"),  # below 0.5, the lower of the two averages in the middle
        (FOUR, [0.0, 0.5], "go"),  # equal is not worse
        (FOUR, [0.55, 0.0], "go"),  # the best report counts, not the last
        (FOUR[:3], [0.0, 0.49], "stop"),
        (FOUR[:3], [0.0, 0.51], "go"),
        (FOUR[:1], [0.0, 0.24], "stop"),
        (FOUR[:1], [0.0, 0.26], "go"),
        (FOUR, [0.0, 0.0, 0.0, 0.0], "go"),  # nobody has come so far
        ([], [0.0], "go"),
    ],
)
def test_the_best_so_far_is_compared_with_the_median_average(others, reports, decision) -> None:
    new = trial(len(others), reports)
    assert MedianStop().decide(new, [*others, new]) == decision


@pytest.mark.parametrize(
    "status", [status for status in Status if status is not Status.COMPLETED and status is not Status.RUNNING]
)
def test_only_completed_trials_count(status: Status) -> None:
    others = history([0.9, 0.9], [0.8, 0.8], status=status)
    new = trial(2, [0.0, 0.0])
    assert MedianStop().decide(new, [*others, new]) == "go"


def test_a_loss_has_its_upper_median_as_in_nni() -> None:
    """Four losses 0.2, 0.3, 0.5, 0.7: NNI takes the third, 0.5, when it minimises."""
    losses = [0.2, 0.3, 0.5, 0.7]
    others = [
        Trial(n, {}, Status.COMPLETED, intermediate=(Intermediate(0, {"loss": loss}),))
        for n, loss in enumerate(losses)
    ]
    for loss, decision in ((0.51, "stop"), (0.5, "go")):
        new = Trial(4, {}, intermediate=(Intermediate(0, {"loss": loss}),))
        assert MedianStop(metric="loss").decide(new, [*others, new]) == decision


def test_no_trial_is_stopped_before_the_start_step() -> None:
    for steps, decision in ((1, "go"), (2, "go"), (3, "stop")):
        new = trial(4, [0.0] * steps)
        assert MedianStop(start_step=3).decide(new, [*FOUR, new]) == decision


def test_a_diverged_trial_is_stopped() -> None:
    new = trial(4, [-math.inf])
    assert MedianStop().decide(new, [*FOUR, new]) == "stop"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start_step": -1}, "`start_step` must be at least 0, but got -1"),
        ({"metric": "acc", "mode": "best"}, "`mode` must be 'max' or 'min', but got 'best'"),
        ({"mode": "min"}, "`mode` belongs to `metric`, but got mode='min' alone"),
    ],
)
def test_wrong_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        MedianStop(**settings)
