"""The default runner: processes forked from a warm server, a fresh one for each trial unless told otherwise."""

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
from lightning_nas.experiment.runners import child, output
from lightning_nas.experiment.runners.child import Ready, Surroundings
from lightning_nas.experiment.runners.crashes import Kills, crash
from lightning_nas.experiment.runners.gpus import shares
from lightning_nas.experiment.runners.protocol import Job, Outcome, TrialReport, Work

_EXIT_S = 10.0  # for a trial that has sent its outcome to end by itself
_TERM_S = 5.0  # between SIGTERM and SIGKILL
_OUTPUT_S = 1.0  # between looks at how much the trials have printed
_SERVER_S = 2.0  # for a server that has been killed to be gone
_LOST = 255  # the exit code that multiprocessing gives processes whose server has died
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
# Imported by nearly every trial: 75 ms each time, were it not for the server.
_OURS = (
    child.__name__,
    "lightning_nas.mutables",
    "lightning_nas.evaluators.supervised",
    "lightning_nas.export.code",
)


@dataclass
class _Worker:
    """A process: at work on `job`, cleaning up until `deadline`, or, with neither, idle."""

    process: Any
    connection: connection.Connection
    slot: int
    job: Job | None
    kills: Kills
    is_open: bool = True
    deadline: float | None = None  # monotonic; set once the outcome is here

    @property
    def is_idle(self) -> bool:
        return self.job is None and self.deadline is None


