"""Requests: what other processes ask of an experiment's driver, as small files in `DIR/requests/`.

The driver is the only writer of the store. Whoever wants a search or a trial ended, or a sample tried,
leaves a JSON file, which the driver takes up within half a second (while a trial runs in the driver's
own process: when that reports) and removes when it has done what it says. A file that it cannot follow
goes to `DIR/requests/refused/`, with a `.txt` beside it that says why. Nothing waits there for a driver to
come: what lies there when one begins, or when it ends, is refused too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lightning_nas.errors import ExperimentError, SampleError
from lightning_nas.experiment import folder
from lightning_nas.space import Sample, SearchSpace
from lightning_nas.trial import Trial

REQUESTS = "requests"
REFUSED = "refused"
_MAX_BYTES = 1 << 20
_POLL_S = 0.05


class RequestError(ExperimentError):
    """A request cannot be followed; the message says why."""


@dataclass(frozen=True)
class Stop:
    """Ends the search as one Ctrl-C does: no new trial starts, and the running ones finish.

    Args:
        now: end the running trials too, as a second Ctrl-C does; they run again on resume.
    """

    now: bool = False


@dataclass(frozen=True)
class Kill:
    """Ends a running or paused trial for good: it is stopped, with the metrics of its last report.

    A trial in a process of its own dies with all it has started; one in the driver's process ends at its
    next report.
    """

    number: int


@dataclass(frozen=True)
class Retry:
    """Runs the sample of a trial that has ended once more, as a new trial."""

    number: int


@dataclass(frozen=True)
class Copy:
    """Runs a sample made from that of a trial, as a new trial.

    Args:
        number: of the trial it was made from.
        sample: all its active labels.
    """

    number: int
    sample: Mapping[str, Any]


Request = Stop | Kill | Retry | Copy

_VERBS: dict[str, type[Any]] = {"stop": Stop, "kill": Kill, "retry": Retry, "copy": Copy}
_KINDS = {"now": (bool, "true or false"), "number": (int, "a number"), "sample": (dict, "labels and values")}


def to_json(request: Request) -> dict[str, Any]:
    """What a request's file holds."""
    return {"request": type(request).__name__.lower(), **vars(request)}


def from_json(data: Any) -> Request:
    """The request that `to_json` wrote.

    Raises:
        RequestError: if it is none.

    >>> from_json({"request": "kill", "number": 3})
    Kill(number=3)
    """
    if not isinstance(data, dict) or data.get("request") not in list(_VERBS):
        raise RequestError(f"it is no request; one says {{'request': ...}} with one of {', '.join(_VERBS)}.")
    verb = _VERBS[data["request"]]
    given = {key: value for key, value in data.items() if key != "request"}
    fields = {field.name: field for field in dataclasses.fields(verb)}
    missing = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    if not set(missing) <= given.keys() <= fields.keys():
        raise RequestError(f"{data['request']!r} takes {', '.join(fields)}, but got {sorted(given)}.")
    for name, value in given.items():
        kind, words = _KINDS[name]
        if type(value) is not kind:
            raise RequestError(f"{name!r} must be {words}, but is {value!r}.")
    request: Request = verb(**given)
    return request


def check(request: Request, trial: Trial | None, space: SearchSpace) -> Sample | None:
    """Whether a request can be followed as things stand.

    Args:
        request: what is asked for.
        trial: the one whose number it names; None if there is none, or it names no number.
        space: what is searched.

    Returns:
        The sample of the new trial that it asks for, if any.

    Raises:
        RequestError: if it cannot be, in one sentence.
    """
    if isinstance(request, Stop):
        return None
    if trial is None:
        raise RequestError(f"There is no trial {request.number}.")
    status = trial.status.value
    if isinstance(request, Kill):
        if trial.status.is_final:
            raise RequestError(f"Trial {trial.number} does not run: it is {status}.")
        return None
    if isinstance(request, Retry):
        if not trial.status.is_final:
            raise RequestError(f"Trial {trial.number} is {status}; only one that has ended can be retried.")
        return dict(trial.sample)
    try:
        return space.check(request.sample)
    except SampleError as error:
        raise RequestError(str(error)) from error


# ---------------------------------------------------------------- asking


