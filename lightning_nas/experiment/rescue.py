"""Saves what can be read of a damaged database."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nas.errors import StoreError
from lightning_nas.experiment import folder, schema
from lightning_nas.experiment.description import Description
from lightning_nas.experiment.store import DATABASE, as_metrics, as_trial
from lightning_nas.space import SearchSpace
from lightning_nas.trial import Status

_MOST_BYTES = 1 << 40  # more stands in a header only if that is damaged
_REASON = "lost when the database was damaged; runs again, with a new sample"


@dataclass(frozen=True)
class Rescued:
    """What came of a rescue.

    Args:
        trials: how many are as they were.
        lost: the numbers of those that could not be read. They are in the new database as paused, with a new
            sample, so that each trial keeps its number and its folder.
        incomplete: the numbers of those that lost some of their reports.
        damaged: where the damaged database now is.
    """

    trials: int
    lost: list[int]
    incomplete: list[int]
    damaged: Path


def rescue(directory: Path) -> Rescued:
    """Replaces a damaged `experiment.db` by one that holds all that can still be read of it.

    Raises:
        ExperimentError: if a driver works in the folder.
        StoreError: if there is no database, or not even what was searched for can be read.
    """
    path = directory / DATABASE
    if not path.is_file():
        raise StoreError(f"There is no experiment in {directory}: it has no {DATABASE}.")
    draft = directory / f".{DATABASE}"
    with folder.only_driver(directory), tempfile.TemporaryDirectory() as place:
        # Of a copy: opening a database may write to it, and what is damaged is to stay as it is.
        for name in (DATABASE, f"{DATABASE}-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(directory / name, Path(place) / name)
        _pad(Path(place) / DATABASE)
        draft.unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(Path(place) / DATABASE, isolation_level=None)) as old,
            contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as new,
        ):
            lost, incomplete, count = _copy(old, new, directory)
        damaged = _free_name(directory / f"{DATABASE}.damaged")
        path.rename(damaged)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                (directory / f"{DATABASE}{suffix}").rename(f"{damaged}{suffix}")
        draft.rename(path)
    return Rescued(count, lost, incomplete, damaged)


def _copy(
    old: sqlite3.Connection, new: sqlite3.Connection, directory: Path
) -> tuple[list[int], list[int], int]:
    """Copies row by row; the numbers of lost and of incomplete trials, and how many were saved."""
    settings = _rows(old, "SELECT key, value FROM experiment")
    try:
        description = Description.from_json({key: json.loads(value) for key, value in settings})
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"Nothing can be saved of {directory / DATABASE}: not even what was searched for can be read. What its "
            f"trials left is in {directory / folder.TRIALS}."
        ) from error
    new.executescript(schema.TABLES)
    new.execute("BEGIN")
    new.executemany("INSERT INTO experiment VALUES (?, ?)", settings)
    for table, is_sound in (("runs", _is_sound_run), ("changes", _is_sound_change)):
        # From both ends up to what is damaged.
        ends = [
            row for order in ("", "DESC") for row in _rows(old, f"SELECT * FROM {table} ORDER BY id {order}")
        ]
        _insert(old, new, table, sorted({row[0]: row for row in ends if is_sound(row)}.values()))
    lost, incomplete, count = [], [], _count_trials(old, directory)
    for number in range(count):
        rows = _rows(old, "SELECT * FROM trials WHERE number = ?", number)
        if rows and _is_sound(dict(zip(_columns(old, "trials"), rows[0])), description.space):
            _insert(old, new, "trials", rows)
            reports = _rows(old, "SELECT * FROM reports WHERE number = ? ORDER BY position", number)
            sound = [report for report in reports if _is_sound_report(report)]
            _insert(old, new, "reports", sound)
            if _rows(old, "SELECT count(*) FROM reports WHERE number = ?", number) != [(len(sound),)]:
                incomplete.append(number)
        else:
            lost.append(number)
            sample = description.space.sample(np.random.default_rng([description.seed, number]))
            new.execute(
                "INSERT INTO trials (number, sample, status, metrics, reason, artifacts) "
                "VALUES (?, ?, ?, '{}', ?, '{}')",
                (number, json.dumps(sample), Status.PAUSED.value, _REASON),
            )
    new.execute("COMMIT")
    new.execute(f"PRAGMA application_id = {schema.APPLICATION}")
    new.execute(f"PRAGMA user_version = {schema.VERSION}")
    return lost, incomplete, count - len(lost)


def _pad(path: Path) -> None:
    """Gives a truncated database its length back, without which SQLite reads none of it.

    Source: "Database File Format", section 1.3: the page size at byte 16, the number of pages at byte 28.
    """
    with path.open("r+b") as file:
        header = file.read(32)
        size = int.from_bytes(header[16:18], "big") * int.from_bytes(header[28:32], "big")
        if header.startswith(b"SQLite format 3") and path.stat().st_size < size < _MOST_BYTES:
            file.truncate(size)


def _rows(connection: sqlite3.Connection, query: str, *values: Any) -> list[Any]:
    """The rows of a query up to the first that cannot be read."""
    rows = []
    with contextlib.suppress(sqlite3.Error):
        for row in connection.execute(query, values):
            rows.append(row)  # one by one: what comes before an error is kept
    return rows


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [name for _, name, *_ in _rows(connection, f"PRAGMA table_info({table})")]


def _is_sound(row: dict[str, Any], space: SearchSpace) -> bool:
    """Whether a row of `trials` holds a trial: bytes of a damaged page may pass for one."""
    try:
        trial = as_trial(row, space)
        if trial.sample:  # a one-shot search has none
            space.check(trial.sample)
    except (ValueError, TypeError, KeyError):
        return False
    return True


def _is_sound_report(row: tuple[Any, ...]) -> bool:
    try:
        _, position, step, metrics, time = row
        as_metrics(metrics)
    except (ValueError, TypeError, AttributeError):
        return False
    return isinstance(position, int) and isinstance(step, int) and isinstance(time, float)


def _is_sound_run(row: tuple[Any, ...]) -> bool:
    _, started, seen, _, settings, environment = row
    try:
        json.loads(settings), json.loads(environment)
    except (ValueError, TypeError):
        return False
    return isinstance(started, float) and isinstance(seen, float)


def _is_sound_change(row: tuple[Any, ...]) -> bool:
    _, number, status, _, time = row
    return isinstance(number, int) and isinstance(time, float) and status in {each.value for each in Status}


def _insert(old: sqlite3.Connection, new: sqlite3.Connection, table: str, rows: list[Any]) -> None:
    """Adds rows of `old`, whose tables may lack columns of today's."""
    if rows:
        columns = ", ".join(_columns(old, table))
        marks = ", ".join("?" for _ in rows[0])
        new.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)


def _count_trials(old: sqlite3.Connection, directory: Path) -> int:
    """How many trials there were: by the table, and by their folders where its end is damaged."""
    last = [number for (number,) in _rows(old, "SELECT max(number) FROM trials") if number is not None]
    folders = [int(path.name) for path in (directory / folder.TRIALS).glob("*") if path.name.isdigit()]
    return max([*last, *folders], default=-1) + 1


def _free_name(path: Path) -> Path:
    names = (
        path if attempt == 1 else path.with_name(f"{path.name}-{attempt}") for attempt in itertools.count(1)
    )
    return next(name for name in names if not name.exists())
