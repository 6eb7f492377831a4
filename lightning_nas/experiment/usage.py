"""What a trial took of the machine: `usage.json` in its folder."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "usage.json"

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"  # proc(5): what VmHWM counts from


@dataclass(frozen=True)
class Usage:
    """What the last attempt of a trial took.

    Args:
        cpu_s: seconds of processor time of its process and of the processes this has waited for, all cores together.
        memory_mb: the most main memory that one of them held at a time, in 10^6 bytes; None if the system does not
            tell. In a reused process (`reuse=True`) those that earlier trials started count too.
        gpu_memory_mb: the most that torch had allocated on the first visible GPU, in 10^6 bytes; None without one.
    """

    cpu_s: float
    memory_mb: float | None = None
    gpu_memory_mb: float | None = None


@contextlib.contextmanager
def metered(directory: Path) -> Iterator[None]:
    """Writes what the block takes into `directory`, whatever it raises. For a process that runs one trial at a time.

    Where it cannot write, as on a full disk, it does not: nobody's trial fails for that.
    """
    with contextlib.suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    pid, before = os.getpid(), _cpu_s()
    try:
        yield
    finally:
        if os.getpid() == pid:  # else it was forked within the block, and does not speak for it
            _write(directory, before)


def _write(directory: Path, before: float) -> None:
    usage = Usage(round(_cpu_s() - before, 3), _memory_mb(), _gpu_memory_mb())
    with contextlib.suppress(OSError):
        (directory / FILE).write_text(json.dumps(asdict(usage)))


def read_usage(directory: Path) -> Usage | None:
    """What the trial of a folder took; None if nothing, or nothing sensible, is known."""
    try:
        usage = Usage(**json.loads((directory / FILE).read_text()))
        known = [value for value in asdict(usage).values() if value is not None]
        return usage if usage.cpu_s is not None and all(map(math.isfinite, known)) else None
    except (OSError, ValueError, TypeError):
        return None


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _memory_mb() -> float | None:
    peaks = []
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                peaks.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(ImportError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peaks.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)
        if sys.platform == "darwin":
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return round(max(peaks) / 1e6, 1) if peaks else None


def _gpu_memory_mb() -> float | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return round(float(torch.cuda.max_memory_allocated()) / 1e6, 1)
