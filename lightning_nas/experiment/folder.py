"""An experiment's folder: that it can be used, that one driver alone uses it, and who that is."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lightning_nas.errors import ExperimentError

TRIALS = "trials"
BEST = "best"
PICKLE = "experiment.pkl"
CODE = "net.py"  # of a network, in a trial's folder and beside exported weights
_LOCK = "driver.lock"
ROOM_MB = 100
"""No trial starts with less free."""
_TRIES, _PAUSE_S = 5, 0.02  # `driver` of another process holds the lock for a moment

_held: set[Path] = set()  # locks of files do not keep a process from itself


def trial_folder(number: int) -> str:
    """A trial's own folder, relative to the experiment's."""
    return f"{TRIALS}/{number}"


def check(directory: Path) -> None:
    """Raises ExperimentError if `directory` exists, but is no folder."""
    if directory.exists() and not directory.is_dir():
        raise ExperimentError(f"{directory} is a file; give `directory` the path of a folder.")


def make(directory: Path) -> None:
    """Makes an experiment's folder, if need be.

    Raises:
        ExperimentError: if it cannot be made, is no folder, or cannot be written.
    """
    check(directory)
    try:
        (directory / TRIALS).mkdir(parents=True, exist_ok=True)
        probe = directory / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ExperimentError(
            f"{directory} cannot be written ({error.strerror}); give `directory` a folder that can."
        ) from error


@contextlib.contextmanager
def only_driver(directory: Path) -> Iterator[None]:
    """Holds the folder's lock within the block; it is free again however the process ends.

    Raises:
        ExperimentError: if another live driver holds it; the message names its process and host.
    """
    path = (directory / _LOCK).resolve()
    if path in _held:  # and leave the file alone: closing it once more would free the lock
        raise _refusal(directory, "this process")
    # Opened without truncation: the file still says who holds it.
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+") as file:
        for _ in range(_TRIES):
            if _lock(file):
                break
            time.sleep(_PAUSE_S)
        else:
            raise _refusal(directory, _holder(path))
        _held.add(path)
        try:
            file.truncate(0)
            json.dump({"pid": os.getpid(), "host": socket.gethostname()}, file)
            file.flush()
            yield
        finally:
            _held.discard(path)


def has_room(directory: Path) -> bool:
    """Whether at least `ROOM_MB` are free on the disk of `directory`."""
    return shutil.disk_usage(directory).free >= ROOM_MB * 1e6


def driver(directory: Path) -> str | None:
    """Who works on the experiment at this moment, such as "process 7 on host"; None if no one does."""
    path = (directory / _LOCK).resolve()
    if path in _held:
        return "this process"
    try:
        with path.open() as file:
            return None if _lock(file, shared=True) else _holder(path)
    except OSError:  # no driver has ever been here
        return None


def check_free(directory: Path) -> None:
    """Raises ExperimentError, naming it, if a driver works on the experiment."""
    holder = driver(directory)
    if holder is not None:
        raise _refusal(directory, holder)


def replace(path: Path, content: bytes) -> None:
    """Writes a file as a whole or not at all, and onto the disk."""
    draft = path.with_name(f".{path.name}.new")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _refusal(directory: Path, holder: str) -> ExperimentError:
    return ExperimentError(
        f"{directory} is being worked on by {holder}; wait for it to end, stop it, or give another directory=."
    )


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has just begun
        return "another process"


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str], shared: bool = False) -> bool:
        """Locks a byte far behind the content, which others may then still read."""
        file.seek(1 << 30)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(0)
        return True

else:
    import fcntl

    def _lock(file: IO[str], shared: bool = False) -> bool:
        """Takes a record lock: unlike `flock`, a forked data worker does not hold on to it.

        A shared one is refused as long as another process holds one that is not.
        """
        try:
            fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
