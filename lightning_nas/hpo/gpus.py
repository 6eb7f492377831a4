"""GPUs for script trials: how many each gets, and which."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_POLL_S = 0.2


@dataclass(frozen=True)
class GPUs:
    """Deals GPUs out to trials of one experiment.

    A trial holds a GPU by a lock on a file in the experiment's folder, which the system lifts when the
    trial's process ends, however it ends.

    Args:
        per_trial: how many each trial gets; 0 hides all of them.
        indices: values of CUDA_VISIBLE_DEVICES, those that may be used.
        trials_per_gpu: how many trials may use one at the same time.

    Raises:
        ValueError: unless `0 <= per_trial <= len(indices)` and `trials_per_gpu >= 1`.
    """

    per_trial: int
    indices: tuple[str, ...] = ()
    trials_per_gpu: int = 1

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
            while True:
                found = self._try(directory) if self.per_trial else []
                if len(found) == self.per_trial:
                    break
                for _, file in found:  # all or none, so that no two trials wait for each other
                    file.close()
                time.sleep(_POLL_S)
            for _, file in found:
                stack.callback(file.close)
            yield ",".join(index for index, _ in found)

    def _try(self, directory: Path) -> list[tuple[str, IO[bytes]]]:
        """Locks up to `per_trial` GPUs, first those that no other trial uses."""
        found: dict[str, IO[bytes]] = {}
        for place in range(self.trials_per_gpu):
            for index in self.indices:
                if index not in found and len(found) < self.per_trial:
                    file = _locked(directory / f".gpu-{index.replace('/', '_')}-{place}.lock")
                    if file is not None:
                        found[index] = file
        return list(found.items())


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
