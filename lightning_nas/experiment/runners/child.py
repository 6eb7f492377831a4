"""What happens in a process that runs one trial."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from lightning_nas.experiment.logs import OUTPUT
from lightning_nas.experiment.runners.attempt import attempt, failed, seed_everything
from lightning_nas.experiment.runners.protocol import Job, Work

PID = "pid"
"""The number of a trial's process, in the trial's folder."""


@dataclass(frozen=True)
class Surroundings:
    """What a trial's process takes over from the driver.

    Args:
        work: path of the cloudpickled `Work`.
        environment: all environment variables; the fork server may have started with others.
        threads: for torch's operations.
    """

    work: Path
    environment: Mapping[str, str]
    threads: int


def main(connection: Connection, job: Job, surroundings: Surroundings) -> None:
    """Runs a trial and sends its outcome.

    Sends `(step, metrics)` for each report and waits for a bool in answer; sends an `Outcome` last.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # so that the driver can end it with all it has started
        signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_the_driver, daemon=True, name="watch driver").start()
    os.environ.clear()
    os.environ.update(surroundings.environment)
    _redirect_output(job.directory)
    with contextlib.suppress(OSError):  # it is there for people to look at
        (job.directory / PID).write_text(str(os.getpid()))
    os.environ.setdefault("OMP_NUM_THREADS", str(surroundings.threads))  # if torch is yet to be loaded

    def report(step: int, metrics: Mapping[str, float]) -> bool:
        connection.send((step, dict(metrics)))
        return bool(connection.recv())

    try:
        work = _load(surroundings.work)
    except Exception as error:
        connection.send(failed(job.number, error))
        return
    if "torch" in sys.modules and "OMP_NUM_THREADS" not in surroundings.environment:
        sys.modules["torch"].set_num_threads(surroundings.threads)
    seed_everything(job.seed)
    connection.send(attempt(work, job, report))


def _load(path: Path) -> Work:
    import cloudpickle

    with path.open("rb") as file:
        work: Work = cloudpickle.load(file)
    return work


def _redirect_output(directory: Path) -> None:
    """Sends what this process and its children print to a file, also what C code prints."""
    directory.mkdir(parents=True, exist_ok=True)
    file = os.open(directory / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        os.dup2(file, number)
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    os.close(file)
    faulthandler.enable()


def _end_with_the_driver() -> None:
    """Kills this process and all it has started once the driver is gone.

    The driver holds the other end of a pipe as long as it lives, however it dies. Without this a trial of
    a dead driver would go on writing into the folder in which its successor runs the trial again.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait([parent.sentinel])
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
