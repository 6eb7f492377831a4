"""A runner for clusters: Ray decides where a trial runs."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_nas.errors import ExperimentError
from lightning_nas.experiment.runners import shipping
from lightning_nas.experiment.runners.processes import preloaded
from lightning_nas.experiment.runners.protocol import Job, Outcome, TrialReport, Work
from lightning_nas.experiment.runners.ray_slot import Driver, Message, Slot

_TOKEN = ".ray-driver"
_START_S = 30.0  # for the slots that the cluster has room for
_STOP_S = 20.0  # for a slot to end its trial
_ROOM_S = 5.0  # between two looks at how much room there is
_REACH_S = 5.0  # for a server to answer
_MAX_START_FAILURES = 3  # in a row
_ADDRESS = r"(ray://)?[\w.-]+:\d+"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ray:
    """Trials on a Ray cluster, as `Experiment(runner=...)` takes it; "ray" stands for `Ray()`.

    Args:
        address: "ray://host:10001" (Ray's client) or "host:6379" (from a node of the cluster). None takes
            the Ray that this process is connected to, else RAY_ADDRESS, else the one that `ray start` left
            on this machine, else starts one here and shuts it down in the end.
        cpus_per_trial: what a trial reserves, above 0; torch uses as many threads.
        gpus_per_trial: a fraction shares a GPU among several trials (without a limit on memory); 0 hides
            all GPUs. None: 1 where the cluster has any.

    Raises:
        ValueError: if a number is out of range; more than one GPU must be a whole number.
    """

    address: str | None = None
    cpus_per_trial: float = 1
    gpus_per_trial: float | None = None

    def __post_init__(self) -> None:
        gpus = self.gpus_per_trial
        if self.cpus_per_trial <= 0 or (gpus is not None and (gpus < 0 or (gpus > 1 and gpus % 1))):
            raise ValueError(
                "`cpus_per_trial > 0` and `0 <= gpus_per_trial <= 1`, or a whole number, must hold, but got "
                f"(cpus_per_trial={self.cpus_per_trial}, gpus_per_trial={gpus})."
            )
        if self.address is not None and not re.fullmatch(_ADDRESS, self.address):
            raise ValueError(
                f"`address` must be like 'ray://host:10001' or 'host:6379', but got {self.address!r}."
            )

    @staticmethod
    def named(runner: Any) -> Ray | None:
        """What `runner` stands for: itself, the text "ray" or an address; None if it is none of these."""
        if isinstance(runner, Ray):
            return runner
        if runner == "ray":
            return Ray()
        if isinstance(runner, str) and re.fullmatch(_ADDRESS, runner):
            return Ray(address=runner)
        return None

    def check_installed(self) -> None:
        """Raises ExperimentError if Ray is not there."""
        if importlib.util.find_spec("ray") is None:
            raise ExperimentError(
                "runner='ray' needs Ray, which is not installed: pip install 'lightning-nas[ray]'."
            )


@dataclass
class _Slot:
    """A slot as the driver sees it.

    Args:
        actor: the `Slot`.
        pending: the answer we wait for; None while it is idle.
        node: its node's id, once it is there.
        shares_folder: whether it sees the experiment's folder.
        job: what it was given.
        serial: of the job; grows with each start.
        has_begun: whether it has taken the job.
    """

    actor: Any
    pending: Any
    node: str | None = None
    shares_folder: bool = True
    job: Job | None = None
    serial: int = -1
    has_begun: bool = False


class RayRunner:
    """Runs trials in slots, Ray actors that each hold the resources of one trial.

    A slot runs its trials as `ProcessRunner` does: each in a process of its own, forked from a warm server
    on that node, so a trial that crashes leaves the slot alone. Where a node does not see the experiment's
    folder, a trial writes into a temporary one, whose files come back at its end and every minute at a
    report; the next attempt is given them. A trial whose node or slot is lost has an outcome that says
    so; the slot is made anew, wherever there is room. The trials of a driver that dies are ended.

    Args:
        work: what all trials share.
        concurrency: trials at the same time, at most; None for as many as the cluster has room for.
        directory: the experiment's folder.
        settings: see `Ray`.

    Raises:
        ExperimentError: if `work` cannot be pickled, Ray is not installed or cannot be reached, or slots
            cannot start.
    """

    runs_here = False

    def __init__(self, work: Work, concurrency: int | None, directory: Path, settings: Ray = Ray()) -> None:
        settings.check_installed()
        data = _pickled(work)
        self._slots: list[_Slot] = []
        self._unplaced: list[Job] = []
        self._serial = 0
        self._start_failures = 0
        self._concurrency = concurrency
        self._looked_at = -_ROOM_S
        self._closing = contextlib.ExitStack()
        try:
            self._ray, is_small = self._closing.enter_context(_connected(settings.address))
            self._driver = self._closing.enter_context(_token(directory))
            nodes = self._nodes()
            cpus, gpus = settings.cpus_per_trial, settings.gpus_per_trial
            if gpus is None:
                gpus = 1 if any(node.get("GPU") for node in nodes) else 0
            self._needs = {"CPU": cpus, "GPU": gpus}
            self._actors = self._ray.remote(
                num_cpus=cpus, num_gpus=gpus, max_concurrency=4, max_restarts=0, max_task_retries=0
            )(Slot)
            self._arguments = self._ray.put(data), self._driver, max(1, int(cpus)), gpus == 0
            self._check_room(nodes, is_small)
            self._start()
        except BaseException:
            self.close()
            raise

    @property
    def free(self) -> int:
        """How many slots are there and idle."""
        idle = sum(slot.node is not None and slot.job is None for slot in self._slots)
        return max(0, idle - len(self._unplaced))

    def submit(self, job: Job) -> None:
        """Gives `job` to an idle slot."""
        self._unplaced.append(job)
        self._place()

    def poll(self, timeout_s: float, report: TrialReport) -> list[Outcome]:
        """Hands on reports, and returns the outcomes that came, at the latest after `timeout_s`."""
        self._add_slots()
        waiting = {slot.pending: slot for slot in self._slots if slot.pending is not None}
        if not waiting:
            return []
        ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = self._ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        outcomes = [outcome for ref in ready for outcome in self._receive(waiting[ref], report)]
        self._place()
        return outcomes

    def cancel(self, number: int) -> None:
        """Ends the process of a job and all it has started."""
        self._unplaced = [job for job in self._unplaced if job.number != number]
        for slot in [slot for slot in self._slots if slot.job is not None and slot.job.number == number]:
            slot.job = slot.pending = None
            try:
                self._ray.get(slot.actor.cancel.remote(slot.serial), timeout=_STOP_S)
            except (self._ray.exceptions.RayError, TimeoutError):
                self._remove(slot)

    def close(self) -> None:
        """Ends all trials and slots, and the Ray that was started here."""
        slots, self._slots, self._unplaced = self._slots, [], []
        if slots:
            with contextlib.suppress(Exception):  # the cluster may be gone
                stopping = [slot.actor.stop.remote() for slot in slots if slot.node is not None]
                if stopping:
                    self._ray.wait(stopping, num_returns=len(stopping), timeout=_STOP_S)
                for slot in slots:
                    self._ray.kill(slot.actor)
        self._closing.close()

    # -- slots -------------------------------------------------------------------------------------

    def _nodes(self) -> list[Mapping[str, float]]:
        """What each living node has."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _check_room(self, nodes: Sequence[Mapping[str, float]], is_small: bool) -> None:
        if room(nodes, self._needs) > 0:
            return
        have = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
        message = (
            f"A trial needs {self._needs['CPU']:g} CPUs and {self._needs['GPU']:g} GPUs on one node, but no node of "
            f"this Ray has that (there are: {have or 'no nodes'})"
        )
        if is_small:
            raise ExperimentError(f"{message}; give Ray(cpus_per_trial=..., gpus_per_trial=...) less.")
        _log.warning("%s; waiting for one that has.", message)

    def _start(self) -> None:
        """Waits for the slots that there is room for: not for those that other users' work keeps out."""
        self._add_slots()
        expected = min(len(self._slots), room(self._nodes(), self._needs))
        deadline = time.monotonic() + _START_S
        while self.free < expected and time.monotonic() < deadline:
            self.poll(1.0, _no_report)

    def _add_slots(self) -> None:
        """Makes slots up to `concurrency`; Ray starts them where and when there is room."""
        wanted = self._concurrency
        if wanted is None:
            if time.monotonic() < self._looked_at + _ROOM_S:
                return
            self._looked_at = time.monotonic()
            wanted = max(1, room(self._nodes(), self._needs))
        while len(self._slots) < wanted:
            actor = self._actors.remote(*self._arguments)
            self._slots.append(_Slot(actor, actor.ready.remote()))

    def _place(self) -> None:
        """Gives jobs that wait to slots that are idle."""
        for slot in self._slots:
            if not self._unplaced:
                return
            if slot.node is not None and slot.job is None:
                slot.job = job = self._unplaced.pop(0)
                self._serial = slot.serial = self._serial + 1
                slot.has_begun = False
                if not slot.shares_folder:
                    self._hand_over(slot, job)
                slot.pending = slot.actor.start.remote(job, slot.serial)

    def _hand_over(self, slot: _Slot, job: Job) -> None:
        """Sends what earlier attempts wrote to a node that does not see it."""
        names = shipping.snapshot(job.directory)
        with contextlib.suppress(self._ray.exceptions.RayError):  # it is lost: `start` will tell
            for part in shipping.parts(job.directory, names):
                self._ray.get(slot.actor.receive.remote(job.number, part))

    def _receive(self, slot: _Slot, report: TrialReport) -> Iterator[Outcome]:
        """Takes the message of a slot, and asks for the next."""
        try:
            message = self._ray.get(slot.pending)
        except self._ray.exceptions.RayError as error:
            yield from self._lost(slot, error)
            return
        slot.pending = None
        if slot.node is None:
            slot.node, slot.shares_folder = message
            self._start_failures = 0
        elif slot.job is not None and not slot.has_begun:
            slot.has_begun = True
            slot.pending = slot.actor.advance.remote(None)
        elif slot.job is not None:
            yield from self._heard(slot, slot.job, message, report)

    def _heard(self, slot: _Slot, job: Job, message: Message, report: TrialReport) -> Iterator[Outcome]:
        """What follows from a message of a running trial."""
        goes_on = True
        if isinstance(message, shipping.Part):
            shipping.write(job.directory, message)
        elif isinstance(message, tuple):
            goes_on = report(job.number, *message)
        else:
            slot.job = None
            yield message or _crash(job, "The trial's node no longer sees the experiment's folder.")
            return
        slot.pending = slot.actor.advance.remote(goes_on)

    def _lost(self, slot: _Slot, error: Exception) -> Iterator[Outcome]:
        """What follows from the end of a slot that nobody ended."""
        self._remove(slot)
        cause = (str(error).strip() or type(error).__name__).splitlines()[-1].strip().rstrip(".")
        if slot.node is None:
            self._start_failures += 1
            if self._start_failures >= _MAX_START_FAILURES:
                raise ExperimentError(
                    f"Trials cannot start on this Ray ({cause}); its nodes need lightning-nas and what the trials "
                    "import, in the versions that are here."
                ) from error
        elif slot.job is not None and not slot.has_begun:
            self._unplaced.insert(0, slot.job)
        elif slot.job is not None:
            yield _crash(slot.job, f"The trial's {self._what_happened(slot, error)} ({cause}).")

    def _what_happened(self, slot: _Slot, error: Exception) -> str:
        if slot.node not in {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}:
            return "node was lost"
        if isinstance(error, self._ray.exceptions.ActorUnavailableError):
            return "node cannot be reached"  # Ray declares it dead only later, if it is
        return "Ray worker died"

    def _remove(self, slot: _Slot) -> None:
        self._slots.remove(slot)
        with contextlib.suppress(Exception):
            self._ray.kill(slot.actor)


def room(nodes: Sequence[Mapping[str, float]], needs: Mapping[str, float]) -> int:
    """How many trials fit onto nodes that are otherwise idle.

    A fraction of a GPU lies on one GPU; the same holds for no other resource.

    >>> room([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 2.0}], {"CPU": 1, "GPU": 0.4})
    4
    """

    def on(node: Mapping[str, float]) -> int:
        counts = [int(node.get("CPU", 0) / needs["CPU"] + 1e-9)]
        if needs["GPU"]:
            have, need = int(node.get("GPU", 0)), needs["GPU"]
            counts.append(have * int(1 / need + 1e-9) if need < 1 else int(have / need))
        return min(counts)

    return sum(map(on, nodes))


def _crash(job: Job, reason: str) -> Outcome:
    return Outcome(job.number, reason=reason, is_crash=True)


def _pickled(work: Work) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(work))
    except Exception as error:  # whatever the user's objects raise
        raise ExperimentError(
            f"The evaluator or the model cannot be sent to Ray ({type(error).__name__}: {error}); open such things as "
            "files, locks and connections inside the evaluation."
        ) from error


