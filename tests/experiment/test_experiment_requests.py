"""Requests: what other processes ask of a driver, in files and of real drivers in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lightning_nas.errors import ExperimentError
from lightning_nas.experiment import Experiment, SqliteStore, folder, requests
from lightning_nas.experiment.requests import (
    Copy,
    Inbox,
    Kill,
    Request,
    RequestError,
    Retry,
    Stop,
    send,
    wait_for,
)
from lightning_nas.experiment.summary import Summary, summary
from lightning_nas.space import Categorical, Float, Sample, SearchSpace
from lightning_nas.strategies import Random
from lightning_nas.trial import Status, Trial

SPACE = SearchSpace({"x": Float(0, 1), "kernel": Categorical([(3, 3), (5, 5)])})
SAMPLE = {"x": 0.5, "kernel": (3, 3)}
REQUESTS: list[Request] = [Stop(), Stop(now=True), Kill(3), Retry(0), Copy(1, {"x": 0.5, "kernel": [3, 3]})]

# -- files -----------------------------------------------------------------------------------------


@dataclass
class Desk:
    """Notes what it is told."""

    space: SearchSpace = SPACE
    trials: list[Trial] = field(
        default_factory=lambda: [Trial(0, SAMPLE, Status.FAILED), Trial(1, SAMPLE, Status.RUNNING)]
    )
    told: list[Any] = field(default_factory=list)

    def stop(self, now: bool) -> None:
        self.told.append(("stop", now))

    def kill(self, number: int) -> None:
        self.told.append(("kill", number))

    def enqueue(self, sample: Sample, why: str) -> None:
        self.told.append((sample, why))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def inbox(tmp_path: Path, said: list[str]) -> Iterator[Inbox]:
    """The inbox of a folder that this process drives."""
    with folder.only_driver(tmp_path), Inbox(tmp_path, said.append) as inbox:
        yield inbox


@pytest.mark.parametrize("request_", REQUESTS)
def test_what_is_written_is_read(request_: Request) -> None:
    assert requests.from_json(json.loads(json.dumps(requests.to_json(request_)))) == request_


def test_requests_are_followed_in_order_and_their_files_removed(tmp_path: Path, inbox: Inbox) -> None:
    desk = Desk()
    for request in (Kill(1), Retry(0), Copy(1, {"x": 0.25, "kernel": [5, 5]}), Stop(now=True)):
        send(tmp_path, request)
    inbox.serve(desk)
    assert desk.told == [
        ("kill", 1),
        (SAMPLE, "retry of trial 0"),
        ({"x": 0.25, "kernel": (5, 5)}, "changed copy of trial 1"),
        ("stop", True),
    ]
    assert list((tmp_path / "requests").iterdir()) == []
    inbox.serve(desk)
    assert len(desk.told) == 4


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[]", "no request"),
        (b'{"request": "halt"}', "one of stop, kill, retry, copy"),
        (b'{"request": ["stop"]}', "no request"),
        (b'{"request": "stop", "when": 1}', "'stop' takes now, but got ['when']"),
        (b'{"request": "kill"}', "'kill' takes number"),
        (b'{"request": "kill", "number": true}', "'number' must be a number, but is True"),
        (b'{"request": "kill", "number": 2}', "There is no trial 2"),
        (b'{"request": "kill", "number": -1}', "There is no trial -1"),
        (b'{"request": "kill", "number": 0}', "Trial 0 does not run: it is failed"),
        (b'{"request": "retry", "number": 1}', "Trial 1 is running; only one that has ended can be retried"),
        (b'{"request": "copy", "number": 0, "sample": {"x": 2}}', "x"),
        (b'{"request": "copy", "number": 0, "sample": {"y": 1}}', "y"),
        (b'{"request": "copy", "number": 0, "sample": {"x": NaN, "kernel": [3, 3]}}', "x"),
        (b'{"request": "copy", "number": 0, "sample": {"x": [], "kernel": {"3": [{}]}}}', "x"),
        (b'{"request": "copy", "number": 0, "sample": {"x": 0.5, "kernel": {"3": [{}]}}}', "kernel"),
        (b" " * (1 << 21), "small files"),
    ],
)
def test_what_cannot_be_followed_is_set_aside_with_the_reason(
    tmp_path: Path, inbox: Inbox, said: list[str], content: bytes, why: str
) -> None:
    desk = Desk()
    (tmp_path / "requests" / "a.json").write_bytes(content)
    inbox.serve(desk)
    assert desk.told == []
    refused = tmp_path / "requests" / "refused"
    assert why in (refused / "a.txt").read_text()
    assert (refused / "a.json").read_bytes() == content
    assert len(said) == 1
    assert "a.json was refused" in said[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a pipe")
def test_a_pipe_or_a_folder_in_the_place_of_a_request_holds_nothing_up(tmp_path: Path, inbox: Inbox) -> None:
    os.mkfifo(tmp_path / "requests" / "pipe.json")
    (tmp_path / "requests" / "folder.json").mkdir()
    (tmp_path / "requests" / "half-written").write_text("{")
    inbox.serve(Desk())
    names = {path.name for path in (tmp_path / "requests" / "refused").iterdir()}
    assert names == {"pipe.json", "pipe.txt", "folder.json", "folder.txt"}


def test_a_file_that_cannot_be_removed_is_followed_once(
    tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()
    send(tmp_path, Retry(0))
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    inbox.serve(desk)
    inbox.serve(desk)
    assert len(desk.told) == 1


def test_what_waited_for_a_driver_is_not_followed_by_the_next(tmp_path: Path, said: list[str]) -> None:
    with folder.only_driver(tmp_path):
        path = send(tmp_path, Retry(0))
        with Inbox(tmp_path, said.append) as inbox:
            desk = Desk()
            inbox.serve(desk)
        assert desk.told == []
        with pytest.raises(RequestError, match="written before this driver began"):
            wait_for(path, 1)


def test_what_comes_too_late_is_told_so(tmp_path: Path, said: list[str]) -> None:
    with folder.only_driver(tmp_path):
        with Inbox(tmp_path, said.append):
            path = send(tmp_path, Stop())
        with pytest.raises(RequestError, match="The search ended before"):
            wait_for(path, 1)


def test_without_a_driver_a_request_is_refused_with_the_way_to_resume(tmp_path: Path) -> None:
    with pytest.raises(
        ExperimentError, match=f"so there is no one to ask; `lightning-nas resume {tmp_path}` goes on"
    ):
        send(tmp_path, Stop())
    assert list(tmp_path.iterdir()) == []


def test_a_driver_that_dies_leaves_no_request_for_the_next(tmp_path: Path) -> None:
    with folder.only_driver(tmp_path):
        path = send(tmp_path, Retry(0))
        assert not wait_for(path, 0.01)
    with pytest.raises(RequestError, match="The driver ended before it took the request up"):
        wait_for(path, 1)
    assert not path.exists()


def test_asking_who_drives_leaves_the_lock_alone(tmp_path: Path) -> None:
    assert folder.driver(tmp_path) is None
    with folder.only_driver(tmp_path):
        assert folder.driver(tmp_path) == "this process"
        program = (
            f"from pathlib import Path; from lightning_nas.experiment import folder; "
            f"print(folder.driver(Path({str(tmp_path)!r})))"
        )
        for _ in range(2):
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            assert done.stdout.startswith(f"process {os.getpid()} on ")
    assert folder.driver(tmp_path) is None


# -- drivers ---------------------------------------------------------------------------------------

# `python search.py DIR RUNNER`: trials of 20 reports in 2 s, each with a child process of its own.
SEARCH = """
import subprocess, sys, time
from lightning_nas.experiment import Experiment
from lightning_nas.space import Categorical, Float
from lightning_nas.strategies import Random