class ProcessRunner:
    """Runs each trial in a process of its own, so that a crash or a leak costs one trial.

    Where fork is safe (not on macOS and Windows, which spawn), processes are forked from a server that
    has imported torch and Lightning and done nothing else: no torch operation (a fork of a process
    that ran one convolution hangs), no CUDA, no user code. The user's objects travel by cloudpickle, so scripts need
    no `__main__` guard and notebooks work. What a trial prints is in `output.log` of its folder; of more than
    64 MiB the middle is left out.

    With `reuse` a process takes one trial after another, and is replaced after a trial that failed, or
    that left threads or processes behind. Each trial has the evaluator as it was sent, new seeds, its own
    output file, the driver's environment and folder, freed memory, and torch's default type, precision,
    threads and determinism as they were. It shares with those before it: imported modules with their globals and
    whatever was patched in them, signal handlers, filters of warnings, loggers, open files, and the CUDA context.

    A trial's process that leaves its process group (`setsid`) is out of reach; it costs nothing but itself.

    Args:
        work: what all trials share.
        concurrency: trials at the same time; each gets its share of the cores for torch.
        directory: an existing folder for the file through which `work` is sent.
        gpus: values of CUDA_VISIBLE_DEVICES.
        gpus_per_trial: how they are dealt out, see `gpus.shares`; there are no more trials at the same time
            than they have room for.
        reuse: whether processes are kept for further trials.
        preload: modules that the server imports; None: torch and Lightning.

    Raises:
        ExperimentError: if `work` cannot be pickled, or there are too few GPUs.
    """

    runs_here = False

    def __init__(
        self,
        work: Work,
        concurrency: int,
        directory: Path,
        gpus: Sequence[str] = (),
        gpus_per_trial: float | None = None,
        reuse: bool = False,
        preload: Sequence[str] | None = None,
    ) -> None:
        self._shares = shares(gpus, gpus_per_trial, concurrency)
        self._work = directory / ".work.pkl"
        self._threads = max(1, _cores() // len(self._shares))
        self._reuse = reuse
        self._workers: dict[int, _Worker] = {}  # by slot
        self._looked = time.monotonic()
        _send(work, self._work)
        self._context = _context(preloaded() if preload is None else preload)

    @property
    def free(self) -> int:
        """How many more jobs may be started now; a process that lingers after its outcome counts."""
        return len(self._shares) - sum(not worker.is_idle for worker in self._workers.values())

    def submit(self, job: Job) -> None:
        """Gives `job` to an idle process, or starts one for it."""
        for worker in [w for w in self._workers.values() if w.is_idle and not w.process.is_alive()]:
            self._forget(worker)
        idle = next((worker for worker in self._workers.values() if worker.is_idle), None)
        if idle is None:
            self._start(job)
            return
        idle.job, idle.kills = job, Kills.now()
        with contextlib.suppress(OSError):  # it has just died, as the next `poll` will find
            idle.connection.send((job, self._surroundings(idle.slot)))

    def poll(self, timeout_s: float, report: TrialReport) -> list[Outcome]:
        """Hands on reports, and returns the outcomes that came, at the latest after `timeout_s`."""
        if all(worker.is_idle for worker in self._workers.values()):
            return []
        waiting: list[Any] = [w.process.sentinel for w in self._workers.values()]
        waiting += [w.connection for w in self._workers.values() if w.is_open]
        ready = set(connection.wait(waiting, timeout_s))
        outcomes: list[Outcome] = []
        for worker in list(self._workers.values()):
            has_ended = worker.process.sentinel in ready
            if has_ended or worker.connection in ready:
                outcomes += self._receive(worker, report)
            if has_ended:
                outcomes += self._ended(worker)
            elif worker.deadline is not None and time.monotonic() > worker.deadline:
                self._stop([worker])
        self._cut_output()
        return outcomes

    def cancel(self, number: int) -> None:
        """Ends the process of a job and all it has started."""
        self._stop([w for w in self._workers.values() if w.job is not None and w.job.number == number])

    def close(self) -> None:
        """Ends all processes and removes the file of `work`; the server stays warm for the next run."""
        workers = list(self._workers.values())
        for worker in workers:
            if worker.job is None:
                worker.connection.close()  # it ends once it has cleaned up: loggers may still be sending
        for worker in workers:
            if worker.job is None:
                deadline = worker.deadline or time.monotonic() + _TERM_S
                worker.process.join(max(0.0, deadline - time.monotonic()))
        self._stop(workers)
        self._work.unlink(missing_ok=True)

    def _start(self, job: Job) -> None:
        slot = next(slot for slot in range(len(self._shares)) if slot not in self._workers)
        kills = Kills.now()
        ours, theirs = self._context.Pipe()
        arguments = theirs, job, self._surroundings(slot), self._reuse
        process = _started(self._context, child.main, arguments, f"trial {job.number}")
        theirs.close()
        self._workers[slot] = _Worker(process, ours, slot, job, kills)

    def _surroundings(self, slot: int) -> Surroundings:
        share, environment = self._shares[slot], dict(os.environ)
        if share.visible is not None:
            environment["CUDA_VISIBLE_DEVICES"] = share.visible
        try:
            folder = Path.cwd()
        except OSError:  # it has been removed
            folder = None
        return Surroundings(self._work, environment, folder, self._threads, share.memory)

    def _receive(self, worker: _Worker, report: TrialReport) -> Iterator[Outcome]:
        """Reads all that a process has sent, and answers its reports."""
        while worker.is_open:
            try:
                if not worker.connection.poll():
                    return
                message = worker.connection.recv()
            except (EOFError, OSError):
                worker.is_open = False  # its end tells why
                return
            if isinstance(message, Ready):
                worker.deadline = None
            elif isinstance(message, Outcome):
                assert worker.job is not None, "an outcome ends a job"
                output.cut(worker.job.directory)
                worker.job, worker.deadline = None, time.monotonic() + _EXIT_S
                yield message
            elif worker.job is not None:
                go_on = report(worker.job.number, *message)
                with contextlib.suppress(OSError):  # it has died meanwhile
                    worker.connection.send(go_on)

    def _ended(self, worker: _Worker) -> Iterator[Outcome]:
        """Cleans up after a process that has ended; it is an outcome if its job had none."""
        worker.process.join()
        self._forget(worker)
        if worker.process.exitcode == _LOST:  # the server's death ends all, one after another
            self._await_ends(time.monotonic() + _SERVER_S)
        if worker.job is not None:
            # What it left behind; and itself, where it is the server that has ended.
            _signal(worker.process, _KILL)
            cause = crash(worker.process.exitcode, worker.kills)
            output.cut(worker.job.directory)
            last_words = output.end_of(worker.job.directory)
            yield Outcome(
                worker.job.number, reason=cause.reason, traceback=last_words, is_crash=cause.may_pass
            )

    def _await_ends(self, deadline: float) -> None:
        """Waits for idle processes to end, so that none is given a job while it does."""
        sentinels = {w.process.sentinel for w in self._workers.values() if w.is_idle}
        while sentinels and (ended := connection.wait(sentinels, max(0.0, deadline - time.monotonic()))):
            sentinels.difference_update(ended)

    def _stop(self, group: Sequence[_Worker]) -> None:
        for worker in group:
            _signal(worker.process, signal.SIGTERM)
        deadline = time.monotonic() + _TERM_S
        for worker in group:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            _signal(worker.process, _KILL)
            worker.process.join()
            self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        worker.connection.close()
        self._workers.pop(worker.slot)

    def _cut_output(self) -> None:
        if time.monotonic() - self._looked > _OUTPUT_S:
            self._looked = time.monotonic()
            for worker in self._workers.values():
                if worker.job is not None:
                    output.cut(worker.job.directory)


def preloaded() -> tuple[str, ...]:
    """What nearly every trial imports: torch, Lightning under the name that is in use here, and our part."""
    lightning = "lightning.pytorch" if "lightning.pytorch" in sys.modules else "pytorch_lightning"
    return "torch", lightning, *_OURS


def _context(preload: Sequence[str]) -> Any:
    """The way processes are made, with a server that is already importing `preload` where there is one."""
    # On macOS system libraries start threads that do not survive a fork.
    if sys.platform == "darwin" or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning_nas.experiment.runners.preload", *preload])
    # Its first process, which waits until it has imported all that: the first trial does not.
    _started(context, _nothing).join()
    return context


def _nothing() -> None: ...


def _started(context: Any, target: Any, arguments: tuple[Any, ...] = (), name: str | None = None) -> Any:
    """A new process; from a new server if the one there was has just been killed."""
    deadline = time.monotonic() + _SERVER_S
    while True:
        process = context.Process(target=target, args=arguments, name=name)
        try:
            with _hidden_main():
                process.start()
        except (EOFError, ConnectionError):
            # Until the system has done away with the old server, multiprocessing takes it to be alive.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return process


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
