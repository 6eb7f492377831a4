"""The default runner: a fresh process for each trial, forked from a warm server."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from lightning_nas.errors import ExperimentError
from lightning_nas.experiment.runners import child
from lightning_nas.experiment.runners.child import OUTPUT, Surroundings
from lightning_nas.experiment.runners.protocol import Job, Outcome, TrialReport, Work

_EXIT_S = 10.0  # for a trial that has sent its outcome to end by itself
_TERM_S = 5.0  # between SIGTERM and SIGKILL
_SHOWN_LINES = 50  # of the output of a trial that crashed
# Imported by nearly every trial: 75 ms each time, were it not for the server.
_OURS = (child.__name__, "lightning_nas.mutables", "lightning_nas.evaluators.supervised")


@dataclass
class _Running:
    job: Job
    process: Any
    connection: connection.Connection
    slot: int
    is_open: bool = True
    deadline: float | None = None  # monotonic; set once the outcome is here


class ProcessRunner:
    """Runs each trial in a process of its own, so that a crash or a leak costs one trial.

    Where fork is safe (not on macOS and Windows, which spawn), processes are forked from a server that
    has imported torch and Lightning and done nothing else: no torch operation (a fork of a process
    that ran one convolution hangs), no CUDA, no user code. The user's objects travel by cloudpickle, so scripts need
    no `__main__` guard and notebooks work. What a trial prints is in `output.log` of its folder.

    Args:
        work: what all trials share.
        concurrency: trials at the same time; each gets its share of the cores for torch.
        directory: an existing folder for the file through which `work` is sent.
        gpus: values of CUDA_VISIBLE_DEVICES, dealt out to the trials in turn; left alone if empty.
        preload: modules that the server imports; None: torch and Lightning.

    Raises:
        ExperimentError: if `work` cannot be pickled.
    """

    runs_here = False

    def __init__(
        self,
        work: Work,
        concurrency: int,
        directory: Path,
        gpus: Sequence[str] = (),
        preload: Sequence[str] | None = None,
    ) -> None:
        self._work = directory / ".work.pkl"
        self._slots = set(range(concurrency))
        self._threads = max(1, _cores() // concurrency)
        self._gpus = gpus
        self._running: dict[int, _Running] = {}
        _send(work, self._work)
        self._context = _context(preloaded() if preload is None else preload)

    @property
    def free(self) -> int:
        """How many more processes may be started now; one that lingers after its outcome counts."""
        return len(self._slots)

    def submit(self, job: Job) -> None:
        """Starts a process for `job`."""
        slot = min(self._slots)
        environment = dict(os.environ)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=child.main,
            args=(theirs, job, Surroundings(self._work, environment, self._threads)),
            name=f"trial {job.number}",
        )
        with _hidden_main():
            process.start()
        theirs.close()
        self._slots.discard(slot)
        self._running[job.number] = _Running(job, process, ours, slot)

    def poll(self, timeout_s: float, report: TrialReport) -> list[Outcome]:
        """Hands on reports, and returns the outcomes that came, at the latest after `timeout_s`."""
        waiting: list[Any] = [r.process.sentinel for r in self._running.values()]
        waiting += [r.connection for r in self._running.values() if r.is_open]
        if not waiting:
            return []
        ready = set(connection.wait(waiting, timeout_s))
        outcomes: list[Outcome] = []
        for running in list(self._running.values()):
            has_ended = running.process.sentinel in ready
            if has_ended or running.connection in ready:
                outcomes += self._receive(running, report)
            if has_ended:
                outcomes += self._ended(running)
            elif running.deadline is not None and time.monotonic() > running.deadline:
                self._stop([running])
        return outcomes

    def cancel(self, number: int) -> None:
        """Ends the process of a job and all it has started."""
        if number in self._running:
            self._stop([self._running[number]])

    def close(self) -> None:
        """Ends all processes and removes the file of `work`; the server stays warm for the next run."""
        for running in self._running.values():
            if running.deadline is not None:  # it is only cleaning up: loggers may still be sending
                running.process.join(max(0.0, running.deadline - time.monotonic()))
        self._stop(list(self._running.values()))
        self._work.unlink(missing_ok=True)

    def _receive(self, running: _Running, report: TrialReport) -> Iterator[Outcome]:
        """Reads all that a trial has sent, and answers its reports."""
        while running.is_open:
            try:
                if not running.connection.poll():
                    return
                message = running.connection.recv()
            except (EOFError, OSError):
                running.is_open = False  # its end tells why
                return
            if isinstance(message, Outcome):
                running.deadline = time.monotonic() + _EXIT_S
                yield message
            else:
                go_on = report(running.job.number, *message)
                with contextlib.suppress(OSError):  # it has died meanwhile
                    running.connection.send(go_on)

    def _ended(self, running: _Running) -> Iterator[Outcome]:
        """Cleans up after a process that has ended; it is an outcome if none was sent."""
        running.process.join()
        code = running.process.exitcode
        self._forget(running)
        if running.deadline is None:
            _signal(running.process, signal.SIGTERM)  # what it left behind
            yield Outcome(
                running.job.number, reason=_why(code), traceback=_end_of(running.job.directory / OUTPUT)
            )

    def _stop(self, group: Sequence[_Running]) -> None:
        for running in group:
            _signal(running.process, signal.SIGTERM)
        deadline = time.monotonic() + _TERM_S
        for running in group:
            running.process.join(max(0.0, deadline - time.monotonic()))
            _signal(running.process, getattr(signal, "SIGKILL", signal.SIGTERM))
            running.process.join()
            self._forget(running)

    def _forget(self, running: _Running) -> None:
        running.connection.close()
        self._running.pop(running.job.number)
        self._slots.add(running.slot)


def preloaded() -> tuple[str, ...]:
    """What nearly every trial imports: torch, and Lightning under the name that is in use here."""
    return "torch", "lightning.pytorch" if "lightning.pytorch" in sys.modules else "pytorch_lightning"


def _context(preload: Sequence[str]) -> Any:
    """The way processes are made, with a server that is already importing `preload` where there is one."""
    # On macOS system libraries start threads that do not survive a fork.
    if sys.platform == "darwin" or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning_nas.experiment.runners.preload", child.__name__, *preload])
    # Its first process, which waits until it has imported all that: the first trial does not.
    first = context.Process(target=_nothing)
    with _hidden_main():
        first.start()
    first.join()
    return context


def _nothing() -> None: ...


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Keeps multiprocessing from running the user's script once more in each new process."""
    main = vars(sys.modules["__main__"])
    kept: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(kept)


