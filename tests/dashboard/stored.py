"""Experiments as their stores hold them, without anything that runs; and a driver that only takes requests up."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_nas.experiment import SqliteStore, folder
from lightning_nas.experiment.description import Description
from lightning_nas.experiment.requests import Inbox
from lightning_nas.space import Categorical, Float, SearchSpace
from lightning_nas.trial import Intermediate, Status, Trial

SPACE = SearchSpace(
    {"lr": Float(0, 1), "kernel": Categorical([(3, 3), (5, 5)]), "act": Categorical(["relu", "1"])}
)


def trial(number: int, status: Status = Status.COMPLETED, acc: float = 0.5, **more: Any) -> Trial:
    is_done = status is Status.COMPLETED
    return Trial(
        number,
        {"lr": 0.5, "kernel": (3, 3), "act": "relu"},
        status,
        {"acc": acc} if is_done else {},
        acc if is_done else None,
        started=10.0,
        finished=12.0 if status.is_final else None,
        **more,
    )


def opened(directory: Path) -> SqliteStore:
    """A new store, open for writing."""
    directory.mkdir(parents=True)
    store = SqliteStore.create(directory, Description(SPACE, "Random()", "acc", None, 7))
    store.begin_run({"max_trials": 10}, {})
    return store


def made(
    directory: Path, trials: Sequence[Trial] = (trial(0),), reports: int = 0, ended: str | None = "done"
) -> Path:
    """The folder of an experiment without a driver."""
    with contextlib.closing(opened(directory)) as store:
        for each in trials:
            store.write(each)
            for step in range(reports):
                store.report(each.number, step, Intermediate(step, {"acc": step / 10}))
        if ended is not None:
            store.end_run(ended)
    return directory


@dataclass
class Desk:
    """Notes what it is told to do."""

    trials: Sequence[Trial]
    space: SearchSpace = SPACE
    told: list[Any] = field(default_factory=list)

    def stop(self, now: bool) -> None:
        self.told.append(("stop", now))

    def kill(self, number: int) -> None:
        self.told.append(("kill", number))

    def enqueue(self, sample: dict[str, Any], why: str) -> None:
        self.told.append((sample, why))


@contextlib.contextmanager
def driven(directory: Path, trials: Sequence[Trial]) -> Iterator[Desk]:
    """A driver in a thread, which takes requests up."""
    desk, has_ended = Desk(trials), threading.Event()

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
