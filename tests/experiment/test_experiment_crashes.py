"""Crashes and memory that runs out: what is run again, what is named, what failed trials have in common."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_nas.errors import ExperimentError
from lightning_nas.experiment import Experiment, SqliteStore
from lightning_nas.experiment.failures import commonest, place_of
from lightning_nas.experiment.runners import crashes
from lightning_nas.experiment.runners.crashes import Kills, crash, explained
from lightning_nas.space import Float
from lightning_nas.stopping import ASHA
from lightning_nas.strategies import Random
from lightning_nas.testing.runners import Evaluates
from lightning_nas.trial import Status, Trial

pytestmark = pytest.mark.usefixtures("warm_server")


def search(directory: Path, function, **settings) -> Experiment:
    settings = {"max_trials": 1, "concurrency": 1, "progress": False, **settings}
    return Experiment({"x": Float(0, 1)}, Evaluates(function), Random(), directory=directory, **settings)


def history(directory: Path, number: int) -> list[tuple[str, str | None]]:
    with contextlib.closing(SqliteStore.open(directory)) as store:
        return [(change.status.value, change.reason) for change in store.changes(number)]


def crashes_once(candidate, report):
    """Leaves a checkpoint and is killed; goes on from the checkpoint."""
    if candidate.resume_from is None:
        report(0, {"x": 1.0})
        (candidate.directory / "checkpoint").write_text("half")
        os.kill(os.getpid(), signal.SIGSEGV)
    report(candidate.steps, {"x": 2.0})
    return {"x": candidate.sample["x"], "steps": candidate.steps}


# -- retries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reuse", [False, True])
def test_a_crash_is_run_again_with_its_number_sample_and_checkpoint(tmp_path: Path, reuse: bool) -> None:
    trial = search(tmp_path, crashes_once, objective="x", reuse=reuse).run().trials[0]
    assert trial.status is Status.COMPLETED
    assert trial.metrics == {"x": trial.sample["x"], "steps": 1}
    assert [report.step for report in trial.intermediate] == [0, 1]
    crashed = "The trial's process crashed with SIGSEGV. Runs again."
    assert history(tmp_path, 0) == [
        ("running", None),
        ("paused", crashed),
        ("running", "attempt 2"),
        ("completed", None),
    ]


def test_a_crash_that_repeats_is_the_trials_failure(tmp_path: Path) -> None:
    experiment = search(tmp_path, lambda candidate, report: os._exit(3), retries=2, max_trials=2).run()
    reason = "The trial's process ended with exit code 3 before it had a result. Attempts: 3."
    assert [trial.reason for trial in experiment.trials] == [reason] * 2
    assert [status for status, _ in history(tmp_path, 1)] == ["running", "paused"] * 2 + ["running", "failed"]


def test_without_retries_a_crash_is_a_failure_at_once(tmp_path: Path) -> None:
    search(tmp_path, crashes_once, objective="x", retries=0).run()
    assert [status for status, _ in history(tmp_path, 0)] == ["running", "failed"]


def test_what_the_users_code_raises_is_not_run_again(tmp_path: Path) -> None:
    def fail(candidate, report):
        raise ValueError("too wide")

    search(tmp_path, fail, retries=5).run()
    assert history(tmp_path, 0) == [("running", None), ("failed", "ValueError: too wide")]


def test_a_paused_trial_that_crashes_when_it_goes_on_is_run_again(tmp_path: Path) -> None:
    def train(candidate, report):
        for step in range(candidate.steps, 4):
            marker = candidate.directory / "crashed"
            if step == 2 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            (candidate.directory / "checkpoint").touch()
            if not report(step, {"acc": candidate.sample["x"]}):
                break
        return {"acc": candidate.sample["x"]}

    experiment = search(tmp_path, train, stopping=ASHA(max_steps=4, reduction=2), max_trials=4).run()
    assert Status.FAILED not in {trial.status for trial in experiment.trials}
    assert experiment.best is not None
    assert [report.step for report in experiment.best.intermediate] == [0, 1, 2, 3]
    assert "attempt 2" in [reason for _, reason in history(tmp_path, experiment.best.number)]


@pytest.mark.parametrize("retries", [-1, None])
def test_the_retries_are_checked(tmp_path: Path, retries: Any) -> None:
    with pytest.raises(ValueError, match=f"`retries` must be an integer of at least 0, but got {retries}"):
        search(tmp_path, crashes_once, retries=retries)


# -- memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "Out of memory: MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "Out of memory: OutOfMemoryError: CUDA out"),
        (RuntimeError("CUDA error: out of memory\nmore"), "Out of memory: RuntimeError: CUDA error"),
        (RuntimeError("CUDA error: device-side assert triggered"), "The GPU failed: RuntimeError: CUDA"),
        (RuntimeError("shapes differ"), "RuntimeError: shapes differ"),
        (ValueError("we are out of memory of that"), "ValueError: we are out"),
    ],
)
def test_memory_that_runs_out_is_named(error: Exception, text: str) -> None:
    assert explained(error).startswith(text)


def test_torchs_own_allocation_that_fails_is_named(tmp_path: Path) -> None:
    def allocate(candidate, report):
        torch.empty(1 << 60, dtype=torch.uint8)

    trial = search(tmp_path, allocate).run().trials[0]
    assert trial.reason is not None
    assert trial.reason.startswith("Out of memory: RuntimeError: ")
    assert [status for status, _ in history(tmp_path, 0)] == ["running", "failed"]


KILLED = "The trial's process was killed (SIGKILL)"


@pytest.mark.parametrize(
    ("before", "after", "reason", "may_pass"),
    [
        (Kills(3, True), Kills(4, True), "Out of memory: the system killed the trial's process", False),
        (Kills(3, False), Kills(4, False), "Probably out of memory: the system killed", False),
        (Kills(3, True), Kills(3, True), f"{KILLED}, not by the system for want of memory.", True),
        (Kills(), Kills(), f"{KILLED}, as the system does when memory runs out; it does not tell", True),
    ],
)
def test_a_kill_is_for_want_of_memory_if_the_system_counts_one(
    monkeypatch: pytest.MonkeyPatch, before: Kills, after: Kills, reason: str, may_pass: bool
) -> None:
    monkeypatch.setattr(Kills, "now", classmethod(lambda cls: after))
    found = crash(-signal.SIGKILL, before)
    assert found.reason.startswith(reason)
    assert found.may_pass is may_pass


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"proc/self/cgroup": "0::/job/7\n", "cgroup/job/7/memory.events": "oom 2\noom_kill 1\n"},
            Kills(1, True),
        ),
        ({"proc/self/cgroup": "0::/job/7\n", "cgroup/memory.events": "oom_kill 2\n"}, Kills(2, True)),
        (
            {
                "proc/self/cgroup": "3:cpu:/\n2:memory:/a:b\n",
                "cgroup/memory/a:b/memory.oom_control": "under_oom 0\noom_kill 5\n",
            },
            Kills(5, True),
        ),
        ({"proc/vmstat": "pgfault 8\noom_kill 9\n"}, Kills(9, False)),
        ({}, Kills(None, False)),
    ],
)
def test_kills_are_counted_where_the_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: Kills
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(crashes, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(crashes, "_CGROUPS", tmp_path / "cgroup")
    assert Kills.now() == expected


def test_a_trial_that_the_system_killed_for_memory_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter(range(100))
    monkeypatch.setattr(Kills, "now", classmethod(lambda cls: Kills(next(counts), True)))
    search(tmp_path, lambda candidate, report: os.kill(os.getpid(), signal.SIGKILL), retries=3).run()
    reason = "Out of memory: the system killed the trial's process (SIGKILL)."
    assert history(tmp_path, 0) == [("running", None), ("failed", reason)]


# -- what failures have in common --------------------------------------------------------------------


def failed(number: int, reason: str, line: int | None) -> Trial:
    frames = f'Traceback:\n  File "a.py", line 1, in f\n  File "b.py", line {line}, in g\n'
    return Trial(number, {}, Status.FAILED, reason=reason, traceback=None if line is None else frames)


def test_failures_in_the_same_line_with_other_numbers_are_alike() -> None:
    trials = [failed(0, "needs 3 MiB", 7), failed(1, "killed", None), failed(2, "needs 8.5 MiB", 7)]
    assert commonest(trials) == (trials[2], 2)
    assert commonest([*trials, failed(3, "needs 3 MiB", 8)]) == (trials[2], 2)
    assert [place_of(trial) for trial in trials] == ["b.py:7", None, "b.py:7"]


def test_among_as_many_the_later_failure_is_the_commonest() -> None:
    trials = [failed(0, "a", 1), failed(1, "b", 1), Trial(2, {}, Status.COMPLETED)]
    assert commonest(trials) == (trials[1], 1)
    assert commonest([]) == (None, 0)


def test_a_hopeless_search_names_what_most_failures_have_in_common(tmp_path: Path) -> None:
    def fail(candidate, report):
        if candidate.number == 2:
            raise OSError("the odd one")
        raise ValueError(f"needs {candidate.number} MiB")

    with pytest.raises(
        ExperimentError, match=r"trial 1 failed with ValueError: needs 1 MiB in .*py:\d+, as another"
    ):
        search(tmp_path, fail, runner="inprocess", max_consecutive_failures=3, max_trials=9).run()


def test_each_attempt_stands_in_the_database(tmp_path: Path) -> None:
    search(tmp_path, crashes_once, objective="x").run()
    with contextlib.closing(sqlite3.connect(tmp_path / "experiment.db")) as connection:
        rows = connection.execute("SELECT status FROM changes WHERE number = 0 ORDER BY id").fetchall()
    assert [status for (status,) in rows] == ["running", "paused", "running", "completed"]
