"""Experiments with a stopping rule: pauses, continuations, budgets, and what survives a death."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from other_processes import printed_by
from test_experiment_kill import DIES_EVERYWHERE, SEARCH

from lightning_nas.evaluators import FunctionalEvaluator
from lightning_nas.experiment import Experiment, SqliteStore
from lightning_nas.report import output_directory, report_intermediate_result, resume_checkpoint
from lightning_nas.space import Float
from lightning_nas.stopping import ASHA, CurveFitting, Hyperband, MedianStop
from lightning_nas.strategies import GridSearch, Random
from lightning_nas.testing.stopping import race
from lightning_nas.trial import Status, Trial

STEPS = 9


def curve(x: float) -> list[float]:
    return [x * (step + 1) / STEPS for step in range(STEPS)]


@dataclass(frozen=True)
class Learner:
    """Climbs to `x` in nine steps. Notes each step it takes, and what it was told about pauses."""

    has_checkpoints: bool = True
    noted: Any = None

    def evaluate(self, candidate, report):
        saved = candidate.directory / "checkpoint"
        first = json.loads(candidate.resume_from.read_text()) if candidate.resume_from else 0
        values = curve(candidate.sample["x"])
        step = first - 1  # where it had come to its end
        for step in range(first, STEPS):
            if self.noted is not None:
                self.noted.append((candidate.number, step, candidate.may_pause, candidate.budget))
            if self.has_checkpoints:
                saved.write_text(json.dumps(step + 1))
            if not report(step, {"acc": values[step], "extra": 1.0}):
                break
        return {"acc": values[step]}


def make(directory: Path, rule: Any, evaluator: Any = None, **settings: Any) -> Experiment:
    settings = {
        "runner": "inprocess",
        "progress": False,
        "max_trials": 12,
        "objective": "acc",
        "strategy": Random(),
        **settings,
    }
    return Experiment(
        {"x": Float(0, 1)}, evaluator or Learner(), directory=directory / "exp", stopping=rule, **settings
    )


def fates(trials: list[Trial]) -> list[Any]:
    return [(t.number, t.sample, t.status, t.steps, t.metrics.get("acc"), t.score) for t in trials]


ALL = [
    ASHA(max_steps=STEPS),
    Hyperband(max_steps=STEPS),
    MedianStop(),
    CurveFitting(max_steps=STEPS, start_step=4),
]


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: type(rule).__name__)
def test_an_experiment_is_the_race_of_its_curves(tmp_path: Path, rule: Any) -> None:
    exp = make(tmp_path, rule, max_trials=17).run()
    expected = race(rule, [curve(trial.sample["x"]) for trial in exp.trials])
    assert [(t.number, t.status, t.steps) for t in exp.trials] == [
        (t.number, t.status, t.steps) for t in expected
    ]
    assert len({trial.status for trial in exp.trials}) == 2, "the rule had nothing to do"
    assert exp.best is not None
    assert exp.best.status is Status.COMPLETED


def test_a_paused_trial_keeps_its_number_sample_and_checkpoint(tmp_path: Path) -> None:
    noted: list[Any] = []
    exp = make(tmp_path, ASHA(max_steps=STEPS), Learner(noted=noted), max_trials=9).run()
    steps = [(number, step) for number, step, _, _ in noted]
    assert len(steps) == len(set(steps)), "a step was taken twice"
    assert all(may_pause for _, _, may_pause, _ in noted)
    (winner,) = (trial for trial in exp.trials if trial.steps == STEPS)
    assert {budget for number, _, _, budget in noted if number == winner.number} <= {1, 3, 9}
    assert [report.step for report in winner.intermediate] == list(range(STEPS))
    assert [report.metrics["acc"] for report in winner.intermediate] == curve(winner.sample["x"])
    with contextlib.closing(SqliteStore.open(tmp_path / "exp")) as store:
        changes = [(change.status.value, change.reason) for change in store.changes(winner.number)]
    assert changes[-1] == ("completed", None)
    assert ("paused", "paused by ASHA at step 2") in changes
    assert ("running", "goes on after step 2") in changes


def test_a_trial_still_paused_has_its_last_report_and_does_not_compete(tmp_path: Path) -> None:
    exp = make(tmp_path, ASHA(max_steps=STEPS), max_trials=9).run()
    stored = make(tmp_path, ASHA(max_steps=STEPS), max_trials=9).trials
    assert stored == exp.trials
    for trial in exp.trials:
        if trial.status is Status.PAUSED:
            assert trial.is_held
            assert trial.metrics == {
                "acc": pytest.approx(trial.sample["x"] * trial.steps / STEPS),
                "extra": 1.0,
            }
            assert trial.score == trial.metrics["acc"]
            assert trial.reason == f"paused by ASHA at step {trial.steps - 1}"
            assert trial.artifacts == {"checkpoint": f"trials/{trial.number}/checkpoint"}
    assert [t.number for t in exp.trials if t.status is Status.COMPLETED] == [exp.best.number]


def test_an_evaluator_without_checkpoints_begins_anew_and_nothing_is_decided_twice(tmp_path: Path) -> None:
    noted: list[Any] = []
    rule = Hyperband(max_steps=STEPS)
    anew = make(tmp_path / "a", rule, Learner(False, noted), max_trials=9).run()
    kept = make(tmp_path / "b", rule, max_trials=9).run()
    assert fates(anew.trials) == fates(kept.trials)
    (winner,) = (trial for trial in anew.trials if trial.steps == STEPS)
    steps = [step for number, step, _, _ in noted if number == winner.number]
    assert steps == [*range(1), *range(3), *range(9)]
    assert [report.step for report in winner.intermediate] == list(range(STEPS))


@pytest.mark.usefixtures("warm_server")
@pytest.mark.slow
def test_both_runners_pause_alike(tmp_path: Path) -> None:
    rule = ASHA(max_steps=STEPS)
    here = make(tmp_path / "a", rule, max_trials=9).run()
    there = make(tmp_path / "b", rule, max_trials=9, runner="processes", concurrency=1).run()
    assert fates(there.trials) == fates(here.trials)


@pytest.mark.usefixtures("warm_server")
@pytest.mark.slow
def test_a_paused_trial_frees_its_place(tmp_path: Path) -> None:
    exp = make(tmp_path, Hyperband(max_steps=STEPS), max_trials=17, runner="processes", concurrency=3).run()
    expected = race(Hyperband(max_steps=STEPS), [curve(trial.sample["x"]) for trial in exp.trials])
    assert [(t.status, t.steps) for t in exp.trials] == [(t.status, t.steps) for t in expected]


def test_a_functional_evaluator_pauses_through_its_reports(tmp_path: Path) -> None:
    def learn(sample):
        checkpoint = resume_checkpoint()
        first = int(checkpoint.read_text()) if checkpoint else 0
        for step in range(first, STEPS):
            (output_directory() / "checkpoint").write_text(str(step + 1))
            report_intermediate_result({"acc": curve(sample["x"])[step]})
        return {"acc": curve(sample["x"])[-1]}

    rule = ASHA(max_steps=STEPS)
    exp = make(tmp_path / "a", rule, FunctionalEvaluator(learn), max_trials=9).run()
    assert fates(exp.trials) == fates(make(tmp_path / "b", rule, max_trials=9).run().trials)


def test_strategies_see_the_scores_of_paused_trials(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Looks:
        def ask(self, space, trials, rng):
            seen.append([trial.score for trial in trials])
            return space.sample(rng)

    seen: list[Any] = []
    make(tmp_path, ASHA(max_steps=STEPS), max_trials=9, strategy=Looks()).run()
    assert all(score is not None for scores in seen for score in scores)


# -- going on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ALL[:2], ids=lambda rule: type(rule).__name__)
def test_raising_max_trials_equals_one_go(tmp_path: Path, rule: Any) -> None:
    make(tmp_path / "a", rule, max_trials=9).run()
    longer = make(tmp_path / "a", rule, max_trials=17).run()
    assert fates(longer.trials) == fates(make(tmp_path / "b", rule, max_trials=17).run().trials)


def test_where_nothing_may_go_on_nothing_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exp = make(tmp_path, ASHA(max_steps=STEPS)).run()
    monkeypatch.setattr(Experiment, "_make_runner", lambda self: pytest.fail("it made a runner"))
    assert make(tmp_path, ASHA(max_steps=STEPS)).run().trials == exp.trials


def test_paused_trials_go_on_when_the_strategy_is_exhausted(tmp_path: Path) -> None:
    exp = make(tmp_path, ASHA(max_steps=STEPS), max_trials=None, strategy=GridSearch(points=9)).run()
    assert len(exp.trials) == 9
    assert sum(t.status is Status.COMPLETED for t in exp.trials) >= 1


def test_without_the_rule_paused_trials_are_run_to_their_end(tmp_path: Path) -> None:
    make(tmp_path, ASHA(max_steps=STEPS), max_trials=9).run()
    exp = make(tmp_path, None, max_trials=9).run()
    assert [trial.status for trial in exp.trials] == [Status.COMPLETED] * 9
    assert all([r.step for r in trial.intermediate] == list(range(STEPS)) for trial in exp.trials)


@dataclass(frozen=True)
class Interrupts:
    """A learner in which Ctrl-C is pressed twice at the n-th step of the whole search."""

    moment: int
    noted: Any

    def evaluate(self, candidate, report):
        def pressing(step, metrics):
            answer = report(step, metrics)
            self.noted.append(step)
            if len(self.noted) == self.moment:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            return answer

        return Learner().evaluate(candidate, pressing)


@pytest.mark.parametrize("rule", ALL[:2], ids=lambda rule: type(rule).__name__)
def test_a_search_interrupted_at_any_step_goes_on_as_if_it_had_not_been(tmp_path: Path, rule: Any) -> None:
    noted: list[int] = []
    undisturbed = fates(make(tmp_path / "whole", rule, Interrupts(-1, noted), max_trials=9).run().trials)
    for moment in range(1, len(noted) + 1):
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / str(moment), rule, Interrupts(moment, []), max_trials=9).run()
        assert fates(make(tmp_path / str(moment), rule, max_trials=9).run().trials) == undisturbed, moment


PAUSING_SEARCH = """
import json, sys, time
from lightning_nas.experiment import Experiment
from lightning_nas.space import Float
from lightning_nas.stopping import ASHA
from lightning_nas.strategies import Random

