"""Experiments as a user meets them: results, failures, budgets, settings."""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from small_experiments import SPACE, distance, make, samples

from lightning_nas.errors import ExperimentError, SampleError
from lightning_nas.experiment import Experiment, SqliteStore
from lightning_nas.space import Categorical
from lightning_nas.strategies import GridSearch, Random
from lightning_nas.testing.runners import Evaluates
from lightning_nas.trial import Status, Trial

# -- results -----------------------------------------------------------------------------------------


def test_the_best_trial_is_the_one_closest_to_the_goal(tmp_path: Path) -> None:
    exp = make(tmp_path, max_trials=20).run()
    distances = [trial.metrics["loss"] for trial in exp.trials]
    assert len(distances) == 20
    assert exp.best is not None
    assert exp.best.metrics["loss"] == min(distances)
    assert exp.best.score == -min(distances)


def test_mode_max_turns_the_search_round(tmp_path: Path) -> None:
    exp = make(tmp_path, objective="loss", mode="max").run()
    assert exp.best is not None
    assert exp.best.metrics["loss"] == max(trial.metrics["loss"] for trial in exp.trials)


@pytest.mark.usefixtures("warm_server")
def test_both_runners_give_the_same_trials(tmp_path: Path) -> None:
    def noisy(candidate, report):
        import random

        return candidate.sample["x"] + random.random()

    here = make(tmp_path / "a", noisy, max_trials=3).run()
    there = make(tmp_path / "b", noisy, max_trials=3, runner="processes", concurrency=1).run()
    assert [(t.sample, t.metrics, t.score) for t in here.trials] == [
        (t.sample, t.metrics, t.score) for t in there.trials
    ]


@pytest.mark.usefixtures("warm_server")
def test_parallel_trials_are_those_of_a_serial_search_for_random(tmp_path: Path) -> None:
    serial = make(tmp_path / "a", max_trials=6).run()
    parallel = make(tmp_path / "b", max_trials=6, runner="processes", concurrency=3).run()
    assert samples(parallel) == samples(serial)
    assert [t.metrics for t in parallel.trials] == [t.metrics for t in serial.trials]


def test_a_seed_decides_the_samples(tmp_path: Path) -> None:
    first, again, other = (
        make(tmp_path / name, seed=seed).run() for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert samples(first) == samples(again)
    assert samples(first) != samples(other)


def test_intermediate_results_are_kept_in_order(tmp_path: Path) -> None:
    def learn(candidate, report):
        for step in range(3):
            report(step, {"acc": step / 4, "loss": math.nan})
        return {"acc": 0.75}

    exp = make(tmp_path, learn, max_trials=1).run()
    stored = make(tmp_path, learn, max_trials=1).trials
    for (trial,) in (exp.trials, stored):
        assert [(report.step, report.metrics["acc"]) for report in trial.intermediate] == [
            (0, 0),
            (1, 0.25),
            (2, 0.5),
        ]
        assert math.isnan(trial.intermediate[0].metrics["loss"])


def test_times_and_files_of_a_trial_are_kept(tmp_path: Path) -> None:
    def write(candidate, report):
        for name in ("weights.pt", "inputs.pt", "other"):
            (candidate.directory / name).write_text(str(candidate.number))
        return 1.0

    exp = make(tmp_path, write, max_trials=1).run()
    (trial,) = exp.trials
    assert trial.artifacts == {"weights": "trials/0/weights.pt", "inputs": "trials/0/inputs.pt"}
    assert trial.duration_s is not None
    assert 0 <= trial.duration_s < 10


# -- failures ----------------------------------------------------------------------------------------


def test_failures_are_kept_with_their_traceback_and_the_search_goes_on(tmp_path: Path) -> None:
    def fail_sometimes(candidate, report):
        if candidate.number % 2:
            raise RuntimeError(f"no memory for {candidate.number}")
        return 1.0

    exp = make(tmp_path, fail_sometimes).run()
    assert [trial.status.value for trial in exp.trials] == ["completed", "failed"] * 2 + ["completed"]
    assert exp.trials[1].reason == "RuntimeError: no memory for 1"
    assert exp.trials[1].traceback is not None
    assert "fail_sometimes" in exp.trials[1].traceback
    assert exp.trials[1].score is None
    assert make(tmp_path, fail_sometimes).trials == exp.trials


def test_failures_are_shown_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(candidate, report):
        raise RuntimeError(f"no memory for {candidate.number}")

    make(tmp_path, fail, max_trials=2, progress=None).run()
    out = capsys.readouterr().out
    assert "2 of 2 trials failed" in out
    assert "RuntimeError: no memory for 0" in out
    assert "Trial 1:\nTraceback" in out


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (
            {"acc": 0.5, "loss": 1.0},
            "The objective 'val_acc' is not among the metrics of this trial; it has acc, loss.",
        ),
        ({}, "The objective 'val_acc' is not among the metrics of this trial; it has nothing."),
        ({"val_acc": math.nan, "acc": 0.5}, "The objective 'val_acc' must be finite, but is nan."),
        ({"val_acc": math.inf}, "The objective 'val_acc' must be finite, but is inf."),
        ("good", "A result must be a number or a dict of numbers, but 'default' is of type str."),
        (None, "A result must be a number or a dict of numbers, but 'default' is of type NoneType."),
    ],
)
def test_a_result_without_a_usable_objective_is_a_failure_that_says_what_it_has(
    tmp_path: Path, result: Any, reason: str
) -> None:
    exp = make(tmp_path, lambda candidate, report: result, objective="val_acc", max_trials=1).run()
    assert exp.trials[0].status is Status.FAILED
    assert exp.trials[0].reason == f"MetricError: {reason}"
    assert exp.best is None