def _send(work: Work, path: Path) -> None:
    """Writes `work` where the trials' processes read it."""
    import cloudpickle

    try:
        with path.open("wb") as file:
            cloudpickle.dump(work, file)
    except Exception as error:
        path.unlink(missing_ok=True)
        raise ExperimentError(
            "The evaluator or the model cannot be sent to a trial's process "
            f"({type(error).__name__}: {error}); use runner='inprocess', or open such things as files, locks and "
            "connections inside the evaluation."
        ) from error


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _signal(process: Any, number: int) -> None:
    """Sends a signal to a trial's process and all it has started."""
    if not hasattr(os, "killpg"):
        process.terminate()
        return
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:  # it has ended, or is too young to have a group of its own
        if process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)


def _why(code: int) -> str:
    """Why a process ended before its trial did, from its exit code."""
    if code == -getattr(signal, "SIGKILL", 9):
        return "The trial's process was killed (SIGKILL), as the system does when memory runs out."
    if code < 0:
        names = {int(number): number.name for number in signal.Signals}
        name = names.get(-code, f"signal {-code}")
        return f"The trial's process crashed with {name}."
    return f"The trial's process ended with exit code {code} before it had a result."


def _end_of(path: Path) -> str | None:
    """The last lines of a file, None if it has none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 10_000))
            lines = file.read().decode(errors="backslashreplace").splitlines()
    except OSError:
        return None
    return "\n".join(lines[-_SHOWN_LINES:]) or None
