"""The ranks of a trial that trains with several processes: rank 0 is the trial's own, and starts the others.

Left alone, Lightning would start the user's script once more for each further rank. Here every rank makes
the same attempt, but only rank 0 speaks to the driver and is known to it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from lightning_nas.errors import ExperimentError
from lightning_nas.experiment.logs import last_lines
from lightning_nas.experiment.runners.protocol import Job, Outcome

OUTPUT = "output-rank{}.log"
"""What a rank other than 0 prints, in the trial's folder."""

_LOOK_S = 0.2  # between looks at who still lives: the workers of a rank's loaders keep its pipes open
_BLAME_S = 0.5  # rank 0 waits so long for news from others that explain its failure
_GRACE_S = 5.0  # for rank 0 to end by itself once another has failed
_END_S = 5.0  # for the others to end once rank 0 has
_SHOWN_LINES, _SHOWN_BYTES = 30, 10_000  # of the output of a rank that died


def check_is_first() -> None:
    """Raises ExperimentError in a script that something has started as one of several ranks, but the first.

    Such as Lightning, for a Trainer with several devices that a trial's own code has made.
    """
    rank = os.environ.get("LOCAL_RANK", "0")
    if rank != "0":
        raise ExperimentError(
            f"This is one of several processes (LOCAL_RANK={rank}), but one process runs an experiment, and starts "
            "those of its trials. Start it without torchrun; for trials on several devices give an evaluator such as "
            "LightningEvaluator the Trainer's arguments, or one of your own an attribute `ranks`."
        )


def ranks_of(evaluator: Any, runner: Any) -> int:
    """How many processes a trial of this evaluator takes: what it says in `ranks`, else 1.

    Raises:
        ValueError: if it says something else than an integer of at least 1, or the runner has only one.
    """
    ranks = getattr(evaluator, "ranks", 1)
    if not isinstance(ranks, int) or isinstance(ranks, bool) or ranks < 1:
        raise ValueError(f"An evaluator's `ranks` must be an integer of at least 1, but got {ranks!r}.")
    if ranks > 1 and runner == "inprocess":
        raise ValueError(
            f"A trial on {ranks} devices needs {ranks} processes, but runner='inprocess' has only this one; use "
            "runner='processes', or strategy='ddp_spawn' in the Trainer."
        )
    return ranks


@dataclass
class _Other:
    """A rank other than 0: its process, and what it said at its end and when."""

    process: Any
    pipe: Connection
    is_open: bool = True
    outcome: Outcome | None = None
    ended: float = 0.0  # monotonic, which all processes of a machine share

    @property
    def has_failed(self) -> bool:
        return self.outcome is not None and self.outcome.metrics is None


