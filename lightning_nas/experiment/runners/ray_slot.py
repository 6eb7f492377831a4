"""What happens on a node of a Ray cluster: a place for one trial at a time."""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_nas.experiment.runners import shipping
from lightning_nas.experiment.runners.attempt import failed
from lightning_nas.experiment.runners.processes import ProcessRunner
from lightning_nas.experiment.runners.protocol import Job, Outcome
from lightning_nas.experiment.runners.shipping import Part

_POLL_S = 0.2
_TOKEN_S = 1.0  # between two looks at the driver's token
_SHIP_S = 60.0  # between two shipments of what a running trial wrote

Message = tuple[int, Mapping[str, float]] | Part | Outcome | None
"""A report, a part of a file, what came of the trial, or None: nothing more will come."""


@dataclass(frozen=True)
class Driver:
    """What a slot takes over from the driver.

    Args:
        token: a file in the experiment's folder, there as long as this driver works on it.
        secret: its content. A node that can read it shares the folder; once another driver has replaced it,
            the trials of this one end.
        folder: the working folder, taken over where it exists.
        path: `sys.path`.
        preload: modules that are imported before the first trial.
    """

    token: Path
    secret: str
    folder: str
    path: tuple[str, ...]
    preload: tuple[str, ...]

    def is_seen(self) -> bool:
        """Whether the token is there and still this driver's."""
        try:
            return self.token.read_text() == self.secret
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False


