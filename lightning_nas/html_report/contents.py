"""What a report tells of an experiment, read from its folder alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lightning_nas import architecture, search_history
from lightning_nas.architecture import Architecture, read_architecture
from lightning_nas.experiment import folder
from lightning_nas.experiment.best import kept_number
from lightning_nas.experiment.description import Description
from lightning_nas.experiment.failures import kind_of
from lightning_nas.experiment.logs import last_lines, log_of
from lightning_nas.experiment.store import SqliteStore
from lightning_nas.experiment.summary import Summary, summary
from lightning_nas.html_report.words import plain
from lightning_nas.search_history import SearchHistory, read_search
from lightning_nas.trial import Status, Trial, best

EXPORT = "export"  # where `lightning-nas export` writes unless told otherwise
_LOG_LINES = 20
_MOST_BYTES = 1 << 20  # of a file of code, and of a log's end
_KINDS_OF_FAILURE = 10

T = TypeVar("T")


@dataclass(frozen=True)
class Network:
    """A leading trial and what is known of its network.

    Args:
        trial: the trial.
        architecture: its graph; None if the trial left none.
        code: of its network; None if the trial left none.
    """

    trial: Trial
    architecture: Architecture | None
    code: str | None


@dataclass(frozen=True)
class Failure:
    """Trials that failed alike: with the same reason, numbers aside, in the same line of code.

    Args:
        trials: all of them, by number.
        printed: the last lines that the last of them printed; empty if it is not known.
    """

    trials: tuple[Trial, ...]
    printed: str

    @property
    def last(self) -> Trial:
        """The one that is shown."""
        return self.trials[-1]


@dataclass(frozen=True)
class Search:
    """The search of a one-shot method within a trial."""

    trial: Trial
    history: SearchHistory


@dataclass(frozen=True)
class Contents:
    """What a report tells.

    Args:
        directory: of the experiment.
        read: Unix time in seconds at which it was read.
        now: how it stood then.
        description: what it was asked for.
        trials: by number.
        runs: as `Store.runs` gives them.
        leaders: the best trials, best first.
        networks: of the first of them.
        failures: the largest groups first.
        searches: of one-shot methods.
        troubles: what could not be read, a sentence each.
    """

    directory: Path
    read: float
    now: Summary
    description: Description
    trials: Sequence[Trial]
    runs: Sequence[Mapping[str, Any]]
    leaders: Sequence[Trial]
    networks: Sequence[Network]
    failures: Sequence[Failure]
    searches: Sequence[Search]
    troubles: Sequence[str]

    @property
    def metric(self) -> str | None:
        """The objective's name; None while no trial has it."""
        objective = self.description.objective
        return objective.metric or next((objective.name_in(trial.metrics) for trial in self.leaders), None)

    @property
    def counts(self) -> dict[Status, int]:
        """How many trials have each status that some have."""
        found = {status: sum(trial.status is status for trial in self.trials) for status in Status}
        return {status: count for status, count in found.items() if count}


def read_contents(directory: Path, leaders: int, networks: int) -> Contents:
    """Reads an experiment as it stands; its driver may be at work.

    Args:
        directory: its folder.
        leaders: how many of the best trials are told of.
        networks: of how many of these the network is wanted.

    Raises:
        StoreError: if there is no experiment, or its store cannot be read.
    """
    read = time.time()
    now = summary(directory)
    with contextlib.closing(SqliteStore.open(directory)) as store:
        trials, runs, description = store.trials(), store.runs(), store.description
    troubles: list[str] = []
    leading = best(trials, leaders)
    searches = []
    for trial in trials if _may_be_one_shot(directory) else ():
        path = directory / folder.trial_folder(trial.number) / search_history.FILE
        history = _read(path, read_search, troubles)
        if history is not None:
            searches.append(Search(trial, history))
    return Contents(
        directory,
        read,
        now,
        description,
        trials,
        runs,
        leading,
        [_network(directory, trial, troubles) for trial in leading[:networks]],
        _failures(directory, trials),
        searches,
        troubles,
    )


def _may_be_one_shot(directory: Path) -> bool:
    """Whether some trial left the file of a search: one look at the disk, however many trials there are."""
    return next((directory / folder.TRIALS).glob(f"*/{search_history.FILE}"), None) is not None


def _network(directory: Path, trial: Trial, troubles: list[str]) -> Network:
    place = directory / folder.trial_folder(trial.number)
    places = [directory / EXPORT / str(trial.number)]
    if kept_number(directory) == trial.number:
        places.insert(0, directory / folder.BEST)
    places.append(place)  # as it was built; where it was exported, it has been proved as well
    files = (each / folder.CODE for each in places)
    code = next((text for path in files if (text := _read(path, _text, troubles)) is not None), None)
    return Network(trial, _read(place / architecture.FILE, read_architecture, troubles), code)


def _text(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return plain(file.read(_MOST_BYTES))


def _read(path: Path, reader: Callable[[Path], T], troubles: list[str]) -> T | None:
    """What is in a file; None if there is none, or it cannot be read, which `troubles` then tells."""
    try:
        return reader(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        troubles.append(f"{path} is left out, since it cannot be read: {plain(str(error))}")
        return None


def _failures(directory: Path, trials: Sequence[Trial]) -> list[Failure]:
    groups: dict[tuple[str, str | None], list[Trial]] = {}
    for trial in trials:
        if trial.status is Status.FAILED:
            groups.setdefault(kind_of(trial), []).append(trial)
    largest = sorted(groups.values(), key=len, reverse=True)
    return [
        Failure(tuple(group), _printed(directory, group[-1]) if i < _KINDS_OF_FAILURE else "")
        for i, group in enumerate(largest)
    ]


def _printed(directory: Path, trial: Trial) -> str:
    """The last lines of a failed trial, of its script's standard error where it has one."""
    with contextlib.suppress(OSError):
        path = log_of(directory, trial.number, "stderr") or log_of(directory, trial.number)
        if path is not None:
            return plain(last_lines(path, _LOG_LINES, _MOST_BYTES)[0]).strip()
    return ""
