"""GPUs for script trials: how many each gets, and which.

`experiment.runners.gpus` deals GPUs out once for a whole search. NNI's files may ask for more than that: a trial waits
while others compute on a GPU (`useActiveGpu: false`), and several share one without a limit on memory
(`maxTrialNumPerGpu`), also where a trial takes more than one. So here each trial takes its own when it starts.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_POLL_S = 0.2
_BUSY_POLL_S = 1.0  # each look at what runs on the GPUs starts a process


@dataclass(frozen=True)
class GPUs:
    """Deals GPUs out to trials of one experiment.

    A trial holds a GPU by a lock on a file in the experiment's folder, which the system lifts when the
    trial's process ends, however it ends.

    Args:
        per_trial: how many each trial gets; 0 hides all of them.
        indices: values of CUDA_VISIBLE_DEVICES, those that may be used.
        trials_per_gpu: how many trials may use one at the same time.
        use_active: whether they may use one on which a process of somebody else's computes; if not, a trial waits.

    Raises:
        ValueError: unless `0 <= per_trial <= len(indices)` and `trials_per_gpu >= 1`.
    """

    per_trial: int
    indices: tuple[str, ...] = ()
    trials_per_gpu: int = 1
    use_active: bool = True

    def __post_init__(self) -> None:
        if not (0 <= self.per_trial <= len(self.indices) and self.trials_per_gpu >= 1):
            raise ValueError(
                "`0 <= per_trial <= len(indices)` and `trials_per_gpu >= 1` must hold, but got "
                f"(per_trial={self.per_trial}, indices={self.indices}, trials_per_gpu={self.trials_per_gpu})."
            )

    @contextlib.contextmanager
    def taken(self, directory: Path) -> Iterator[str]:
        """The GPUs of one trial, as a value of CUDA_VISIBLE_DEVICES; waits until there are enough.

        Args:
            directory: for the lock files, the same for all trials.
        """
        with contextlib.ExitStack() as stack:
            is_first = True
            while True:
                found = self._try(directory) if self.per_trial else []
                if len(found) == self.per_trial:
                    break
                for _, file in found:  # all or none, so that no two trials wait for each other
                    file.close()
                if is_first:
                    print(
                        f"Waiting for {self.per_trial} free GPUs among {', '.join(self.indices)}.", flush=True
                    )
                is_first = False
                time.sleep(_POLL_S if self.use_active else _BUSY_POLL_S)
            for _, file in found:
                stack.callback(file.close)
            yield ",".join(index for index, _ in found)

    def _try(self, directory: Path) -> list[tuple[str, IO[bytes]]]:
        """Locks up to `per_trial` GPUs, first those that no other trial uses."""
        found: dict[str, IO[bytes]] = {}
        busy: set[str] | None = None
        for place in range(self.trials_per_gpu):
            for index in self.indices:
                if index in found or len(found) == self.per_trial:
                    continue
                file = _locked(_lock(directory, index, place))
                if file is not None and not self.use_active and not self._is_ours(directory, index, place):
                    busy = busy_gpus() if busy is None else busy
                    if index in busy:
                        file.close()
                        continue
                if file is not None:
                    found[index] = file
        return list(found.items())

    def _is_ours(self, directory: Path, index: str, place: int) -> bool:
        """Whether a trial of this experiment holds another place on a GPU, so that what runs there is its own."""
        for other in range(self.trials_per_gpu):
            if other != place:
                file = _locked(_lock(directory, index, other))
                if file is None:
                    return True
                file.close()
        return False


def busy_gpus() -> set[str]:
    """The GPUs on which another process than this one and its parent computes, by index and by UUID.

    Empty where nvidia-smi cannot be asked.
    """
    try:
        gpus, processes = _queried("gpu", "index,uuid"), _queried("compute-apps", "gpu_uuid,pid")
    except (OSError, subprocess.SubprocessError):
        return set()
    own = (str(os.getpid()), str(os.getppid()))
    used = {uuid for uuid, pid in processes if pid not in own}
    return {name for index, uuid in gpus if uuid in used for name in (index, uuid)}


def _queried(what: str, fields: str) -> list[tuple[str, str]]:
    command = ["nvidia-smi", f"--query-{what}={fields}", "--format=csv,noheader"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    rows = [line.split(", ") for line in run.stdout.splitlines()]
    return [(row[0], row[1].strip()) for row in rows if len(row) == 2]


def _lock(directory: Path, index: str, place: int) -> Path:
    return directory / f".gpu-{index.replace('/', '_')}-{place}.lock"


def _locked(path: Path) -> IO[bytes] | None:
    """The file, locked; None if another process has locked it."""
    file = path.open("ab")
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
