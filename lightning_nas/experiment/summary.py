"""Experiments at a glance, from their stores alone."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning_nas.experiment import folder
from lightning_nas.experiment.ending import State, state_after
from lightning_nas.experiment.runners.child import PID
from lightning_nas.experiment.store import DATABASE, SqliteStore, elapsed_s
from lightning_nas.trial import Objective, Status, Trial


@dataclass(frozen=True)
class Summary:
    """How an experiment stands.

    Args:
        directory: its folder.
        state: see `State`.
        driver: who works on it, such as "process 7 on host"; None if no one does.
        ending: why its last run ended; None while it runs, and if it broke off.
        objective: which metric counts.
        counts: how many trials have each status that some have.
        max_trials: its budget, None for no limit.
        best: the completed trial with the highest score.
        running: the trials that run, by number; none if no driver lives, whatever the store says.
        latest: those that ended last, the last one first.
        started: Unix time in seconds of its first run; None before that.
        elapsed_s: for how long drivers have worked on it, all runs together.
        pid, host: of the last driver; None if unknown.
    """

    directory: Path
    state: State
    driver: str | None
    ending: str | None
    objective: Objective
    counts: Mapping[Status, int]
    max_trials: int | None
    best: Trial | None
    running: tuple[Trial, ...]
    latest: tuple[Trial, ...]
    started: float | None
    elapsed_s: float
    pid: int | None
    host: str | None

    @property
    def done(self) -> int:
        """How many trials have ended."""
        return sum(count for status, count in self.counts.items() if status.is_final)


def summary(directory: Path, latest: int = 0) -> Summary:
    """How the experiment of a folder stands now.

    Args:
        directory: the folder.
        latest: how many of the trials that ended last are wanted.

    Raises:
        StoreError: if there is no experiment, or it cannot be read.
    """
    driver = folder.driver(directory)
    with contextlib.closing(SqliteStore.open(directory)) as store:
        runs = store.runs()
        last = runs[-1] if runs else {}
        elapsed = elapsed_s(runs)
        if driver is not None and runs:
            elapsed += max(0.0, time.time() - last["seen"])
        ending = None if driver is not None else last.get("ended")
        environment = last.get("environment", {})
        return Summary(
            directory,
            "running" if driver is not None else state_after(ending),
            driver,
            ending,
            store.description.objective,
            store.counts(),
            last.get("settings", {}).get("max_trials"),
            store.best(),
            () if driver is None else tuple(store.trials_that_are(Status.RUNNING)),
            tuple(store.latest(latest)) if latest else (),
            runs[0]["started"] if runs else None,
            elapsed,
            environment.get("pid"),
            environment.get("host"),
        )


def trial_pid(now: Summary, number: int) -> int | None:
    """The process of a running trial: its own, or the driver's; None if it is not on this machine."""
    if now.host != socket.gethostname():
        return None
    try:
        return int((now.directory / folder.trial_folder(number) / PID).read_text())
    except (OSError, ValueError):
        return now.pid


def find_experiments(root: Path) -> Iterator[Path]:
    """The folders under `root`, itself included, that hold an experiment, in the order of their names.

    It does not look into experiments, hidden folders and links.
    """
    for path, folders, files in os.walk(root):
        if DATABASE in files:
            folders.clear()
            yield Path(path)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
