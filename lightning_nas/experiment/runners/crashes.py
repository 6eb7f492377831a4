"""Why a trial failed: whether memory ran out, and whether the machine was to blame."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_KILL = int(getattr(signal, "SIGKILL", 9))


def explained(error: BaseException) -> str:
    """One line on what was raised, with "Out of memory" or "The GPU failed" before it where that is so."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    message = str(error).lower()
    is_torchs = type(error).__name__ == "OutOfMemoryError" or isinstance(error, RuntimeError)
    if isinstance(error, MemoryError) or (
        is_torchs and ("out of memory" in message or "can't allocate memory" in message)
    ):
        return f"Out of memory: {text}"
    if isinstance(error, RuntimeError) and "cuda error" in message:
        return f"The GPU failed: {text}"
    return text


@dataclass(frozen=True)
class Kills:
    """How many processes the system has killed for want of memory so far.

    Args:
        number: the count; None if the system does not tell.
        is_ours: whether it counts the processes of this container or session alone, not the machine's.
    """

    number: int | None = None
    is_ours: bool = False

    @classmethod
    def now(cls) -> Kills:
        """The count of the control group, version 2 or 1, or else the machine's; Linux only."""
        for path in _cgroup_files():
            number = _count(path)
            if number is not None:
                return cls(number, is_ours=True)
        return cls(_count(_PROC / "vmstat"))


@dataclass(frozen=True)
class Crash:
    """Why a process ended before its trial did.

    Args:
        reason: one line.
        may_pass: whether the same trial, run again, may well not crash: not so when its memory ran out.
    """

    reason: str
    may_pass: bool = True


def crash(code: int, before: Kills) -> Crash:
    """What a process died of.

    Args:
        code: its exit code; minus the signal's number if a signal ended it.
        before: the count when its trial began.
    """
    if code == -_KILL:
        now = Kills.now()
        if now.number is None or before.number is None or now.is_ours != before.is_ours:
            return Crash(
                "The trial's process was killed (SIGKILL), as the system does when memory runs out; it does "
                "not tell whether it did."
            )
        if now.number > before.number:
            surely = "" if now.is_ours else "Probably o"
            return Crash(
                f"{surely or 'O'}ut of memory: the system killed the trial's process (SIGKILL).",
                may_pass=False,
            )
        return Crash("The trial's process was killed (SIGKILL), not by the system for want of memory.")
    if code < 0:
        names = {int(number): number.name for number in signal.Signals}
        return Crash(f"The trial's process crashed with {names.get(-code, f'signal {-code}')}.")
    return Crash(f"The trial's process ended with exit code {code} before it had a result.")


def _cgroup_files() -> list[Path]:
    """Where this process's control group may count its kills; in a container it is the root of what is seen."""
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    files = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        inner = path.lstrip("/")
        if number == "0":
            files += [_CGROUPS / inner / "memory.events", _CGROUPS / "memory.events"]
        elif "memory" in controllers.split(","):
            files += [
                _CGROUPS / "memory" / inner / "memory.oom_control",
                _CGROUPS / "memory/memory.oom_control",
            ]
    return files


def _count(path: Path) -> int | None:
    """The number behind `oom_kill` in a file of names and numbers; None if it is not there."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return None
