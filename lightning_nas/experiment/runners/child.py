"""What happens in a process that runs trials: one, or one after another."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from lightning_nas.experiment.logs import OUTPUT
from lightning_nas.experiment.runners import output
from lightning_nas.experiment.runners.attempt import attempt, failed, seed_everything
from lightning_nas.experiment.runners.protocol import Job, Outcome, Work
from lightning_nas.experiment.runners.ranks import OUTPUT as OUTPUT_OF_RANK
from lightning_nas.experiment.runners.ranks import Ranks, follow_lead, tell
from lightning_nas.experiment.usage import metered
from lightning_nas.trial import Report

PID = "pid"
"""The number of a trial's process, in the trial's folder."""


@dataclass(frozen=True)
class Surroundings:
    """What a trial's process takes over from the driver.

    Args:
        work: path of the cloudpickled `Work`.
        environment: all environment variables; the fork server may have started with others.
        folder: to work in; None leaves it as it is.
        threads: for torch's operations.
        gpu_memory: the share of each visible GPU's memory that torch may take; None for all.
    """

    work: Path
    environment: Mapping[str, str]
    folder: Path | None
    threads: int
    gpu_memory: float | None = None


@dataclass(frozen=True)
class Ready:
    """Sent by a process that is to run several trials, once it has cleaned up after one."""


def main(connection: Connection, job: Job, surroundings: Surroundings, reuse: bool) -> None:
    """Runs a trial and sends its outcome; if `reuse`, then takes the next `(job, surroundings)`.

    For each trial, sends `(step, metrics)` for each report and waits for a bool in answer; then sends an
    `Outcome`, and `Ready` if it takes another. It takes none after a trial that failed, or that left
    threads or processes behind.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # so that the driver can end it with all it has started
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Before anything else: it forks.
    ranks = Ranks(job, _follow, job, surroundings) if job.ranks > 1 else None
    threading.Thread(target=_end_with_the_driver, daemon=True, name="watch driver").start()
    if reuse:
        gc.freeze()  # else each collection goes through all of torch, for 0.2 s
    with contextlib.suppress(OSError, EOFError):  # the driver wants no more
        while True:
            threads = set(threading.enumerate())
            with _settings_kept():
                outcome = _run(connection, job, surroundings, ranks)
            if (
                not reuse
                or ranks is not None
                or outcome.metrics is None
                or set(threading.enumerate()) - threads
                or _has_children()
            ):
                return
            _free_memory()
            connection.send(Ready())
            job, surroundings = connection.recv()


def _run(connection: Connection, job: Job, surroundings: Surroundings, ranks: Ranks | None) -> Outcome:
    """Runs one trial and sends its outcome."""
    pid = os.getpid()
    _settle(job, surroundings, OUTPUT)
    with contextlib.suppress(OSError):  # it is there for people to look at
        (job.directory / PID).write_text(str(pid))

    def report(step: int, metrics: Mapping[str, float]) -> bool:
        if os.getpid() != pid:
            raise RuntimeError("Only the trial's own process may report, not one that it has forked.")
        connection.send((step, dict(metrics)))
        return bool(connection.recv())

    if ranks is not None:
        ranks.lead(connection.send)
    with metered(job.directory):
        outcome = _outcome(job, surroundings, report)
    if os.getpid() != pid:  # forked within the evaluator, and came all the way back
        os._exit(0)
    if ranks is not None:
        outcome = ranks.judge(outcome)
    connection.send(outcome)
    return outcome


def _follow(rank: int, pipe: Connection, job: Job, surroundings: Surroundings) -> None:
    """What happens in a rank other than 0: the same, but it has no say."""
    threading.Thread(target=_end_with_the_driver, daemon=True, name="watch rank 0").start()
    _settle(job, surroundings, OUTPUT_OF_RANK.format(rank))
    follow_lead(rank, pipe, job)
    tell(pipe, _outcome(job, surroundings, lambda step, metrics: True, leads=False))


def _settle(job: Job, surroundings: Surroundings, name: str) -> None:
    """Makes a process that of a trial: its environment, its folder, and its output in the file `name`."""
    if dict(os.environ) != surroundings.environment:
        os.environ.clear()
        os.environ.update(surroundings.environment)
    if surroundings.folder is not None:
        os.chdir(surroundings.folder)
    output.redirect(job.directory, name)
    faulthandler.enable()
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads(job, surroundings)))  # if torch is yet to be loaded


def _threads(job: Job, surroundings: Surroundings) -> int:
    return max(1, surroundings.threads // job.ranks)


def _outcome(job: Job, surroundings: Surroundings, report: Report, leads: bool = True) -> Outcome:
    """What comes of the trial in this process."""
    try:
        work = _load(surroundings.work)
        _prepare_torch(job, surroundings)
    except Exception as error:
        return failed(job.number, error)
    seed_everything(job.seed)
    return attempt(work, job, report, leads)


def _load(path: Path) -> Work:
    import cloudpickle

    with path.open("rb") as file:
        work: Work = cloudpickle.load(file)
    return work


def _prepare_torch(job: Job, surroundings: Surroundings) -> None:
    if "torch" in sys.modules and "OMP_NUM_THREADS" not in surroundings.environment:
        sys.modules["torch"].set_num_threads(_threads(job, surroundings))
    if surroundings.gpu_memory is not None:
        import torch

        for device in range(torch.cuda.device_count()):
            torch.cuda.set_per_process_memory_fraction(surroundings.gpu_memory, device)


@contextlib.contextmanager
def _settings_kept() -> Iterator[None]:
    """Puts the settings of torch that trials often change, and `sys.path`, back as they were."""
    path = list(sys.path)
    torch = sys.modules.get("torch")
    if torch is not None:
        threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
        precision = torch.get_float32_matmul_precision()
        is_deterministic = torch.are_deterministic_algorithms_enabled()
        warns = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        sys.path[:] = path
        if torch is not None:
            torch.set_grad_enabled(True)
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
            torch.set_float32_matmul_precision(precision)
            torch.use_deterministic_algorithms(is_deterministic, warn_only=warns)


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _has_children() -> bool:
    """Whether a process that this one has started still runs; collects those that have ended."""
    if not hasattr(os, "waitpid") or not hasattr(os, "WNOHANG"):
        return False
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return False
    return True


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