class Slot:
    """A Ray actor: holds the resources of one trial, and runs trials in processes forked from a warm server.

    The driver calls `start`, and then `advance` until it is given an outcome; each call waits for one
    message and answers the one before. `cancel` and `stop` come in between, in another thread.

    Args:
        work: the cloudpickled `Work`.
        driver: what the trials are to find as at the driver's.
        threads: for torch's operations, unless OMP_NUM_THREADS is set.
        hides_gpus: whether trials must not see the node's GPUs.
    """

    def __init__(self, work: bytes, driver: Driver, threads: int, hides_gpus: bool) -> None:
        if hasattr(signal, "pthread_sigmask"):  # Ray blocks it, and trials would inherit that
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if os.path.isdir(driver.folder):
            os.chdir(driver.folder)
        sys.path += [entry for entry in driver.path if entry not in sys.path]
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        if hides_gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._driver = driver
        self._shares_folder = driver.is_seen()
        self._home = Path(tempfile.mkdtemp(prefix="lightning-nas-"))
        self._runner = ProcessRunner(_Pickled(work), 1, self._home, preload=driver.preload)  # type: ignore[arg-type]
        self._lock = threading.Lock()
        self._cancelled = -1
        self._attempts: queue.SimpleQueue[_Attempt | None] = queue.SimpleQueue()
        self._attempt: _Attempt | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True, name="trials")
        self._thread.start()
        if self._shares_folder:
            threading.Thread(target=self._end_with_the_driver, daemon=True, name="watch driver").start()

    def ready(self) -> tuple[str, bool]:
        """The node's id, and whether it sees the experiment's folder."""
        import ray

        return ray.get_runtime_context().get_node_id(), self._shares_folder

    def receive(self, number: int, part: Part) -> None:
        """Takes a part of a file for trial `number`."""
        shipping.write(self._folder(number), part)

    def start(self, job: Job, serial: int) -> None:
        """Begins with `job`, unless it has been cancelled; `serial` grows with every start."""
        if not self._shares_folder:
            here = self._folder(job.number)
            came_from = job.resume_from
            if came_from is not None and came_from.is_relative_to(job.directory):
                came_from = here / came_from.relative_to(job.directory)
            job = replace(job, directory=here, resume_from=came_from)
        with self._lock:
            if serial > self._cancelled:
                self._attempt = _Attempt(job, serial)
                self._attempts.put(self._attempt)

    def advance(self, answer: bool | None) -> Message:
        """The next message, once there is one.

        Args:
            answer: to the message before: whether to go on. None after `start`.
        """
        attempt = self._attempt
        if attempt is None:
            return None
        if answer is not None:
            attempt.answers.put(answer)
        return attempt.messages.get()

    def cancel(self, serial: int) -> None:
        """Ends what was started as `serial` or before, and waits until it has ended."""
        with self._lock:
            self._cancelled = max(self._cancelled, serial)
            attempt = self._attempt
        if attempt is not None and attempt.serial <= serial:
            attempt.is_cancelled = True
            attempt.answers.put(False)
            attempt.has_ended.wait()

    def stop(self) -> None:
        """Ends everything; the actor can only be killed then."""
        with self._lock:
            self._cancelled = sys.maxsize
            attempt = self._attempt
        if attempt is not None:
            attempt.is_cancelled = True
            attempt.answers.put(False)
        self._attempts.put(None)
        self._thread.join()
        shutil.rmtree(self._home, ignore_errors=True)

    # -- in the thread of the trials -----------------------------------------------------------------

    def _serve(self) -> None:
        while (attempt := self._attempts.get()) is not None:
            try:
                self._run(attempt)
            except Exception as error:  # such as a full disk: the trial's failure, as far as we can tell
                self._runner.cancel(attempt.job.number)
                attempt.messages.put(failed(attempt.job.number, error))
            finally:
                attempt.has_ended.set()
                attempt.messages.put(None)
        self._runner.close()

    def _run(self, attempt: _Attempt) -> None:
        report = functools.partial(self._report, attempt)
        while self._runner.free == 0:  # the trial before has sent its outcome, but lingers
            self._runner.poll(_POLL_S, report)
        if not self._shares_folder:  # what came back to the driver is needed here no more
            for folder in self._folder(attempt.job.number).parent.glob("*"):
                if folder != attempt.job.directory:
                    shutil.rmtree(folder, ignore_errors=True)
        self._shipped = shipping.snapshot(attempt.job.directory)
        self._shipped_at = time.monotonic()
        self._runner.submit(attempt.job)
        while not attempt.is_cancelled:
            for outcome in self._runner.poll(_POLL_S, report):
                self._ship(attempt)
                attempt.messages.put(outcome)
                return
        self._runner.cancel(attempt.job.number)
        if not self._shares_folder:
            shutil.rmtree(attempt.job.directory, ignore_errors=True)

    def _report(self, attempt: _Attempt, number: int, step: int, metrics: Mapping[str, float]) -> bool:
        if time.monotonic() > self._shipped_at + _SHIP_S:
            self._ship(attempt)  # while the trial waits: its files are at rest
        return attempt.ask((step, metrics))

    def _ship(self, attempt: _Attempt) -> None:
        """Sends what the trial wrote since the last time to the driver's folder, if that is elsewhere."""
        if self._shares_folder:
            return
        now = shipping.snapshot(attempt.job.directory)
        for part in shipping.changes(attempt.job.directory, self._shipped, now):
            attempt.ask(part)
        self._shipped = now
        self._shipped_at = time.monotonic()

    def _end_with_the_driver(self) -> None:
        """Ends this process, and with it its trial, once the folder is another driver's or nobody's.

        Ray ends the actors of a driver that died, but those of its client only after 30 s: so that it can
        connect again. By then the next driver may run the same trials in the same folders.
        """
        is_seen = True
        while is_seen:
            time.sleep(_TOKEN_S)
            with contextlib.suppress(OSError):  # a shared folder that falters tells nothing
                is_seen = self._driver.is_seen()
        shutil.rmtree(self._home, ignore_errors=True)
        os._exit(1)

    def _folder(self, number: int) -> Path:
        return self._home / "trials" / str(number)


class _Attempt:
    """A trial that runs, and the two ways of what is said about it."""

    def __init__(self, job: Job, serial: int) -> None:
        self.job = job
        self.serial = serial
        self.is_cancelled = False
        self.has_ended = threading.Event()
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask(self, message: Message) -> bool:
        """Says something, and waits for the answer."""
        if self.is_cancelled:
            return False
        self.messages.put(message)
        return self.answers.get()


class _Pickled:
    """Stands for what was pickled, so that it is loaded only where trials run."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Any, ...]:
        import cloudpickle

        return cloudpickle.loads, (self._data,)
