"""Learning curves whose end is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from histories import history, trial

from lightning_nas.stopping import CurveFitting
from lightning_nas.stopping.curves import extrapolated

CURVES = {
    "pow4": lambda x: 0.9 - 0.5 * (x + 1) ** -0.7,
    "exp4": lambda x: 0.9 - 0.6 * np.exp(-((0.2 * x) ** 1.0)),
    "MMF": lambda x: 0.95 - 0.8 / (1 + (0.3 * x) ** 1.5),
    "ilog2": lambda x: 0.9 - 0.3 / np.log(x + 1),
}


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_of_each_family_is_continued(name: str) -> None:
    """From half of the curve, within 4 hundredths of its end; a straight line would miss by more than 0.1."""
    curve = CURVES[name](np.arange(1.0, 21.0))
    assert extrapolated(curve[:10], 20) == pytest.approx(curve[-1], abs=0.04)


def test_a_curve_on_the_grid_is_found_exactly() -> None:
    x = np.arange(1.0, 21.0)
    curve = 0.8 - 0.4 / np.log(x + 1)
    assert extrapolated(curve[:6], 20) == pytest.approx(curve[-1], abs=1e-3)


def test_a_flat_curve_stays_flat_and_a_falling_one_does_not_rise() -> None:
    assert extrapolated([0.3] * 5, 20) == pytest.approx(0.3)
    assert extrapolated([0.5, 0.4, 0.3, 0.2], 20) == pytest.approx(0.35)  # its mean


def test_a_prediction_moves_and_grows_with_the_curve() -> None:
    curve = CURVES["MMF"](np.arange(1.0, 8.0))
    predicted = extrapolated(curve, 20)
    assert predicted is not None
    assert extrapolated(curve + 5, 20) == pytest.approx(predicted + 5)
    assert extrapolated(curve * 1e4, 20) == pytest.approx(predicted * 1e4)


@pytest.mark.parametrize("curve", [[], [0.5], [0.1, math.nan, 0.3], [0.1, -math.inf, 0.3]])
def test_some_curves_cannot_be_continued(curve: list[float]) -> None:
    assert extrapolated(curve, 20) is None


def flat(level: float, n: int = 6) -> list[float]:
    return [level] * n


@pytest.mark.parametrize(
    ("best", "level", "decision"),
    [
        (0.8, 0.75, "stop"),  # 0.95 * 0.8 = 0.76
        (0.8, 0.77, "go"),
        (-0.8, -0.85, "stop"),  # a loss of 0.8 may become 0.84
        (-0.8, -0.83, "go"),
    ],
)
def test_a_trial_is_stopped_if_its_end_is_below_the_threshold(best, level, decision) -> None:
    new = trial(1, flat(level))
    assert CurveFitting(max_steps=20).decide(new, [*history([0.0, best]), new]) == decision


def test_the_best_last_report_of_the_completed_counts() -> None:
    new = trial(2, flat(0.5))
    rule = CurveFitting(max_steps=20)
    assert rule.decide(new, [*history([0.9, 0.4], [0.1, 0.5]), new]) == "go"
    assert rule.decide(new, [*history([0.1, 0.6], [0.1, 0.2]), new]) == "stop"
    assert rule.decide(new, [new]) == "go"


@pytest.mark.parametrize(("n", "judged"), [(5, 0), (6, 1), (7, 0), (8, 0), (9, 1), (20, 0)])
def test_trials_are_judged_from_the_start_step_on_at_each_gap_and_not_at_their_end(
    n: int, judged: int
) -> None:
    new = trial(1, flat(0.1, n))
    rule = CurveFitting(max_steps=20, gap=3) if n < 20 else CurveFitting(max_steps=20, gap=7)
    assert rule.decide(new, [*history([0.9]), new]) == ("stop" if judged else "go")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_steps": 0}, "`max_steps` must be at least 1, but got 0"),
        ({"start_step": 3}, "`start_step` must be at least 4, but got 3"),
        ({"gap": 0}, "`gap` must be at least 1, but got 0"),
        ({"threshold": 0.0}, r"`threshold` must be in \(0, 1\], but got 0.0"),
        ({"threshold": 1.1}, r"`threshold` must be in \(0, 1\], but got 1.1"),
    ],
)
def test_wrong_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        CurveFitting(**settings)


def test_without_its_horizon_it_cannot_decide() -> None:
    new = trial(0, flat(0.1))
    with pytest.raises(ValueError, match="`max_steps` of CurveFitting must be given"):
        CurveFitting().decide(new, [new])