def test_a_hopeless_search_is_given_up_with_the_reason_and_can_go_on(tmp_path: Path) -> None:
    def fail(candidate, report):
        raise FileNotFoundError("data.npz")

    with pytest.raises(
        ExperimentError,
        match=r"the last 3 trials all failed: trial 2 failed with FileNotFoundError: data.npz in .*py:\d+, "
        "as 2 others did; when",
    ):
        make(tmp_path, fail, max_consecutive_failures=3, max_trials=9).run()
    exp = make(tmp_path, distance, max_consecutive_failures=3, max_trials=9).run()
    assert [trial.status.value for trial in exp.trials] == ["failed"] * 3 + ["completed"] * 6


def test_an_objective_that_no_trial_has_ends_the_search_after_two(tmp_path: Path) -> None:
    with pytest.raises(
        ExperimentError, match=r"last 2 trials all failed: .* 'val_los' is not among .* it has loss"
    ):
        make(tmp_path, objective="val_los").run()
    assert len(SqliteStore.open(tmp_path / "exp").trials()) == 2


def test_an_error_of_the_strategy_ends_the_search_and_loses_nothing(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Breaks:
        def ask(self, space, trials, rng):
            return space.sample(rng) if len(trials) < 2 else {"x": 7.0}

    with pytest.raises(SampleError, match="no value for 'kind'|'x' is wrong"):
        make(tmp_path, strategy=Breaks()).run()
    assert len(make(tmp_path, strategy=Breaks()).trials) == 2


# -- budgets -----------------------------------------------------------------------------------------


def test_max_trials_is_a_total(tmp_path: Path) -> None:
    make(tmp_path, max_trials=3).run()
    exp = make(tmp_path, max_trials=5).run()
    assert [trial.number for trial in exp.trials] == list(range(5))
    assert make(tmp_path, max_trials=5).run().trials == exp.trials
    assert samples(exp) == samples(make(tmp_path / "once", max_trials=5).run())


def test_where_nothing_is_left_to_do_no_process_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, max_trials=2).run()
    monkeypatch.setattr(Experiment, "_make_runner", lambda self: pytest.fail("it made a runner"))
    assert len(make(tmp_path, max_trials=2, runner="processes").run().trials) == 2


def test_a_search_ends_when_the_space_does(tmp_path: Path) -> None:
    exp = make(
        tmp_path, lambda c, r: 1.0, GridSearch(), model={"k": Categorical([1, 2, 3])}, max_trials=None
    ).run()
    assert samples(exp) == [{"k": 1}, {"k": 2}, {"k": 3}]


def test_max_duration_is_a_total_too(tmp_path: Path) -> None:
    def slow(candidate, report):
        threading.Event().wait(0.05)
        return 1.0

    first = make(tmp_path, slow, max_duration=0.12, max_trials=None).run()
    assert 2 <= len(first.trials) <= 3
    assert len(make(tmp_path, slow, max_duration="0.12s", max_trials=None).run().trials) == len(first.trials)
    assert len(make(tmp_path, slow, max_duration=10, max_trials=4).run().trials) == 4