class Learns:
    def evaluate(self, candidate, report):
        (candidate.directory / "weights.pt").write_text(str(candidate.number))
        first = json.loads(candidate.resume_from.read_text()) if candidate.resume_from else 0
        step = first - 1
        for step in range(first, 3):
            goes_on = report(step, {"acc": candidate.sample["x"] * (step + 1)})
            if CHECKPOINTS:  # after the report: a death in between would lose it
                draft = candidate.directory / "draft"
                draft.write_text(str(step + 1))
                draft.replace(candidate.directory / "checkpoint")
            if not goes_on:
                break
        return {"acc": candidate.sample["x"] * (step + 1)}

def search(directory):
    return Experiment({"x": Float(0, 1)}, Learns(), Random(), directory=directory, runner="inprocess", max_trials=4,
                      stopping=ASHA(max_steps=3, reduction=2), progress=False)
"""


def stored(directory: Path) -> Iterator[Any]:
    with contextlib.closing(SqliteStore.open(directory)) as store:
        for trial in store.trials():
            yield trial.number, trial.sample, trial.status, trial.metrics, trial.score, trial.intermediate


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("has_checkpoints", [True, False])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_driver_killed_at_each_touch_of_a_file_or_the_database_pauses_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_checkpoints: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    text = DIES_EVERYWHERE.replace(SEARCH, f"{PAUSING_SEARCH}\nCHECKPOINTS = {has_checkpoints}\n")
    moments = int(printed_by(text, tmp_path))
    undisturbed = list(stored(tmp_path / str(moments)))
    assert {Status.PAUSED, Status.COMPLETED} == {status for _, _, status, *_ in undisturbed}
    for moment in range(1, moments):
        assert list(stored(tmp_path / str(moment))) == undisturbed, moment


# -- what goes wrong ---------------------------------------------------------------------------------


def test_a_report_without_the_metric_fails_the_trial_and_says_what_it_has(tmp_path: Path) -> None:
    exp = make(tmp_path, MedianStop(metric="auc"), max_trials=2).run()
    assert [trial.status for trial in exp.trials] == [Status.FAILED] * 2
    assert exp.trials[0].reason == (
        "MetricError: The stopping rule needs 'auc' in each report, but the one of step 0 has acc, extra; report it, "
        "or give the rule another metric=."
    )
    assert exp.trials[0].steps == 1


def test_a_trial_that_fails_after_its_pause_has_failed(tmp_path: Path) -> None:
    class Breaks:
        def evaluate(self, candidate, report):
            if not report(0, {"acc": 0.5}):
                raise OSError("the disk is full")
            return {"acc": 0.5}

    exp = make(tmp_path, ASHA(max_steps=2, reduction=2), Breaks(), max_trials=2).run()
    assert exp.trials[0].status is Status.FAILED
    assert exp.trials[0].reason == "OSError: the disk is full"
    assert exp.trials[0].score is None


def test_a_trial_that_diverges_is_never_taken_up_again(tmp_path: Path) -> None:
    class Diverges:
        def evaluate(self, candidate, report):
            for step in range(STEPS):
                if not report(step, {"acc": float("nan")}):
                    break
            return {"acc": float("nan")}

    exp = make(tmp_path, ASHA(max_steps=STEPS, reduction=3), Diverges(), max_trials=9).run()
    assert [(trial.status, trial.steps) for trial in exp.trials] == [(Status.PAUSED, 1)] * 9


def test_a_rule_that_lets_the_wrong_trial_go_on_is_named(tmp_path: Path) -> None:
    class Confused:
        def decide(self, trial, trials):
            return "go"

        def resume(self, trials):
            return 3

        def budget(self, trial, trials):
            return None

    with pytest.raises(ValueError, match=r"`resume` must name a paused trial, but .*Confused.* said 3"):
        make(tmp_path, Confused()).run()


def test_only_a_rule_that_can_resume_may_pause(tmp_path: Path) -> None:
    class Pauses:
        def decide(self, trial, trials):
            return "pause"

    with pytest.raises(ValueError, match=r"answers 'go' or 'stop', but .*Pauses.* said 'pause'"):
        make(tmp_path, Pauses()).run()


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (ASHA, TypeError, "`stopping` must be an object with a method `decide`, but got <class .*ASHA'>"),
        ("median", TypeError, "`stopping` must be an object with a method `decide`, but got 'median'"),
        (ASHA(), ValueError, "Give ASHA `max_steps`, the number of reports of a trial that is never stopped"),
        (Hyperband(), ValueError, "Give Hyperband `max_steps`"),
        (
            ASHA(max_steps=81),
            ValueError,
            r"ASHA\(max_steps=81.* needs 81 trials for one that is sure to run to its end, but got max_trials=12. "
            "Give more trials, or fewer rungs",
        ),
        (Hyperband(max_steps=27), ValueError, "needs 27 trials"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_at_once(
    tmp_path: Path, rule: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(tmp_path, rule)
    assert list(tmp_path.iterdir()) == []


def test_a_pause_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, ASHA(max_steps=2, reduction=2), max_trials=2, progress=None).run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1/2] trial 0 paused after step 0: acc = 0.07")
    assert any("1 paused" in line for line in lines)
