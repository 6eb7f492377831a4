"""`kill -9` at any moment: no finished trial is lost, none is counted twice, and the samples stay the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from other_processes import printed_by

from lightning_nas.experiment import SqliteStore
from lightning_nas.trial import Status, Trial

# A search that any process can start on a folder; `python search.py DIR runner` is the user's script.
SEARCH = """
import sys, time
from lightning_nas.experiment import Experiment
from lightning_nas.space import Categorical, Float
from lightning_nas.strategies import Random

class Learns:
    def evaluate(self, candidate, report):
        (candidate.directory / "weights.pt").write_text(str(candidate.number))
        for step in range(2):
            report(step, {"acc": candidate.sample["x"] * step})
            time.sleep(PAUSE)
        return {"acc": candidate.sample["x"]}

def search(directory, runner="inprocess", max_trials=2):
    space = {"x": Float(0, 1), "kind": Categorical(["a", "b"])}
    return Experiment(space, Learns(), Random(), directory=directory, runner=runner, max_trials=max_trials,
                      progress=False)
"""

SCRIPT = (
    SEARCH
    + """
PAUSE = 0.02
search(sys.argv[1], "processes", max_trials=12).run()
"""
)

# Forks a search that dies before its n-th touch of the database or of a file, for n = 1, 2, ... until one
# lives to its end; after each death a second search goes on in the same folder.
DIES_EVERYWHERE = (
    SEARCH
    + """
import os, signal, sqlite3
import cloudpickle  # now, and not in each fork
from pathlib import Path

PAUSE = 0
root = Path(sys.argv[1])

def in_a_fork(run):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def dying(directory, moment):
    count = 0
    def pass_by():
        nonlocal count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
    class Connection(sqlite3.Connection):
        def execute(self, *arguments):
            pass_by()
            return super().execute(*arguments)
    connect = sqlite3.connect
    sqlite3.connect = lambda *arguments, **options: connect(*arguments, **{**options, "factory": Connection})
    watched = {"open", "os.rename", "os.mkdir", "os.remove", "shutil.rmtree"}
    def watch(event, arguments):
        if event in watched and str(arguments[0]).startswith(str(directory)):
            pass_by()
    sys.addaudithook(watch)
    search(directory).run()

moment = 0
while True:
    moment += 1
    directory = root / str(moment)
    code = in_a_fork(lambda: dying(directory, moment))
    if code == 0:
        break
    assert code == -signal.SIGKILL, code
    def go_on():
        experiment = search(directory)
        left = [trial.number for trial in experiment.trials if trial.status.is_final]
        directory.with_suffix(".left").write_text(repr(left))
        experiment.run()
    assert in_a_fork(go_on) == 0, moment
print(moment)
"""
)


def outcomes(directory: Path) -> list[tuple[object, ...]]:
    """What must be the same however often the driver died."""
    store = SqliteStore.open(directory)
    try:
        for trial in store.trials():
            changes = [change.status for change in store.changes(trial.number)]
            assert changes.count(Status.COMPLETED) == 1, f"trial {trial.number} was finished {changes}"
        return [(t.number, t.sample, t.status, t.metrics, t.score, t.intermediate) for t in store.trials()]
    finally:
        store.close()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_driver_killed_at_each_touch_of_a_file_or_the_database_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where asking git for the commit takes no time
    moments = int(printed_by(DIES_EVERYWHERE, tmp_path))
    assert moments > 60
    undisturbed = outcomes(tmp_path / str(moments))
    assert len(undisturbed) == 2
    for moment in range(1, moments):
        directory = tmp_path / str(moment)
        assert outcomes(directory) == undisturbed, moment
        finished = json.loads(directory.with_suffix(".left").read_text())
        store = SqliteStore.open(directory)
        for number in finished:
            assert len(store.changes(number)) == 2, f"trial {number} ran again after moment {moment}"
        best = json.loads((directory / "best" / "metrics.json").read_text())["trial"]
        assert best == max(store.trials(), key=lambda trial: trial.score or 0).number
        assert (directory / "best" / "weights.pt").read_text() == str(best)
        store.close()


def finished(directory: Path) -> dict[int, Trial]:
    """The trials that have ended, but for their files: weights that are not among the best go later."""
    store = SqliteStore.open(directory)
    try:
        return {t.number: replace(t, artifacts={}) for t in store.trials() if t.status.is_final}
    finally:
        store.close()


@pytest.mark.slow
def test_a_driver_with_trials_in_processes_is_killed_at_random_and_goes_on(tmp_path: Path) -> None:
    """Four kills, 0 to 0.4 s after another trial has finished; seeded, but the moments are the machine's."""
    path = tmp_path / "search.py"
    path.write_text(SCRIPT)
    rng = random.Random(0)
    directory = tmp_path / "exp"
    kept: dict[int, Trial] = {}
    for _ in range(4):
        with subprocess.Popen([sys.executable, path, directory], stderr=subprocess.PIPE, text=True) as driver:
            while driver.poll() is None and not _has_more(directory, len(kept)):
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.4))
            driver.send_signal(signal.SIGKILL)
        now = finished(directory)
        assert {number: now[number] for number in kept} == kept
        kept = now
    printed_by(SCRIPT, directory)
    assert {number: trial for number, trial in finished(directory).items() if number in kept} == kept
    undisturbed = tmp_path / "undisturbed"
    printed_by(SCRIPT, undisturbed)
    assert outcomes(directory) == outcomes(undisturbed)
    assert len(finished(directory)) == 12


SLEEPY = (
    SEARCH
    + """
PAUSE = 0.6
print("ready", flush=True)
search(sys.argv[1], "processes", max_trials=8).run()
print("not reached")
"""
)


@pytest.mark.slow
@pytest.mark.parametrize(("presses", "status"), [(1, Status.COMPLETED), (2, Status.PAUSED)])
def test_ctrl_c_in_a_terminal_reaches_the_driver_alone(tmp_path: Path, presses: int, status: Status) -> None:
    """A terminal sends SIGINT to the whole process group, so also to what the driver has started."""
    path = tmp_path / "search.py"
    path.write_text(SLEEPY)
    directory = tmp_path / "exp"
    command = [sys.executable, path, directory]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as driver:
        assert driver.stdout is not None
        driver.stdout.readline()
        time.sleep(0.5)  # the server is still importing
        while not _reported(directory):
            time.sleep(0.05)
        for _ in range(presses):
            os.killpg(driver.pid, signal.SIGINT)
            time.sleep(0.2)
        out, err = driver.communicate(timeout=60)
    assert driver.returncode in (-signal.SIGINT, 128 + signal.SIGINT), err
    assert out == ""
    store = SqliteStore.open(directory)
    trials = store.trials()
    store.close()
    assert [trial.status for trial in trials] == [status] * 2
    assert "KeyboardInterrupt" not in "".join(
        (directory / "trials" / str(trial.number) / "output.log").read_text() for trial in trials
    )


def _reported(directory: Path) -> bool:
    if not (directory / "experiment.db").exists():
        return False
    store = SqliteStore.open(directory)
    try:
        return sum(bool(trial.intermediate) for trial in store.trials()) == 2
    finally:
        store.close()


def _has_more(directory: Path, number: int) -> bool:
    return (directory / "experiment.db").exists() and len(finished(directory)) > number
