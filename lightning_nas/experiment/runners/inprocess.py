"""A runner for debugging and notebooks: one trial at a time, in this process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

from lightning_nas.experiment.runners.attempt import attempt, seeded
from lightning_nas.experiment.runners.protocol import Job, Outcome, TrialReport, Work


class InProcessRunner:
    """Runs a trial within `poll`, in the calling thread.

    A debugger stops in the evaluator, and its output goes where the caller's goes; but a crash ends the
    whole search, and memory that one trial leaks is missing in the next. The states of the global
    random generators are the same after a trial as before it.

    Args:
        work: what all trials share.
    """

    runs_here = True

    def __init__(self, work: Work) -> None:
        self._work = work
        self._queue: deque[Job] = deque()

    @property
    def free(self) -> int:
        """1 while no job waits for the next `poll`."""
        return 0 if self._queue else 1

    def submit(self, job: Job) -> None:
        """Takes a job, which the next `poll` runs."""
        self._queue.append(job)

    def poll(self, timeout_s: float, report: TrialReport) -> list[Outcome]:
        """Runs the job that waits, to its end; an empty list if there is none."""
        if not self._queue:
            return []
        job = self._queue.popleft()
        errors: list[Exception] = []
        thread = threading.get_ident()

        def relay(step: int, metrics: Mapping[str, float]) -> bool:
            if threading.get_ident() != thread:
                raise RuntimeError(
                    "With runner='inprocess' a trial must report from the thread that its evaluator was called in."
                )
            try:
                return not errors and report(job.number, step, metrics)
            except Exception as error:  # the caller's own, which the trial must not take for its
                errors.append(error)
                return False

        with seeded(job.seed):
            outcome = attempt(self._work, job, relay)
        if errors:
            raise errors[0]
        return [outcome]

    def cancel(self, number: int) -> None:
        """Forgets a job that has not begun."""
        self._queue = deque(job for job in self._queue if job.number != number)

    def close(self) -> None:
        """Forgets the jobs that have not begun."""
        self._queue.clear()
