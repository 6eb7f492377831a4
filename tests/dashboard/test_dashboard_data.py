"""What the pages show: read again only where something has changed, and never a crash."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import driven, made, opened, trial

from lightning_nas.dashboard.data import Experiments, Glance, Reader, key_of
from lightning_nas.experiment.store import DATABASE
from lightning_nas.trial import Intermediate, Status

RUNNING = trial(1, Status.RUNNING)


def shown(directory: Path) -> Reader:
    reader = Reader(directory, "exp")
    reader.refresh()
    return reader


def test_nothing_is_read_twice(tmp_path: Path) -> None:
    reader = shown(made(tmp_path / "exp"))
    time.sleep(0.1)  # until the file counts as settled
    version = reader.refresh()
    assert [reader.refresh() for _ in range(3)] == [version] * 3


def test_a_new_trial_a_new_status_and_a_new_report_are_seen_at_once(tmp_path: Path) -> None:
    with contextlib.closing(opened(tmp_path / "exp")) as store:
        store.write(trial(0, Status.RUNNING))
        reader = shown(tmp_path / "exp")
        first = reader.version
        store.write(RUNNING)
        second = reader.refresh()
        assert [each.number for each in reader.changed_since(first)] == [1]
        store.report(1, 0, Intermediate(0, {"acc": 0.25}))
        third = reader.refresh()
        assert [each.intermediate[-1].metrics for each in reader.changed_since(second)] == [{"acc": 0.25}]
        store.write(trial(0, acc=0.75))
        reader.refresh()
        assert [each.score for each in reader.changed_since(third)] == [0.75]
    assert [each.status for each in reader.ordered()] == [Status.COMPLETED, Status.RUNNING]


def test_only_the_last_report_is_kept_and_all_are_read_on_demand(tmp_path: Path) -> None:
    reader = shown(made(tmp_path / "exp", [trial(0), RUNNING], reports=5))
    assert [len(each.intermediate) for each in reader.ordered()] == [0, 1]
    assert [len(each.intermediate) for each in reader.with_reports([0, 1, 9])] == [5, 5]


def test_a_report_that_begins_anew_replaces_the_last(tmp_path: Path) -> None:
    with contextlib.closing(opened(tmp_path / "exp")) as store:
        store.write(RUNNING)
        for step in range(3):
            store.report(1, step, Intermediate(step, {"acc": 0.5}))
        reader = shown(tmp_path / "exp")
        store.report(1, 0, Intermediate(0, {"acc": 0.1}))
        reader.refresh()
    assert reader.trials[1].intermediate == (Intermediate(0, {"acc": 0.1}),)


def test_a_driver_that_comes_and_goes_is_seen(tmp_path: Path) -> None:
    reader = shown(made(tmp_path / "exp", ended=None))
    assert (reader.is_running, reader.summary and reader.summary.state) == (False, "broken off")
    with driven(tmp_path / "exp", []):
        reader.refresh()
        assert reader.is_running
    reader.refresh()
    assert not reader.is_running


def test_values_that_are_not_finite_come_through(tmp_path: Path) -> None:
    nan = trial(0, Status.STOPPED)
    with contextlib.closing(opened(tmp_path / "exp")) as store:
        store.write(trial(1, Status.RUNNING))
        store.report(1, 0, Intermediate(0, {"acc": math.nan, "loss": math.inf}))
        store.write(nan)
    metrics = shown(tmp_path / "exp").trials[1].intermediate[-1].metrics
    assert math.isnan(metrics["acc"])
    assert metrics["loss"] == math.inf


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda path: path.unlink(), "holds no experiment any more"),
        (lambda path: path.write_bytes(b"not a database" * 100), "lightning-nas rescue"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "cannot be used|malformed"),
        (lambda path: path.write_bytes(b""), "not one of lightning-nas"),
        (lambda path: _set(path, "PRAGMA user_version = 99"), "schema version 99"),
        (lambda path: _set(path, "UPDATE trials SET metrics = '{'"), "cannot be used"),
        (lambda path: _set(path, "DELETE FROM experiment"), "does not say what its experiment is"),
        (lambda path: shutil.rmtree(path.parent), "holds no experiment any more"),
    ],
)
def test_what_cannot_be_read_is_told_and_what_was_read_stays(tmp_path: Path, harm: object, why: str) -> None:
    path = made(tmp_path / "exp") / DATABASE
    reader, glance = shown(path.parent), Glance(path.parent, "exp")
    harm(path)  # type: ignore[operator]
    for _ in range(2):
        reader.refresh()
        glance.refresh()
    assert reader.trouble is not None
    assert glance.summary is None
    assert glance.trouble
    assert re.search(why, reader.trouble)
    assert [each.number for each in reader.ordered()] == [0]


def _set(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_another_experiment_in_the_same_place_replaces_the_first(tmp_path: Path) -> None:
    reader = shown(made(tmp_path / "exp", [trial(0), trial(1)]))
    shutil.rmtree(tmp_path / "exp")
    made(tmp_path / "exp", [trial(0, acc=0.9)])
    reader.refresh()
    assert [(each.number, each.score) for each in reader.ordered()] == [(0, 0.9)]


def test_a_store_that_is_being_written_is_read(tmp_path: Path) -> None:
    directory = made(tmp_path / "exp")
    with contextlib.closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE trials SET score = 5")
        reader = shown(directory)
        writer.execute("ROLLBACK")
    assert (reader.trouble, reader.trials[0].score) == (None, 0.5)


def test_experiments_are_found_and_forgotten(tmp_path: Path) -> None:
    made(tmp_path / "a" / "b c")
    made(tmp_path / "z")
    experiments = Experiments(tmp_path)
    experiments.scan()
    assert [(each.name, each.key) for each in experiments.glances()] == [("a/b c", "a~2Fb~20c"), ("z", "z")]
    shutil.rmtree(tmp_path / "z")
    experiments.scan()
    assert [each.name for each in experiments.glances()] == ["a/b c"]
    assert experiments.reader("z") is None
    assert experiments.reader("..") is None


def test_one_that_is_shown_stays_when_it_is_gone_so_that_its_page_can_say_so(tmp_path: Path) -> None:
    made(tmp_path / "exp")
    experiments = Experiments(tmp_path)
    experiments.scan()
    reader = experiments.reader("exp")
    assert reader is not None
    shutil.rmtree(tmp_path / "exp")
    experiments.scan()
    assert experiments.reader("exp") is reader
    reader.refresh()
    assert "holds no experiment any more" in (reader.trouble or "")


def test_the_folder_itself_may_be_an_experiment(tmp_path: Path) -> None:
    experiments = Experiments(made(tmp_path / "exp"))
    experiments.scan()
    assert [(each.name, each.key) for each in experiments.glances()] == [(".", "~2E")]


@given(st.text(min_size=1), st.text(min_size=1))
def test_keys_are_safe_in_an_address_and_tell_names_apart(one: str, other: str) -> None:
    with contextlib.suppress(UnicodeEncodeError):  # no name of a file
        assert (key_of(one) == key_of(other)) == (one == other)
        assert key_of(one).isascii()
        assert not set(key_of(one)) & set("/?#%&<>\"' ")
        assert key_of(one) not in (".",)


def test_ten_thousand_trials_are_read_in_seconds_and_watched_in_milliseconds(tmp_path: Path) -> None:
    with contextlib.closing(opened(tmp_path / "exp")) as store:
        rows = [(n, '{"lr": 0.5}', "completed", '{"acc": 0.5}', 0.5, "{}") for n in range(10_000)]
        store._connection.execute("BEGIN")
        store._connection.executemany(
            "INSERT INTO trials (number, sample, status, metrics, score, artifacts) VALUES (?,?,?,?,?,?)",
            rows,
        )
        store._connection.executemany(
            "INSERT INTO changes (number, status, time) VALUES (?, 'completed', 0)",
            [(n,) for n in range(10_000)],
        )
        store._connection.execute("COMMIT")
        start = time.process_time()
        reader = shown(tmp_path / "exp")
        read = time.process_time() - start
        assert len(reader.trials) == 10_000
        store.write(trial(10_000, acc=0.9))
        start = time.process_time()
        reader.refresh()
        assert time.process_time() - start < 0.2
    assert read < 3
    assert [each.number for each in reader.changed_since(reader.version - 1)] == [10_000]