def test_no_trials_are_no_trouble(tmp_path: Path) -> None:
    exp = make(tmp_path, max_trials=0).run()
    assert exp.trials == []
    assert exp.best is None


# -- stopping ----------------------------------------------------------------------------------------


class AtStep:
    """Stops the odd trials at their second report."""

    def decide(self, trial: Trial, trials: Any) -> str:
        assert trials[trial.number] is trial
        return "stop" if trial.number % 2 and trial.intermediate[-1].step >= 1 else "go"


def test_a_stopped_trial_keeps_its_metrics_but_is_never_the_best(tmp_path: Path) -> None:
    def learn(candidate, report):
        for step in range(4):
            if not report(step, {"acc": step}):
                break
        return {"acc": 10.0 * candidate.number}

    exp = make(tmp_path, learn, stopping=AtStep(), max_trials=4).run()
    assert [trial.status.value for trial in exp.trials] == ["completed", "stopped"] * 2
    assert [len(trial.intermediate) for trial in exp.trials] == [4, 2, 4, 2]
    assert exp.trials[3].score == 30.0
    assert exp.trials[3].reason == "stopped by AtStep at step 1"
    assert exp.best is not None
    assert exp.best.number == 2


def test_a_rule_that_answers_something_else_is_named(tmp_path: Path) -> None:
    class Vague:
        def decide(self, trial, trials):
            return "maybe"

    def learn(candidate, report):
        report(0, {"acc": 0.0})
        return 1.0

    with pytest.raises(ValueError, match=r"answers 'go' or 'stop', but .*Vague.* said 'maybe'"):
        make(tmp_path, learn, stopping=Vague()).run()


# -- settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"concurrency": 0}, ValueError, "`concurrency` must be an integer of at least 1, but got 0"),
        ({"max_trials": -1}, ValueError, "`max_trials` must be an integer of at least 0, but got -1"),
        ({"seed": -1}, ValueError, "`seed` must be an integer of at least 0"),
        ({"max_duration": "1 hour"}, ValueError, "`max_duration` must be seconds, or text"),
        ({"mode": "best"}, ValueError, "`mode` must be 'max' or 'min', but got 'best'"),
        (
            {"runner": "cloud"},
            ValueError,
            "`runner` must be 'processes', 'inprocess', 'ray', .* but got 'cloud'",
        ),
        ({"strategy": Random}, TypeError, "`strategy` must be an object with a method `ask`, but got <class"),
        (
            {"strategy": "random"},
            TypeError,
            "`strategy` must be an object with a method `ask`, but got 'random'",
        ),
        ({"model": 3}, TypeError, "int is not a model space"),
    ],
)
def test_wrong_settings_are_refused_at_once(
    tmp_path: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


def test_without_a_directory_a_new_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exp = Experiment(
        SPACE, Evaluates(distance), Random(), runner="inprocess", progress=False, max_trials=1
    ).run()
    assert exp.directory.parent == tmp_path / "runs"
    assert (exp.directory / "experiment.db").exists()


# -- top models --------------------------------------------------------------------------------------


def test_the_top_samples_are_given_best_first(tmp_path: Path) -> None:
    exp = make(tmp_path, max_trials=6).run()
    ranked = sorted(exp.trials, key=lambda trial: trial.metrics["loss"])
    assert exp.export_top_models(top_k=3) == [trial.sample for trial in ranked[:3]]
    assert len(exp.export_top_models(top_k=99, formatter="dict")) == 6


def test_nothing_can_be_exported_without_a_completed_trial(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"nothing to export from .*: no trial has completed\."):
        make(tmp_path).export_top_models()

    def fail(candidate, report):
        raise RuntimeError("no memory")

    with pytest.raises(
        ExperimentError, match="no trial has completed; trial 1 failed with RuntimeError: no memory"
    ):
        make(tmp_path, fail, max_trials=2).run().export_top_models()


def test_code_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="no model to export: the experiment was given a search space"):
        make(tmp_path).run().export_top_models(formatter="code")


def test_the_store_can_be_read_without_the_users_objects(tmp_path: Path) -> None:
    exp = make(tmp_path, max_trials=3).run()
    os.remove(tmp_path / "exp" / "experiment.pkl")
    store = SqliteStore.open(tmp_path / "exp")
    assert store.trials() == exp.trials
    assert store.description.space == SPACE
    (run,) = store.runs()
    assert run["ended"] == "all 3 trials are done"
    assert run["settings"]["max_trials"] == 3
    assert run["environment"]["packages"]["numpy"]
    store.close()
