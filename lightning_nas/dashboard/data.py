"""What the pages show, read from the stores again only where something has changed."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning_nas.errors import NASError, StoreError
from lightning_nas.experiment import folder
from lightning_nas.experiment.description import Description
from lightning_nas.experiment.store import DATABASE, SqliteStore
from lightning_nas.experiment.summary import Summary, find_experiments, summary
from lightning_nas.experiment.usage import Usage, read_usage
from lightning_nas.trial import Status, Trial

_RESCAN_S, _RESCAN_SHARE = 2.0, 0.1
_FRESH_S = 0.05
_READERS = 6

Stamp = tuple[tuple[int, int, int], ...]


def key_of(name: str) -> str:
    """An experiment's name as one part of an address: letters, digits, `.`, `_` and `-` stay.

    >>> key_of("runs/mnist 2"), key_of(".")
    ('runs~2Fmnist~202', '~2E')
    """
    if name == ".":  # which a browser takes for the folder above the address
        return "~2E"
    encoded = name.encode(errors="surrogateescape")
    return "".join(chr(b) if re.match(rb"[\w.-]", bytes([b])) else f"~{b:02X}" for b in encoded)


def stamp(directory: Path) -> Stamp | None:
    """Changes whenever the store of an experiment does; None where there is none."""
    path = directory / DATABASE
    found = []
    for each in (path, path.with_name(f"{DATABASE}-wal")):
        try:
            status = each.stat()
        except OSError:
            if each is path:
                return None
            continue
        found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


class _Watch:
    """Tells whether a store has changed since it was read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: tuple[Stamp | None, str | None] | None = None

    def changed(self) -> bool:
        """Whether to read it now; the next call takes it for read."""
        driver = folder.driver(self._directory)
        seen, now = stamp(self._directory), time.time_ns()
        if self._read == (seen, driver):
            return False
        # A file that has just been written may be written again within the same tick of its clock.
        is_fresh = seen is not None and any(now - mtime < _FRESH_S * 1e9 for _, mtime, _ in seen)
        self._read = None if is_fresh else (seen, driver)
        return True


class Glance:
    """One experiment in the list of all: how it stands, or why it cannot be read."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name, self.key = directory, name, key_of(name)
        self.summary: Summary | None = None
        self.trouble: str | None = None
        self._watch = _Watch(directory)

    def refresh(self) -> None:
        """Reads it again if it has changed."""
        if not self._watch.changed():
            return
        try:
            self.summary, self.trouble = summary(self.directory), None
        except (NASError, OSError) as error:
            self.summary, self.trouble = None, str(error)


class Reader:
    """One experiment as its pages show it.

    Args:
        directory: its folder.
        name: the way to it from the folder that is shown.

    Attributes:
        summary, description, trials, runs: as they were when last read, trials by number and with no reports
            but the last one of those that are not final. `summary` and `description` are None before the
            first reading, and where it failed from the beginning.
        trouble: why it cannot be read now; None if it can. What was read before stays.
        version: grows whenever anything has changed.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name, self.key = directory, name, key_of(name)
        self.summary: Summary | None = None
        self.description: Description | None = None
        self.trials: dict[int, Trial] = {}
        self.runs: list[dict[str, Any]] = []
        self.trouble: str | None = None
        self.version = 0
        self._versions: dict[int, int] = {}
        self._last_change = 0
        self._identity: tuple[int, float | None] | None = None  # of the store that was read
        self._watch = _Watch(directory)
        self._lock = threading.Lock()

    @property
    def is_running(self) -> bool:
        """Whether a driver works on it."""
        return self.summary is not None and self.summary.driver is not None

    def refresh(self) -> int:
        """Reads what has changed; gives the version."""
        with self._lock:
            if self._watch.changed():
                try:
                    self._read()
                    self.trouble = None
                except (NASError, OSError) as error:
                    self.trouble = str(error)
                self.version += 1
            return self.version

    def changed_since(self, version: int) -> list[Trial]:
        """The trials that have changed after a version, by number."""
        with self._lock:
            return [self.trials[number] for number, at in self._versions.items() if at > version]

    def ordered(self) -> list[Trial]:
        """All trials, by number."""
        with self._lock:
            return [self.trials[number] for number in sorted(self.trials)]

    def with_reports(self, numbers: Iterable[int]) -> list[Trial]:
        """Some of the trials, with all their reports.

        Raises:
            StoreError: if the store cannot be read.
        """
        with contextlib.closing(SqliteStore.open(self.directory)) as store:
            found = (store.trial(number) for number in numbers)
            return [trial for trial in found if trial is not None]

    def usage(self, number: int) -> Usage | None:
        """What a trial took of the machine; None if it left no word of it."""
        return read_usage(self.directory / folder.trial_folder(number))

    def _read(self) -> None:
        path = self.directory / DATABASE
        if not path.is_file():
            raise StoreError(f"{self.directory} holds no experiment any more: {DATABASE} is gone.")
        inode = path.stat().st_ino
        with contextlib.closing(SqliteStore.open(self.directory)) as store:
            runs = store.runs()
            # The system may give a new file the number of one that is gone.
            identity = inode, runs[0]["started"] if runs else None
            if identity != self._identity:  # another experiment has taken its place
                self._identity, self._last_change = identity, 0
                self.trials, self._versions = {}, {}
            news, last_change = store.news(self._last_change)
            changed = {trial.number: trial for trial in news}
            for number, trial in {**self.trials, **changed}.items():
                if trial.status is Status.RUNNING or (number in changed and not trial.status.is_final):
                    report = store.last_report(number)
                    reports = () if report is None else (report,)
                    if reports != trial.intermediate or number in changed:
                        changed[number] = dataclasses.replace(trial, intermediate=reports)
            self.description, self.runs = store.description, runs
        self.summary = summary(self.directory)
        self._last_change = last_change
        # A new dict: a page may be going through the old one.
        self.trials = {**self.trials, **changed}
        self._versions.update(dict.fromkeys(changed, self.version + 1))


