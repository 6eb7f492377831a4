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
from lightning_nas.experiment.runners.protocol import Job, Outcome, Work
from lightning_nas.experiment.runners.ranks import OUTPUT as OUTPUT_OF_RANK
from lightning_nas.experiment.runners.ranks import Ranks, follow_lead, tell
from lightning_nas.trial import Report

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
    ranks = Ranks(job, _follow, job, surroundings) if job.ranks > 1 else None
    _settle(job, surroundings, OUTPUT)
    with contextlib.suppress(OSError):  # it is there for people to look at
        (job.directory / PID).write_text(str(os.getpid()))

    def report(step: int, metrics: Mapping[str, float]) -> bool:
        connection.send((step, dict(metrics)))
        return bool(connection.recv())

    if ranks is not None:
        ranks.lead(connection.send)
    outcome = _outcome(job, surroundings, report)
    connection.send(outcome if ranks is None else ranks.judge(outcome))


def _follow(rank: int, pipe: Connection, job: Job, surroundings: Surroundings) -> None:
    """What happens in a rank other than 0: the same, but it has no say."""
    _settle(job, surroundings, OUTPUT_OF_RANK.format(rank))
    follow_lead(rank, pipe, job)
    tell(pipe, _outcome(job, surroundings, lambda step, metrics: True))


def _settle(job: Job, surroundings: Surroundings, output: str) -> None:
    """Makes a process that of a trial: its environment, its output, its end with the one that started it."""
    threading.Thread(target=_end_with_the_driver, daemon=True, name="watch driver").start()
    os.environ.clear()
    os.environ.update(surroundings.environment)
    _redirect_output(job.directory, output)
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads(job, surroundings)))  # if torch is yet to be loaded


def _threads(job: Job, surroundings: Surroundings) -> int:
    return max(1, surroundings.threads // job.ranks)


def _outcome(job: Job, surroundings: Surroundings, report: Report) -> Outcome:
    """What comes of the trial in this process."""
    try:
        work = _load(surroundings.work)
    except Exception as error:
        return failed(job.number, error)
    if "torch" in sys.modules and "OMP_NUM_THREADS" not in surroundings.environment:
        sys.modules["torch"].set_num_threads(_threads(job, surroundings))
    seed_everything(job.seed)
    return attempt(work, job, report)


def _load(path: Path) -> Work:
    import cloudpickle

    with path.open("rb") as file:
        work: Work = cloudpickle.load(file)
    return work


def _redirect_output(directory: Path, name: str) -> None:
    """Sends what this process and its children print to a file, also what C code prints."""
    directory.mkdir(parents=True, exist_ok=True)
    file = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
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
