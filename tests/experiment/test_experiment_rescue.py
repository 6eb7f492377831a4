"""A damaged database: what can be read of it is saved."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightning_nas.errors import ExperimentError, StoreError
from lightning_nas.experiment import Experiment, SqliteStore, folder
from lightning_nas.experiment.rescue import rescue
from lightning_nas.space import Categorical, Float
from lightning_nas.strategies import Random
from lightning_nas.trial import Status, Trial

PAGE = 4096


class Reports:
    def evaluate(self, candidate: Any, report: Any) -> dict[str, float]:
        for step in range(5):
            report(step, {"acc": candidate.sample["x"], "loss": float(step)})
        return {"acc": candidate.sample["x"]}


def experiment(directory: Path, max_trials: int = 60) -> Experiment:
    space = {"x": Float(0, 1), "page": Categorical(["." * 200])}
    return Experiment(
        space,
        Reports(),
        Random(),
        directory=directory,
        objective="acc",
        runner="inprocess",
        progress=False,
        max_trials=max_trials,
    )


@pytest.fixture
def whole(tmp_path: Path) -> list[Trial]:
    """The trials of a finished search in `tmp_path`, all in the database file itself."""
    trials = experiment(tmp_path).run().trials
    assert not (tmp_path / "experiment.db-wal").exists()
    return trials


def damage(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(random.Random(page).randbytes(PAGE))


def check_what_was_saved(directory: Path, whole: list[Trial]) -> int:
    """Holds what `rescue` says against what was there; how many trials came through unharmed."""
    rescued = rescue(directory)
    trials = SqliteStore.open(directory).trials()
    assert [trial.number for trial in trials] == list(range(len(trials)))
    for trial in trials:
        if trial.number in rescued.lost:
            assert (trial.status, trial.reason) == (
                Status.PAUSED,
                "lost when the database was damaged; runs again, with a new sample",
            )
        elif trial.number in rescued.incomplete:
            assert trial.intermediate != whole[trial.number].intermediate
            assert (trial.sample, trial.metrics) == (whole[trial.number].sample, whole[trial.number].metrics)
        else:
            assert trial == whole[trial.number]
    store = SqliteStore.open(directory)
    for trial in trials:
        assert len(store.changes(trial.number)) <= 3
    assert len(store.runs()) <= 1
    assert rescued.trials == len(trials) - len(rescued.lost)
    assert rescued.damaged.exists()
    return len(trials) - len({*rescued.lost, *rescued.incomplete})


def test_each_damaged_page_costs_what_was_on_it_alone(tmp_path: Path, whole: list[Trial]) -> None:
    path = tmp_path / "experiment.db"
    original = path.read_bytes()
    unharmed = []
    for page in range(1, len(original) // PAGE):
        path.write_bytes(original)
        damage(path, page)
        with contextlib.suppress(StoreError):  # the page that says what was searched for
            unharmed.append(check_what_was_saved(tmp_path, whole))
    assert len(unharmed) >= len(original) // PAGE - 3
    assert len(unharmed) >= 10
    assert sorted(unharmed)[len(unharmed) // 2] >= 0.8 * len(whole)


def test_after_a_rescue_the_search_goes_on_and_ends_with_all_trials(
    tmp_path: Path, whole: list[Trial]
) -> None:
    path = tmp_path / "experiment.db"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(StoreError, match="malformed; `lightning-nas rescue .*` saves what can still be read"):
        experiment(tmp_path).run()
    unharmed = check_what_was_saved(tmp_path, whole)
    assert 0 < unharmed < len(whole)
    trials = experiment(tmp_path, max_trials=70).run().trials
    assert [trial.status for trial in trials] == [Status.COMPLETED] * 70


def test_what_is_still_in_the_log_is_saved_too(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "import test_experiment_rescue as t\n"
        "class Dies(t.Reports):\n"
        "    def evaluate(self, candidate, report):\n"
        "        if candidate.number == 7: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().evaluate(candidate, report)\n"
        "exp = t.experiment(Path(sys.argv[2]))\n"
        "exp._arguments['evaluator'] = Dies()\n"
        "exp.run()\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    assert subprocess.run(
        command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ).returncode == -(signal.SIGKILL)
    assert (tmp_path / "experiment.db-wal").stat().st_size > 0
    rescued = rescue(tmp_path)
    assert (rescued.trials, rescued.lost, rescued.incomplete) == (8, [], [])
    assert [trial.status for trial in SqliteStore.open(tmp_path).trials()] == [
        *[Status.COMPLETED] * 7,
        Status.RUNNING,
    ]


def test_where_nothing_can_be_read_that_is_said_and_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "experiment.db"
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError, match="not a database; `lightning-nas rescue"):
        SqliteStore.open(tmp_path)
    with pytest.raises(StoreError, match="Nothing can be saved"):
        rescue(tmp_path)
    assert path.read_bytes() == b"garbage" * 1000


def test_nothing_is_rescued_under_a_driver(tmp_path: Path, whole: list[Trial]) -> None:
    with folder.only_driver(tmp_path), pytest.raises(ExperimentError, match="being worked on"):
        rescue(tmp_path)


def test_a_database_of_an_older_version_is_rescued(tmp_path: Path, whole: list[Trial]) -> None:
    with sqlite3.connect(tmp_path / "experiment.db") as connection:
        connection.execute("ALTER TABLE trials DROP COLUMN budget")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    assert check_what_was_saved(tmp_path, whole) == len(whole)
