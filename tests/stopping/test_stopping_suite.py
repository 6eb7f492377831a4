"""Every stopping rule passes the published suite."""

from __future__ import annotations

from typing import Any

from lightning_nas.stopping import ASHA, CurveFitting, Hyperband, MedianStop, StoppingRule
from lightning_nas.testing.stopping import StoppingSuite


class TestMedianStop(StoppingSuite):
    def rule(self, **settings: Any) -> StoppingRule:
        return MedianStop(start_step=2, **settings)


class TestCurveFitting(StoppingSuite):
    examples = 10

    def rule(self, **settings: Any) -> StoppingRule:
        return CurveFitting(max_steps=9, start_step=4, gap=2, **settings)


class TestASHA(StoppingSuite):
    def rule(self, **settings: Any) -> StoppingRule:
        return ASHA(max_steps=9, reduction=2, **settings)


class TestHyperband(StoppingSuite):
    def rule(self, **settings: Any) -> StoppingRule:
        return Hyperband(max_steps=9, reduction=3, **settings)


class Impatient:
    """Somebody else's rule: holds every trial after each of its reports, and lets the first one go on."""

    def __init__(self, metric: Any = None, mode: Any = None) -> None:
        from lightning_nas.stopping.rule import Watched

        self.watched = Watched(metric, mode)

    def decide(self, trial, trials):
        self.watched.require(trial)
        return "pause" if trial.steps < 9 else "go"

    def resume(self, trials):
        return next((trial.number for trial in trials if trial.is_held), None)

    def budget(self, trial, trials):
        return None


class TestImpatient(StoppingSuite):
    def rule(self, **settings: Any) -> StoppingRule:
        return Impatient(**settings)