def send(directory: Path, request: Request) -> Path:
    """Leaves a request for the driver of an experiment.

    Returns:
        Its file, which is gone once the driver has followed or refused it (see `wait_for`).

    Raises:
        ExperimentError: if no driver is alive, or the file cannot be written.
    """
    if folder.driver(directory) is None:
        raise ExperimentError(
            f"No process works on {directory}, so there is no one to ask; `lightning-nas resume {directory}` goes on."
        )
    place = directory / REQUESTS
    path = place / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.json"
    try:
        place.mkdir(exist_ok=True)
        folder.replace(path, json.dumps(to_json(request)).encode())
    except OSError as error:
        raise ExperimentError(f"{path} cannot be written ({error.strerror}).") from error
    return path


def wait_for(path: Path, timeout_s: float) -> bool:
    """Waits until the driver has followed a request; False if it has not within `timeout_s` seconds.

    Raises:
        RequestError: if it has refused it, or has ended.
    """
    deadline = time.monotonic() + timeout_s
    while path.exists():
        if folder.driver(path.parent.parent) is None:
            path.unlink(missing_ok=True)
            raise RequestError("The driver ended before it took the request up.")
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    with contextlib.suppress(FileNotFoundError):
        raise RequestError(_reason_of(path.parent / REFUSED / path.name).read_text().strip())
    return True


# ---------------------------------------------------------------- following


class Desk(Protocol):
    """Follows requests: the driver's loop."""

    @property
    def trials(self) -> Sequence[Trial]:
        """All trials so far."""
        ...

    @property
    def space(self) -> SearchSpace:
        """What is searched."""
        ...

    def stop(self, now: bool) -> None:
        """Starts no new trial; with `now` the running ones end too."""
        ...

    def kill(self, number: int) -> None:
        """Ends a trial that is not final."""
        ...

    def enqueue(self, sample: Sample, why: str) -> None:
        """Puts a sample into the store, as a trial that is to run before any new one.

        Raises:
            RequestError: if this search takes none.
        """
        ...


class Inbox:
    """The requests of one experiment, as its driver takes them up. Entered while the driver holds the lock.

    Args:
        directory: of the experiment.
        say: tells people of a request that was refused.
    """

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self._folder = directory / REQUESTS
        self._say = say
        # Once each, also where a file cannot be removed: a sample must not be tried again and again.
        self._taken: set[str] = set()

    def __enter__(self) -> Inbox:
        self._folder.mkdir(exist_ok=True)
        self._refuse_all("It was written before this driver began; ask again if it still holds.")
        return self

    def __exit__(self, *_: object) -> None:
        self._refuse_all("The search ended before the driver took it up.")

    def serve(self, desk: Desk) -> None:
        """Follows all requests that have come, the oldest first."""
        for path in self._waiting():
            try:
                _follow(_read(path), desk)
            except RequestError as error:
                self._refuse(path, str(error))
            else:
                path.unlink(missing_ok=True)

    def _waiting(self) -> list[Path]:
        try:
            names = [path.name for path in self._folder.iterdir() if path.name.endswith(".json")]
        except FileNotFoundError:  # someone tidied up
            return []
        new = sorted(name for name in names if not name.startswith(".") and name not in self._taken)
        self._taken.update(new)
        return [self._folder / name for name in new]

    def _refuse_all(self, why: str) -> None:
        for path in self._waiting():
            self._refuse(path, why)

    def _refuse(self, path: Path, why: str) -> None:
        self._say(f"The request {path.name} was refused: {why}")
        target = self._folder / REFUSED / path.name
        with contextlib.suppress(OSError):  # a full disk or another's file: the search goes on
            target.parent.mkdir(exist_ok=True)
            _reason_of(target).write_text(why + "\n")
            path.replace(target)


def _read(path: Path) -> Request:
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            raise RequestError("it is no request: these are small files.")
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"it cannot be read as JSON ({error}).") from error


def _follow(request: Request, desk: Desk) -> None:
    if isinstance(request, Stop):
        desk.stop(request.now)
        return
    trial = desk.trials[request.number] if 0 <= request.number < len(desk.trials) else None
    sample = check(request, trial, desk.space)
    if isinstance(request, Kill):
        desk.kill(request.number)
    elif sample is not None:
        what = "retry" if isinstance(request, Retry) else "changed copy"
        desk.enqueue(sample, f"{what} of trial {request.number}")


def _reason_of(refused: Path) -> Path:
    return refused.with_suffix(".txt")
