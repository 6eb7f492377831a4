"""How much of the machine processes use, as `ps` and `nvidia-smi` tell; nothing where these are not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """What a process and all it has started use; None where it is not known.

    Args:
        cpu_percent: of one core, over the lives of the processes.
        memory_mib: resident memory; pages that processes share count in each.
        gpu_mib: memory on GPUs.
    """

    cpu_percent: float | None = None
    memory_mib: float | None = None
    gpu_mib: float | None = None

    def texts(self) -> tuple[str, str, str]:
        """The three for people, empty where unknown."""
        cpu = "" if self.cpu_percent is None else f"{self.cpu_percent:.0f} %"
        return cpu, _memory(self.memory_mib), _memory(self.gpu_mib)


def usage(pids: Sequence[int]) -> dict[int, Usage]:
    """What each of some processes uses; those that have ended are left out."""
    table = {}
    for line in _output("ps", "-axo", "pid=,ppid=,pcpu=,rss="):
        pid, parent, cpu, rss = line.split()
        table[int(pid)] = int(parent), float(cpu), float(rss) / 1024
    gpus: dict[int, float] = {}
    if table and pids:
        for line in _output(
            "nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"
        ):
            pid, _, mib = line.partition(",")
            if mib.strip().isdecimal():
                gpus[int(pid)] = gpus.get(int(pid), 0.0) + float(mib)
    children: dict[int, list[int]] = {}
    for number, (parent_number, _, _) in table.items():
        children.setdefault(parent_number, []).append(number)
    result = {}
    for root in pids:
        if root in table:
            tree = list(_tree(root, children))
            on_gpu = [gpus[number] for number in tree if number in gpus]
            result[root] = Usage(
                sum(table[number][1] for number in tree),
                sum(table[number][2] for number in tree),
                sum(on_gpu) if on_gpu else None,
            )
    return result


def _tree(root: int, children: dict[int, list[int]]) -> Iterator[int]:
    yield root
    for child in children.get(root, ()):
        yield from _tree(child, children)


def _memory(mib: float | None) -> str:
    if mib is None:
        return ""
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def _output(*command: str) -> list[str]:
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return run.stdout.splitlines()
