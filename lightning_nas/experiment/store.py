"""Where an experiment keeps what it was asked for and what came of it."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import math
import operator
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from lightning_nas.errors import StoreError
from lightning_nas.experiment import schema
from lightning_nas.experiment.description import Description
from lightning_nas.space import Sample, SearchSpace
from lightning_nas.trial import Intermediate, Metrics, Objective, Status, Trial

DATABASE = "experiment.db"
"""The database's name within an experiment's folder."""


@dataclass(frozen=True)
class Change:
    """A trial's status changed."""

    number: int
    status: Status
    reason: str | None
    time: float


class Store(Protocol):
    """Keeps one experiment. One process writes, any number read."""

    @property
    def description(self) -> Description:
        """What the experiment was asked for."""
        ...

    def trials(self) -> list[Trial]:
        """All trials by number, as they stand."""
        ...

    def changes(self, number: int) -> list[Change]:
        """How a trial's status changed, in order."""
        ...

    def runs(self) -> list[dict[str, Any]]:
        """Each run: `started`, `seen` (Unix time of the last sign of life), `ended` (why, None if it
        broke off), `settings`, `environment`."""
        ...

    def write(self, trial: Trial) -> None:
        """Adds a trial or replaces it, apart from its reports. When this returns a final trial is safe."""
        ...

    def report(self, number: int, position: int, report: Intermediate) -> None:
        """Adds a report as the `position`-th of its trial; those at and after this position go away."""
        ...

    def begin_run(self, settings: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Notes that a driver sets to work."""
        ...

    def end_run(self, why: str) -> None:
        """Notes that it has ended."""
        ...

    def close(self) -> None:
        """Frees what the store holds open."""
        ...


class SqliteStore:
    """A store in one SQLite database: `DIR/experiment.db`.

    Use `create` or `open`. The write-ahead log lets others read at any time. What is written survives
    the end of the process at once, and a power cut once a final trial is written or has been since.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._run: int | None = None
        self.description = self._describe()

    @classmethod
    def create(cls, directory: Path, description: Description) -> SqliteStore:
        """Makes the database of a new experiment.

        Raises:
            StoreError: if there is one already, or it cannot be made.
        """
        path = directory / DATABASE
        if path.exists():
            raise StoreError(f"{path} already holds an experiment.")
        # Made under another name first: what has the right name is always whole.
        draft = directory / f".{DATABASE}"
        draft.unlink(missing_ok=True)
        with _named(path), contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.executescript(schema.TABLES)
            connection.executemany(
                "INSERT INTO experiment VALUES (?, ?)",
                [(key, json.dumps(value)) for key, value in description.to_json().items()],
            )
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION}")
            connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        draft.replace(path)
        return cls.open(directory, "write")

    @classmethod
    def open(cls, directory: Path, purpose: Literal["read", "write"] = "read") -> SqliteStore:
        """Opens the database of an experiment.

        Raises:
            StoreError: if there is none, or it is not one that this version can read.
        """
        path = directory / DATABASE
        if not path.is_file():
            raise StoreError(f"There is no experiment in {directory}: it has no {DATABASE}.")
        with _named(path), contextlib.ExitStack() as stack:
            connection = (
                _read_only(path) if purpose == "read" else sqlite3.connect(path, isolation_level=None)
            )
            stack.callback(connection.close)
            version = _version(connection, path)
            if purpose == "write":
                connection.execute("PRAGMA journal_mode = WAL")
                _migrate(connection, version)
            store = cls(connection, path)
            stack.pop_all()
            return store

    def trials(self) -> list[Trial]:
        """All trials by number, as they stand."""
        space, objective = self.description.space, self.description.objective
        with _named(self._path), _without_collections():
            rows = self._connection.execute(
                "SELECT number, step, metrics FROM reports ORDER BY number, position"
            )
            reports = {
                number: _reports(list(group), objective)
                for number, group in itertools.groupby(rows, operator.itemgetter(0))
            }
            return [
                Trial(
                    row["number"],
                    _sample(space, row["sample"]),
                    Status(row["status"]),
                    _metrics(row["metrics"]),
                    row["score"],
                    reports.get(row["number"], ()),
                    row["traceback"],
                    row["reason"],
                    row["started"],
                    row["finished"],
                    json.loads(row["artifacts"]),
                    row.get("budget"),
                )
                for row in self._rows("SELECT * FROM trials ORDER BY number")
            ]

    def changes(self, number: int) -> list[Change]:
        """How a trial's status changed, in order."""
        with _named(self._path):
            rows = self._connection.execute(
                "SELECT number, status, reason, time FROM changes WHERE number = ? ORDER BY id", [number]
            )
            return [Change(number, Status(status), reason, at) for number, status, reason, at in rows]

    def runs(self) -> list[dict[str, Any]]:
        """Each time a driver worked on the experiment; see `Store.runs`."""
        with _named(self._path):
            return [
                {
                    **row,
                    "settings": json.loads(row["settings"]),
                    "environment": json.loads(row["environment"]),
                }
                for row in self._rows("SELECT * FROM runs ORDER BY id")
            ]

    def write(self, trial: Trial) -> None:
        """Adds a trial or replaces it, apart from its reports, and notes the change of status."""
        row = (
            trial.number,
            json.dumps(trial.sample),
            trial.status.value,
            _to_json(trial.metrics),
            trial.score,
            trial.reason,
            trial.traceback,
            trial.started,
            trial.finished,
            json.dumps(dict(trial.artifacts)),
            trial.budget,
        )
        # A trial whose beginning a power cut takes away is asked for again, under the same number.
        with self._transaction("FULL" if trial.status.is_final else "NORMAL") as now:
            self._connection.execute("INSERT OR REPLACE INTO trials VALUES (?,?,?,?,?,?,?,?,?,?,?)", row)
            self._connection.execute(
                "INSERT INTO changes (number, status, reason, time) VALUES (?, ?, ?, ?)",
                (trial.number, trial.status.value, trial.reason, now),
            )

    def report(self, number: int, position: int, report: Intermediate) -> None:
        """Adds a report as the `position`-th of its trial; those at and after this position go away."""
        with self._transaction("NORMAL") as now:
            self._connection.execute(
                "DELETE FROM reports WHERE number = ? AND position >= ?", (number, position)
            )
            self._connection.execute(
                "INSERT INTO reports VALUES (?, ?, ?, ?, ?)",
                (number, position, report.step, _to_json(report.metrics), now),
            )

    def begin_run(self, settings: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Notes that a driver sets to work."""
        with self._transaction("NORMAL") as now:
            cursor = self._connection.execute(
                "INSERT INTO runs (started, seen, settings, environment) VALUES (?, ?, ?, ?)",
                (now, now, json.dumps(dict(settings)), json.dumps(dict(environment))),
            )
            self._run = cursor.lastrowid

    def end_run(self, why: str) -> None:
        """Notes that it has ended."""
        with self._transaction("FULL"):
            self._connection.execute("UPDATE runs SET ended = ? WHERE id = ?", (why, self._run))
        self._run = None

    def close(self) -> None:
        """Closes the database."""
        self._connection.close()

    @contextlib.contextmanager
    def _transaction(self, synchronous: Literal["FULL", "NORMAL"]) -> Iterator[float]:
        """All of the block or nothing; gives the time, which is also the run's last sign of life."""
        now = time.time()
        with _named(self._path):
            self._connection.execute(f"PRAGMA synchronous = {synchronous}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield now
                self._connection.execute("UPDATE runs SET seen = ? WHERE id = ?", (now, self._run))
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, query: str) -> Iterator[dict[str, Any]]:
        cursor = self._connection.execute(query)
        names = [column[0] for column in cursor.description]
        return (dict(zip(names, row)) for row in cursor)

    def _describe(self) -> Description:
        with _named(self._path):
            rows = self._connection.execute("SELECT key, value FROM experiment").fetchall()
        try:
            return Description.from_json({key: json.loads(value) for key, value in rows})
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{self._path} does not say what its experiment is: {error!r}.") from error


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Says which file it was that SQLite had trouble with."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be used as an experiment's store: {error}.") from error


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Spares the garbage collector the many objects made in the block, all of which stay."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read_only(path: Path) -> sqlite3.Connection:
    uri = path.resolve().as_uri() + "?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchall()
        return connection
    except sqlite3.Error as error:
        connection.close()
        # In a folder that cannot be written SQLite cannot make the log's index. Without a log there
        # is nothing it could miss.
        has_log = path.with_name(path.name + "-wal").exists()
        if has_log or not isinstance(error, sqlite3.OperationalError):
            raise
    return sqlite3.connect(uri + "&immutable=1", uri=True, isolation_level=None)


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a database's tables, which is one that can be read."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != schema.APPLICATION:
        raise StoreError(f"{path} is a database, but not one of lightning-nas.")
    if not 1 <= version <= schema.VERSION:
        raise StoreError(
            f"{path} has schema version {version}, but this lightning-nas reads versions up to {schema.VERSION}; "
            "use the version that wrote it, or a newer one."
        )
    return int(version)


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Brings a database up to date, one version at a time, each as a whole."""
    for old in range(version, schema.VERSION):
        connection.executescript(
            f"BEGIN IMMEDIATE; {schema.MIGRATIONS[old]}; PRAGMA user_version = {old + 1}; COMMIT;"
        )


def _to_json(metrics: Mapping[str, float]) -> str:
    return json.dumps({name: v if math.isfinite(v) else str(v) for name, v in metrics.items()})


def _metrics(text: str) -> Metrics:
    return _floats(json.loads(text))


def _floats(values: Mapping[str, Any]) -> Metrics:
    return {name: float(value) for name, value in values.items()}


def _reports(rows: Sequence[tuple[int, int, str]], objective: Objective) -> tuple[Intermediate, ...]:
    """The reports of one trial from rows of its number, the step and the metrics."""
    # Read as one text: half a million short ones take json three times as long.
    values = map(_floats, json.loads(f"[{','.join(text for _, _, text in rows)}]"))
    return tuple(
        Intermediate(step, metrics, objective.score_of_report(metrics))
        for (_, step, _), metrics in zip(rows, values)
    )


def _sample(space: SearchSpace, text: str) -> Sample:
    """The sample as the space writes it: JSON made lists of its tuples."""
    sample = json.loads(text)
    return {label: space[label].normalise(value) for label, value in sample.items()}