class Experiments:
    """All experiments under a folder.

    Args:
        root: the folder; may be an experiment itself.

    Attributes:
        is_complete: whether the folder has been gone through once.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.is_complete = False
        self._glances: dict[str, Glance] = {}
        self._readers: OrderedDict[str, Reader] = OrderedDict()
        self._lock = threading.Lock()

    def scan(self) -> None:
        """Goes through the folder once; experiments appear as they are found, and those that are gone go."""
        seen = set()
        for directory in find_experiments(self.root):
            name = self._name(directory)
            key = key_of(name)
            seen.add(key)
            if key not in self._glances:
                with self._lock:
                    self._glances[key] = Glance(directory, name)
        with self._lock:
            self._glances = {key: each for key, each in self._glances.items() if key in seen}
        self.is_complete = True

    def watch(self) -> None:
        """Goes through the folder again and again, in a thread that does not keep the process alive.

        It rests ten times as long as it works, since the folder may hold millions of files.
        """

        def go_on() -> None:
            while True:
                start = time.monotonic()
                with contextlib.suppress(OSError):
                    self.scan()
                time.sleep(max(_RESCAN_S, (time.monotonic() - start) / _RESCAN_SHARE))

        threading.Thread(target=go_on, daemon=True, name="experiments").start()

    def glances(self) -> list[Glance]:
        """All that have been found, as they stand now, in the order of their names."""
        with self._lock:
            found = sorted(self._glances.values(), key=lambda glance: glance.name)
        for glance in found:
            glance.refresh()
        return found

    def reader(self, key: str) -> Reader | None:
        """The experiment of a key; None if none has been found. Those used last are kept."""
        with self._lock:
            glance = self._glances.get(key)
            if key in self._readers:  # also if its folder is gone: its page says so
                self._readers.move_to_end(key)
                return self._readers[key]
            if glance is None:
                return None
            reader = self._readers[key] = Reader(glance.directory, glance.name)
            while len(self._readers) > _READERS:
                self._readers.popitem(last=False)
            return reader

    def _name(self, directory: Path) -> str:
        return str(directory.relative_to(self.root)) if directory != self.root else "."
