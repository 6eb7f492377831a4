"""Where an experiment keeps what it was asked for and what came of it."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

    def write_artifacts(self, number: int, artifacts: Mapping[str, str]) -> None:
        """Replaces the artifacts of a trial; its status stays."""
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
        return self._trials("TRUE")

    def trials_that_are(self, status: Status) -> list[Trial]:
        """The trials with this status, by number."""
        return self._trials("status = ?", status.value)

    def trial(self, number: int) -> Trial | None:
        """One trial, None if there is none of this number."""
        return next(iter(self._trials("number = ?", number)), None)

    def best(self) -> Trial | None:
        """The completed trial with the highest score, None before there is one."""
        ranked = "status = 'completed' AND score IS NOT NULL ORDER BY score DESC, number LIMIT 1"
        return next(iter(self._trials(f"number IN (SELECT number FROM trials WHERE {ranked})")), None)

    def latest(self, k: int) -> list[Trial]:
        """The `k` trials that ended last, the last one first."""
        ended = "finished IS NOT NULL ORDER BY finished DESC LIMIT ?"
        trials = self._trials(f"number IN (SELECT number FROM trials WHERE {ended})", k)
        return sorted(trials, key=lambda trial: -(trial.finished or 0.0))

    def news(self, since: int = 0) -> tuple[list[Trial], int]:
        """What a reader has missed.

        Args:
            since: the number of the last change it knows, as an earlier call gave it; 0 for none.

        Returns:
            The trials whose status has changed since, by number and without their reports, and the number of
            the last change.
        """
        with _named(self._path), _no_collection():
            # The number first: what changes between the two queries is then told once more the next time.
            (last,) = self._connection.execute("SELECT coalesce(max(id), 0) FROM changes").fetchone()
            which = "number IN (SELECT number FROM changes WHERE id > ?)" if since else "? = 0"
            rows = self._rows(f"SELECT * FROM trials WHERE {which} ORDER BY number", since)
            return [as_trial(row, self.description.space) for row in rows], last

    def last_report(self, number: int) -> Intermediate | None:
        """The last report of a trial, None before there is one."""
        query = "SELECT step, metrics FROM reports WHERE number = ? ORDER BY position DESC LIMIT 1"
        with _named(self._path):
            row = self._connection.execute(query, [number]).fetchone()
            if row is None:
                return None
            metrics = as_metrics(row[1])
            return Intermediate(row[0], metrics, self.description.objective.score_of_report(metrics))

    def counts(self) -> dict[Status, int]:
        """How many trials have each status that some have."""
        with _named(self._path):
            rows = self._connection.execute("SELECT status, count(*) FROM trials GROUP BY status")
            return {Status(status): count for status, count in rows}

    def _trials(self, which: str, *values: object) -> list[Trial]:
        """The trials by number for which the SQL expression `which` of their columns is true."""
        space, objective = self.description.space, self.description.objective
        with _named(self._path), _no_collection():
            reports = self._reports(which, values, objective)
            return [
                as_trial(row, space, reports.get(row["number"], ()))
                for row in self._rows(f"SELECT * FROM trials WHERE {which} ORDER BY number", *values)
            ]

    def _reports(
        self, which: str, values: Sequence[object], objective: Objective
    ) -> dict[int, list[Intermediate]]:
        """The reports of each of those trials, by its number. There may be half a million."""
        rows = self._connection.execute(
            "SELECT number, step, metrics FROM reports "
            f"WHERE number IN (SELECT number FROM trials WHERE {which}) ORDER BY number, position",
            values,
        ).fetchall()
        texts = ",".join(text for _, _, text in rows)  # one document is parsed in a third of the time
        reports: dict[int, list[Intermediate]] = {}
        for (number, step, _), each in zip(rows, json.loads(f"[{texts}]")):
            metrics = {name: float(value) for name, value in each.items()}
            report = Intermediate(step, metrics, objective.score_of_report(metrics))
            reports.setdefault(number, []).append(report)
        return reports

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

    def write_artifacts(self, number: int, artifacts: Mapping[str, str]) -> None:
        """Replaces the artifacts of a trial; its status stays."""
        with self._transaction("NORMAL"):
            self._connection.execute(
                "UPDATE trials SET artifacts = ? WHERE number = ?", (json.dumps(dict(artifacts)), number)
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

    def _rows(self, query: str, *values: object) -> Iterator[dict[str, Any]]:
        cursor = self._connection.execute(query, values)
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
def _no_collection() -> Iterator[None]:
    """Keeps Python from looking for garbage while many objects are made, which takes as long as making them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Says which file it was that SQLite had trouble with."""
    try:
        yield
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        is_damaged = (
            not isinstance(error, sqlite3.Error)
            or "malformed" in str(error)
            or "not a database" in str(error)
        )
        hint = f"; `lightning-nas rescue {path.parent}` saves what can still be read" if is_damaged else ""
        raise StoreError(f"{path} cannot be used as an experiment's store: {error}{hint}.") from error


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


def as_trial(row: Mapping[str, Any], space: SearchSpace, reports: Iterable[Intermediate] = ()) -> Trial:
    """The trial of a row of `trials`.

    Raises:
        ValueError, TypeError, KeyError: if the row was damaged.
    """
    return Trial(
        row["number"],
        _sample(space, row["sample"]),
        Status(row["status"]),
        as_metrics(row["metrics"]),
        row["score"],
        tuple(reports),
        row["traceback"],
        row["reason"],
        row["started"],
        row["finished"],
        json.loads(row["artifacts"]),
        row.get("budget"),
    )


def elapsed_s(runs: Sequence[Mapping[str, Any]]) -> float:
    """Seconds that drivers have worked on an experiment, by what `Store.runs` says; a clock set back makes no time.

    >>> elapsed_s([{"started": 10.0, "seen": 14.0}, {"started": 20.0, "seen": 11.0}])
    4.0
    """
    return float(sum(max(0.0, run["seen"] - run["started"]) for run in runs))


def as_metrics(text: str) -> Metrics:
    """What `metrics` of a trial or a report holds."""
    return {name: float(value) for name, value in json.loads(text).items()}


def _sample(space: SearchSpace, text: str) -> Sample:
    """The sample as the space writes it: JSON made lists of its tuples."""
    sample = json.loads(text)
    return {label: space[label].normalise(value) for label, value in sample.items()}
