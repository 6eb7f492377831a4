"""Experiments without trials to run, drivers without an evaluator, and the command line in this process."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lightning_nas import cli
from lightning_nas.experiment import SqliteStore, folder
from lightning_nas.experiment.description import Description
from lightning_nas.experiment.requests import Inbox
from lightning_nas.space import Categorical, Float, SearchSpace
from lightning_nas.trial import Intermediate, Status, Trial

SPACE = SearchSpace({"lr": Float(0, 1), "kernel": Categorical([(3, 3), (5, 5)])})
TRIALS = [
    Trial(0, {"lr": 0.5, "kernel": (3, 3)}, Status.COMPLETED, {"acc": 0.5}, 0.5, started=10, finished=12.5),
    Trial(1, {"lr": 0.25, "kernel": (5, 5)}, Status.FAILED, traceback="Traceback\nValueError: [broken]",
          reason="ValueError: [broken]", started=10, finished=11),
    Trial(2, {"lr": 0.75, "kernel": (5, 5)}, Status.RUNNING, started=15),
]  # fmt: skip
MISSING = "There is no experiment in"


def made(directory: Path, ended: str | None = "all 3 trials are done", trials: list[Trial] = TRIALS) -> Path:
    """The folder of an experiment without a driver."""
    directory.mkdir(exist_ok=True)
    store = SqliteStore.create(directory, Description(SPACE, "Random()", "acc", None, 7))
    store.begin_run({"max_trials": 3}, {"pid": os.getpid(), "host": os.uname().nodename})
    for trial in trials:
        store.write(trial)
    if len(trials) > 2:
        store.report(2, 0, Intermediate(0, {"acc": 0.25}))
    if ended is not None:
        store.end_run(ended)
    store.close()
    return directory


@dataclass
class Desk:
    """Notes what it is told to do."""

    space: SearchSpace = SPACE
    trials: list[Trial] = field(default_factory=lambda: list(TRIALS))
    told: list[Any] = field(default_factory=list)

    def stop(self, now: bool) -> None:
        self.told.append(("stop", now))

    def kill(self, number: int) -> None:
        self.told.append(("kill", number))

    def enqueue(self, sample: dict[str, Any], why: str) -> None:
        self.told.append((sample, why))


@contextlib.contextmanager
def driven(directory: Path) -> Iterator[Desk]:
    """A driver in a thread, which takes requests up."""
    desk, has_ended = Desk(), threading.Event()

    def serve(inbox: Inbox) -> None:
        while not has_ended.wait(0.01):
            inbox.serve(desk)

    with folder.only_driver(directory), Inbox(directory, lambda text: None) as inbox:
        thread = threading.Thread(target=serve, args=(inbox,))
        thread.start()
        try:
            yield desk
        finally:
            has_ended.set()
            thread.join()


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.main([str(argument) for argument in arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def mistake(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a mistake is answered with."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as exit:
        code = exit.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    return err