class Ranks:
    """The other ranks of a trial, as rank 0 sees them.

    The first failure of any rank is the trial's. A rank that dies takes rank 0 with it, in the same way,
    so that the driver judges the death as that of a trial with one process. No rank outlives rank 0.

    Args:
        job: the trial.
        follow: called in each other process as `follow(rank, pipe, *args)`; it calls `follow_lead`, and
            `tell` at its end.
        args: for `follow`.

    Made before this process has a second thread or any object of the user's: it forks.
    """

    def __init__(self, job: Job, follow: Callable[..., None], *args: Any) -> None:
        self._job = job
        self._others: dict[int, _Other] = {}
        self._changed = threading.Condition()
        self._is_over = False
        # As the driver does: where there is a server to fork from, this process has been forked from it.
        has_server = sys.platform != "darwin" and "forkserver" in multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("fork" if has_server else "spawn")
        for rank in range(1, job.ranks):
            ours, theirs = context.Pipe()
            process = context.Process(target=follow, args=(rank, theirs, *args), name=f"rank {rank}")
            process.start()
            theirs.close()
            self._others[rank] = _Other(process, ours)

    def lead(self, send: Callable[[Outcome], None]) -> None:
        """Opens the place where the ranks meet, tells the others, and watches them from now on.

        Args:
            send: tells the driver what came of the trial, if this process cannot any more.
        """
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        # torch is told to meet at a store that is open already: a port that was only free might be taken.
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        _set_variables(0, self._job, self._store.port)
        for other in self._others.values():
            with contextlib.suppress(OSError):  # it has died, as the watch will find
                other.pipe.send(self._store.port)
        threading.Thread(target=self._watch, args=(send,), daemon=True, name="watch ranks").start()

    def judge(self, outcome: Outcome) -> Outcome:
        """What came of the trial, given what came of it in rank 0: the first failure, or that. Ends the others."""
        ended, has_failed = time.monotonic(), outcome.metrics is None
        with self._changed:
            if has_failed:
                self._changed.wait_for(lambda: any(self._failures()), _BLAME_S)
            else:
                self._changed.wait_for(lambda: any(self._failures()) or not self._silent(), _END_S)
            while self._is_over:  # the watch is about to end this process
                self._changed.wait()
            self._is_over = True
        first = self._first_failure()
        if first is not None and (not has_failed or self._others[first].ended < ended):
            outcome = self._failure_of(first)
        self.end(_END_S if outcome.metrics is not None else 0.0)
        return outcome

    def end(self, grace_s: float = 0.0) -> None:
        """Ends the others, which have had so many seconds to do so by themselves."""
        deadline = time.monotonic() + grace_s
        for other in self._others.values():
            if other.outcome is not None:
                other.process.join(max(0.0, deadline - time.monotonic()))
        for other in self._others.values():
            other.process.kill()

    def _failures(self) -> Iterable[int]:
        return (rank for rank, other in self._others.items() if other.has_failed)

    def _first_failure(self) -> int | None:
        return min(self._failures(), key=lambda rank: self._others[rank].ended, default=None)

    def _silent(self) -> list[int]:
        return [rank for rank, other in self._others.items() if other.outcome is None]

    def _failure_of(self, rank: int) -> Outcome:
        outcome = self._others[rank].outcome
        assert outcome is not None, "it has failed"
        return replace(outcome, reason=f"On rank {rank}: {outcome.reason}")

    def _watch(self, send: Callable[[Outcome], None]) -> None:
        """Takes note of the ends of the others, until all have ended or one of them badly."""
        while self._silent() and not self._is_over:
            wait([other.pipe for other in self._others.values() if other.is_open], _LOOK_S)
            for rank in self._silent():
                self._look(rank)
            if any(self._failures()):
                break
        if any(self._failures()):
            self._end_after(_GRACE_S, send)

    def _look(self, rank: int) -> None:
        other = self._others[rank]
        code = other.process.exitcode  # before the pipe: what it said last is in there then
        try:
            if other.is_open and other.pipe.poll():
                ended, outcome = other.pipe.recv()
                with self._changed:
                    other.ended, other.outcome = ended, outcome
                    self._changed.notify_all()
                other.is_open = False
                return
        except (EOFError, OSError):
            other.is_open = False
        if code is not None:
            self._die_like(rank, code)

    def _end_after(self, seconds: float, send: Callable[[Outcome], None]) -> None:
        """Ends this process, unless it does so by itself: it may wait for a rank that is no more."""
        with self._changed:
            if self._changed.wait_for(lambda: self._is_over, seconds):
                return
            self._is_over = True
        first = self._first_failure()
        assert first is not None, "one has failed"
        send(self._failure_of(first))
        self._kill()
        os._exit(1)

    def _die_like(self, rank: int, code: int) -> None:
        """Ends this process as another one has ended, with a word on it in the trial's output."""
        with self._changed:
            if self._is_over:
                return
            self._is_over = True
        how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
        path = self._job.directory / OUTPUT.format(rank)
        with contextlib.suppress(OSError):
            print(
                f"Rank {rank} ended {how} before it had a result. Its output ({path.name}) ends:",
                file=sys.stderr,
            )
            print(last_lines(path, _SHOWN_LINES, _SHOWN_BYTES)[0].rstrip("\n"), file=sys.stderr, flush=True)
        self.end()
        if code < 0:
            faulthandler.disable()
            os.kill(os.getpid(), -code)
            time.sleep(1.0)  # the signal may be caught here
        os._exit(code if code >= 0 else 128 - code)

    def _kill(self) -> None:
        """Ends the others, and all that this process has started."""
        self.end()
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)


def follow_lead(rank: int, pipe: Connection, job: Job) -> None:
    """Waits in a rank other than 0 until rank 0 says where to meet.

    Raises:
        EOFError: if it has ended instead.
    """
    _set_variables(rank, job, pipe.recv())


def tell(pipe: Connection, outcome: Outcome) -> None:
    """Tells rank 0 what came of the trial in this rank."""
    pipe.send((time.monotonic(), outcome))


def _set_variables(rank: int, job: Job, port: int) -> None:
    """Sets what torch and Lightning read in a process that something else has launched.

    What SLURM, torchrun or LSF have set for the driver is not meant for the trial's processes.
    """
    environment = os.environ
    for name in ("TORCHELASTIC_RUN_ID", "JSM_NAMESPACE_SIZE"):
        environment.pop(name, None)
    if "SLURM_NTASKS" in environment:
        environment["SLURM_JOB_NAME"] = "interactive"  # Lightning's way to leave SLURM's ranks alone
    ranks = str(job.ranks)
    environment.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        WORLD_SIZE=ranks,
        LOCAL_WORLD_SIZE=ranks,
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        NODE_RANK="0",
        GROUP_RANK="0",
        TORCHELASTIC_USE_AGENT_STORE="True",
    )
    environment.setdefault("PL_GLOBAL_SEED", str(job.seed))  # with it Lightning shuffles for all ranks alike
