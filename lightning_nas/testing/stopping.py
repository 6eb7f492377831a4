"""The suite every stopping rule passes, and a driver to try one out without an experiment.

    from lightning_nas.testing.stopping import StoppingSuite

    class TestMyRule(StoppingSuite):
        def rule(self, **settings):
            return MyRule(**settings)

Run it with pytest; it needs hypothesis, which draws the learning curves.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_nas.errors import MetricError
from lightning_nas.stopping import Decision, PausingRule, StoppingRule
from lightning_nas.trial import Intermediate, Metrics, Objective, Status, Trial

Curve = Sequence[float]
"""What a trial reports at each step, until it is completed."""

_ENDS: dict[Decision, Status] = {"stop": Status.STOPPED, "pause": Status.PAUSED}


def race(
    rule: StoppingRule,
    curves: Sequence[Curve],
    *,
    concurrency: int = 1,
    seed: int = 0,
    fails: Callable[[int, int], bool] = lambda number, step: False,
    trials: Iterable[Trial] = (),
    most_reports: float = math.inf,
    report: Callable[[float], Metrics] = lambda value: {"default": value},
) -> list[Trial]:
    """Runs trials with known learning curves in memory, as an experiment would.

    Args:
        rule: decides at each report.
        curves: the curve of each trial, by its number.
        concurrency: trials at once; which of them reports next is random.
        seed: of that.
        fails: `fails(number, step)`, whether the trial fails instead of making this report.
        trials: how the race stands; what runs goes on.
        most_reports: the race breaks off after so many.
        report: the metrics of a value of a curve.

    Returns:
        The trials by number. Those still paused stay so.
    """
    rng = np.random.default_rng(seed)
    stand = list(trials)
    while True:
        running = [trial.number for trial in stand if trial.status is Status.RUNNING]
        while len(running) < concurrency:
            number = rule.resume(stand) if isinstance(rule, PausingRule) else None
            if number is None and len(stand) == len(curves):
                break
            if number is None:
                number = len(stand)
                stand.append(Trial(number, {}))
            assert stand[number].is_held or number == len(stand) - 1, f"trial {number} is not paused"
            stand[number] = replace(stand[number], status=Status.RUNNING, budget=_budget(rule, stand, number))
            running.append(number)
        if not running or most_reports <= 0:
            return stand
        number = running[int(rng.integers(len(running)))]
        stand[number] = _step(rule, stand, number, curves[number], fails, report)
        most_reports -= 1


def _budget(rule: StoppingRule, trials: Sequence[Trial], number: int) -> int | None:
    trial = trials[number]
    budget = rule.budget(trial, trials) if isinstance(rule, PausingRule) else None
    assert budget is None or budget > trial.steps, f"trial {number} took {trial.steps} steps, budget {budget}"
    return budget


def _step(
    rule: StoppingRule,
    trials: list[Trial],
    number: int,
    curve: Curve,
    fails: Callable[[int, int], bool],
    report: Callable[[float], Metrics],
) -> Trial:
    """The trial of this number after its next report."""
    trial = trials[number]
    if fails(number, trial.steps):
        return replace(trial, status=Status.FAILED, reason="the test wants it so")
    metrics = report(curve[trial.steps])
    score = Objective().score_of_report(metrics)
    latest = Intermediate(trial.steps, metrics, score)
    trial = trials[number] = replace(trial, intermediate=(*trial.intermediate, latest))
    decision: Decision = "go"
    if trial.budget is None or trial.steps >= trial.budget:
        decision = rule.decide(trial, trials)
    allowed = ("go", "pause", "stop") if isinstance(rule, PausingRule) else ("go", "stop")
    assert decision in allowed, f"{rule} said {decision!r}"
    if decision == "go" and trial.steps < len(curve):
        return trial
    ended = replace(trial, metrics=metrics, score=score)
    if decision == "go":
        return replace(ended, status=Status.COMPLETED)
    return replace(ended, status=_ENDS[decision], budget=trial.steps)


def rising_curves(steps: int, most: int = 12) -> st.SearchStrategy[list[list[float]]]:
    """Up to `most` curves of so many steps, most of which rise; a few values are NaN or infinite."""
    good = st.builds(
        lambda top, rate: [top * (1 - math.exp(-rate * (step + 1))) for step in range(steps)],
        st.floats(0, 1),
        st.floats(0.05, 2),
    )
    value = st.one_of(st.floats(-1, 1), st.sampled_from([math.nan, math.inf, -math.inf]))
    wild = st.lists(value, min_size=steps, max_size=steps)
    return st.lists(st.one_of(good, good, wild), min_size=1, max_size=most)


class StoppingSuite(ABC):
    """What a stopping rule owes its driver. Subclass it, say how to make the rule, run pytest.

    Attributes:
        steps: of a trial that is never stopped.
        examples: races per test.
    """

    steps: int = 9
    examples: int = 25

    @abstractmethod
    def rule(self, **settings: Any) -> StoppingRule:
        """A fresh object with the settings under test, and these: perhaps `metric` and `mode`."""

    # -- the laws --------------------------------------------------------------------------------

    def test_every_race_ends_and_no_trial_is_forgotten(self) -> None:
        def law(curves: list[list[float]], seed: int) -> None:
            trials = race(self.rule(), curves, concurrency=3, seed=seed)
            assert [trial.number for trial in trials] == list(range(len(curves)))
            assert all(trial.status.is_final or trial.is_held for trial in trials)
            assert all(trial.steps <= self.steps for trial in trials)

        self._holds(law)

    def test_reports_are_made_once_and_in_order(self) -> None:
        def law(curves: list[list[float]], seed: int) -> None:
            for trial in race(self.rule(), curves, concurrency=3, seed=seed):
                assert [report.step for report in trial.intermediate] == list(range(trial.steps))

        self._holds(law)

    def test_a_race_taken_up_by_a_fresh_rule_equals_one_in_one_go(self) -> None:
        def law(curves: list[list[float]], seed: int) -> None:
            in_one_go = race(self.rule(), curves)
            taken_up: list[Trial] = []
            for _ in range(len(curves) * self.steps + 1):
                taken_up = race(self.rule(), curves, trials=copy.deepcopy(taken_up), most_reports=1)
            assert _fates(taken_up) == _fates(in_one_go)

        self._holds(law)

    def test_one_object_serves_several_races(self) -> None:
        def law(curves: list[list[float]], seed: int) -> None:
            rule = self.rule()
            first = race(rule, curves, concurrency=2, seed=seed)
            race(rule, curves[::-1], concurrency=3, seed=seed)
            assert _fates(race(rule, curves, concurrency=2, seed=seed)) == _fates(first)

        self._holds(law)

    def test_asking_changes_nothing(self) -> None:
        def law(curves: list[list[float]], seed: int) -> None:
            rule = self.rule()
            trials = race(rule, curves, concurrency=3, seed=seed, most_reports=seed % 40)
            before = copy.deepcopy(trials)
            for trial in trials:
                if trial.intermediate:
                    assert rule.decide(trial, trials) == rule.decide(trial, trials)
                if isinstance(rule, PausingRule):
                    assert rule.budget(trial, trials) == rule.budget(trial, trials)
            if isinstance(rule, PausingRule):
                assert rule.resume(trials) == rule.resume(trials)
            assert repr(trials) == repr(before)

        self._holds(law)

    def test_a_metric_that_is_minimised_is_treated_as_one_turned_round(self) -> None:
        def law(curves: list[list[float]], seed: int) -> None:
            up = race(self.rule(), curves, concurrency=2, seed=seed)
            for down in (self.rule(metric="val_loss"), self.rule(metric="other", mode="min")):
                fallen = race(
                    down,
                    curves,
                    concurrency=2,
                    seed=seed,
                    report=lambda value: {"val_loss": -value, "other": -value, "noise": 1.0},
                )
                assert _fates(fallen) == _fates(up)

        self._holds(law)

    def test_failures_are_survived(self) -> None:
        def law(curves: list[list[float]], seed: int) -> None:
            def fails(number: int, step: int) -> bool:
                return (number * 7 + step * 3 + seed) % 5 == 0

            trials = race(self.rule(), curves, concurrency=3, seed=seed, fails=fails)
            assert len(trials) == len(curves)
            assert all(trial.status.is_final or trial.is_held for trial in trials)

        self._holds(law)

    def test_what_has_nothing_to_be_compared_with_is_not_stopped(self) -> None:
        def law(curves: list[list[float]], seed: int) -> None:
            assert race(self.rule(), curves[:1])[0].status is not Status.STOPPED

        self._holds(law)

    def test_a_report_without_the_metric_says_what_it_has(self) -> None:
        for rule, name in ((self.rule(), "the objective"), (self.rule(metric="auc"), "'auc'")):
            trial = Trial(0, {}, intermediate=(Intermediate(0, {"acc": 0.5, "loss": 1.0}),))
            with pytest.raises(MetricError, match=f"needs {name} in each report, but .* has acc, loss"):
                rule.decide(trial, [trial])

    # -- within ----------------------------------------------------------------------------------

    def _holds(self, law: Callable[[list[list[float]], int], None]) -> None:
        @settings(max_examples=self.examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(rising_curves(self.steps), st.integers(0, 2**16))
        def check(curves: list[list[float]], seed: int) -> None:
            law(curves, seed)

        check()


def _fates(trials: Sequence[Trial]) -> list[tuple[int, Status, int]]:
    """Where each trial ended, and how."""
    return [(trial.number, trial.status, trial.steps) for trial in trials]