def _no_report(number: int, step: int, metrics: Mapping[str, float]) -> bool:
    raise AssertionError("no trial runs yet")


@contextlib.contextmanager
def _token(directory: Path) -> Iterator[Driver]:
    """Marks the folder as worked on by this driver, within the block."""
    path = directory / _TOKEN
    secret = uuid.uuid4().hex
    path.write_text(secret)
    try:
        yield Driver(path, secret, os.getcwd(), tuple(sys.path), preloaded())
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[tuple[Any, bool]]:
    """The module `ray`, connected within the block, and whether its nodes are all there will be."""
    before = _environment()
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Else a Ray that we start has `init` wait for workers that no trial needs, and for ever if one of them dies or
        # takes more than a minute (https://github.com/ray-project/ray/issues/40131).
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
        import ray

        if ray.is_initialized():
            yield ray, False
            return
        address = address or os.environ.get("RAY_ADDRESS") or None
        _check_reachable(address)
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None or "://" not in address:
            quiet["include_dashboard"] = False
        with _same_sigterm():
            try:
                ray.init(address=address, **quiet)
            except Exception as error:
                what = f"Ray at {address}" if address else "Ray"
                cause = (str(error).strip().splitlines() or [""])[0]
                hint = (
                    ""
                    if os.environ.get("RAY_AUTH_MODE")
                    else "; if it asks for a token, set RAY_AUTH_MODE=token"
                )
                raise ExperimentError(
                    f"{what} cannot be used ({type(error).__name__}: {cause}){hint}."
                ) from error
        try:
            yield ray, address is None
        finally:
            ray.shutdown()
    finally:
        for name in _environment().keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _environment() -> dict[str, str]:
    """What Ray sets for itself when it is imported and started."""
    names = [name for name in os.environ if name.startswith("RAY_") or name == "PYTHONBREAKPOINT"]
    return {name: os.environ[name] for name in names}


def _check_reachable(address: str | None) -> None:
    """Raises ExperimentError if nothing answers at `address`: Ray itself would try for minutes."""
    if address is None or not re.fullmatch(_ADDRESS, address):
        return
    host, port = address.removeprefix("ray://").rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), _REACH_S).close()
    except (OSError, OverflowError) as error:
        raise ExperimentError(
            f"There is no Ray at {address} ({error}); give the address of one that runs, or runner='ray' to "
            "start one here."
        ) from None


@contextlib.contextmanager
def _same_sigterm() -> Iterator[None]:
    """Puts the handler of SIGTERM back, which Ray replaces by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)