class Learns:
    def evaluate(self, candidate, report):
        child = subprocess.Popen(["sleep", "60"])
        (candidate.directory / "child").write_text(str(child.pid))
        try:
            for step in range(20):
                if not report(step, {"acc": candidate.sample["x"] + step}):
                    break
                if candidate.sample["x"] == 0.125:
                    raise ValueError("an eighth")
                time.sleep(0.1)
            return {"acc": candidate.sample["x"] + step}
        finally:
            child.kill()
            child.wait()

Experiment({"x": Float(0, 1), "kernel": Categorical([(3, 3), (5, 5)])}, Learns(), Random(), directory=sys.argv[1],
           runner=sys.argv[2], max_trials=2, concurrency=2).run()
"""
RUNNERS = pytest.mark.parametrize("runner", ["inprocess", "processes"])


@contextlib.contextmanager
def driver(directory: Path, runner: str) -> Iterator[subprocess.Popen[str]]:
    """A driver whose first trial has reported."""
    script = directory.parent / "search.py"
    script.write_text(SEARCH)
    command = [sys.executable, str(script), str(directory), runner]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            until(directory, lambda now: any(trial.intermediate for trial in now.running))
            yield process
        finally:
            process.kill()


def until(directory: Path, is_so: Callable[[Summary], bool]) -> Summary:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(ExperimentError):  # it is still being made
            now = summary(directory)
            if is_so(now):
                return now
        time.sleep(0.02)
    pytest.fail("it never came so far")


def trials(directory: Path) -> list[Trial]:
    with contextlib.closing(SqliteStore.open(directory)) as store:
        return store.trials()


def is_alive(directory: Path, number: int) -> bool:
    """Whether what a trial started still runs."""
    pid = int((directory / "trials" / str(number) / "child").read_text())
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@RUNNERS
def test_a_killed_trial_is_stopped_with_its_last_report_and_the_search_goes_on(
    tmp_path: Path, runner: str
) -> None:
    directory = tmp_path / "exp"
    with driver(directory, runner) as process:
        assert wait_for(send(directory, Kill(0)), 10)
        until(directory, lambda now: now.counts.get(Status.STOPPED) == 1)
        killed = trials(directory)[0]
        assert killed.reason == f"stopped by request after step {killed.steps - 1}" or runner == "inprocess"
        assert killed.metrics == killed.intermediate[-1].metrics
        assert killed.score == killed.metrics["acc"]
        assert not is_alive(directory, 0)
        with pytest.raises(RequestError, match="Trial 0 does not run: it is stopped"):
            wait_for(send(directory, Kill(0)), 10)
        assert wait_for(send(directory, Retry(0)), 10)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    first, *others = trials(directory)
    assert first == killed
    assert {trial.status for trial in others} == {Status.COMPLETED}
    assert [trial.sample for trial in others].count(killed.sample) == 1


@pytest.mark.slow
@RUNNERS
def test_a_stopped_search_waits_for_what_runs(tmp_path: Path, runner: str) -> None:
    directory = tmp_path / "exp"
    with driver(directory, runner) as process:
        running = len(summary(directory).running)
        assert wait_for(send(directory, Stop()), 10)
        out, _ = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130)
    assert "The search ended: stopped by request" in out
    assert summary(directory).state == "interrupted"
    done = trials(directory)
    assert running <= len(done) <= 2
    assert {trial.status for trial in done} == {Status.COMPLETED}


@pytest.mark.slow
@RUNNERS
def test_a_search_that_is_stopped_now_ends_what_runs_and_resumes_it(tmp_path: Path, runner: str) -> None:
    directory = tmp_path / "exp"
    with driver(directory, runner) as process:
        assert wait_for(send(directory, Stop(now=True)), 10)
        out, _ = process.communicate(timeout=15)
    assert process.returncode in (-signal.SIGINT, 130)
    assert "lightning-nas resume" in out
    assert {trial.status for trial in trials(directory)} == {Status.PAUSED}
    assert not is_alive(directory, 0)
    assert summary(directory).state == "interrupted"


@pytest.mark.slow
@RUNNERS
def test_samples_that_were_asked_for_survive_the_driver_and_run_beyond_the_budget(
    tmp_path: Path, runner: str
) -> None:
    directory = tmp_path / "exp"
    with driver(directory, runner) as process:
        before = len(trials(directory))  # 1 in process, or 2
        assert wait_for(send(directory, Copy(0, {"x": 0.125, "kernel": [5, 5]})), 10)
        with pytest.raises(RequestError, match="'x'"):
            wait_for(send(directory, Copy(0, {"x": 9, "kernel": [5, 5]})), 10)
        process.kill()
    assert summary(directory).state == "broken off"
    queued = trials(directory)[before]
    assert queued.sample == {"x": 0.125, "kernel": (5, 5)}
    assert (queued.status, queued.reason) == (Status.PAUSED, "changed copy of trial 0")
    with driver(directory, runner) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    done = trials(directory)
    assert (done[before].sample, done[before].reason) == (queued.sample, "ValueError: an eighth")
    # It counts in the budget of two, but is run also where that is spent.
    assert len(done) == max(2, before + 1)
    assert [trial.status for trial in done].count(Status.COMPLETED) == len(done) - 1


@dataclass(frozen=True)
class Asks:
    """An evaluator whose first trial leaves requests for its own driver, and then reports."""

    directory: Path
    requests: tuple[Request, ...]

    def evaluate(self, candidate: Any, report: Any) -> dict[str, float]:
        if candidate.number == 0:
            for request in self.requests:
                send(self.directory, request)
        if not report(0, {"acc": 0.5}):
            return {"acc": 0.5}
        return {"acc": 1.0}


def searched(directory: Path, *asked: Request, **settings: Any) -> list[Trial]:
    experiment = Experiment(
        SPACE, Asks(directory, asked), Random(), directory=directory, runner="inprocess", max_trials=3, progress=False,
        **settings,
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):
        experiment.run()
    return experiment.trials


def test_a_trial_in_the_drivers_process_ends_at_its_next_report(tmp_path: Path) -> None:
    first, *others = searched(tmp_path, Kill(0))
    assert (first.status, first.reason) == (Status.STOPPED, "stopped by request after step 0")
    assert first.metrics == {"acc": 0.5}
    assert [trial.status for trial in others] == [Status.COMPLETED] * 2


def test_a_search_in_one_process_stops_when_it_is_told_to(tmp_path: Path) -> None:
    assert [trial.status for trial in searched(tmp_path, Stop())] == [Status.COMPLETED]
    (only,) = searched(tmp_path / "now", Stop(now=True))
    assert only.status is Status.PAUSED
    assert only.intermediate


def test_a_waiting_sample_can_be_killed_before_it_begins(tmp_path: Path) -> None:
    done = searched(tmp_path, Copy(0, {"x": 0.25, "kernel": [3, 3]}), Kill(1))
    assert (done[1].status, done[1].reason) == (Status.STOPPED, "stopped by request before its first report")
    assert [trial.status for trial in done] == [Status.COMPLETED, Status.STOPPED, Status.COMPLETED]


def test_a_copy_takes_the_next_number_and_what_follows_is_drawn_by_its_own(tmp_path: Path) -> None:
    plain = searched(tmp_path / "plain")
    asked = searched(tmp_path / "asked", Copy(0, {"x": 0.25, "kernel": [3, 3]}))
    assert asked[1].sample == {"x": 0.25, "kernel": (3, 3)}
    assert [asked[0].sample, asked[2].sample] == [plain[0].sample, plain[2].sample]
