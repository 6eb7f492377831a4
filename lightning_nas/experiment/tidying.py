"""Keeps a disk from filling up with the weights of trials that nobody will ask for."""

from __future__ import annotations

import bisect
import contextlib
import os
from dataclasses import replace
from pathlib import Path

from lightning_nas.experiment.folder import trial_folder
from lightning_nas.experiment.store import Store
from lightning_nas.trial import Status, Trial

DELETED = "deleted"
"""Among a trial's artifacts: the names of its files that were deleted."""

_HEAVY = ("weights", "checkpoint")


class Tidying:
    """Deletes weights and checkpoints (`*.ckpt`) of trials that are over and not among the best.

    A trial that runs or is paused keeps all it has.

    Args:
        directory: the experiment's folder.
        store: is told before anything is deleted, so that it never names a file that is gone.
        trials: all of the experiment; those whose files go are replaced in this list.
        keep: how many of the best completed trials keep theirs.
    """

    def __init__(self, directory: Path, store: Store, trials: list[Trial], keep: int) -> None:
        self._directory = directory
        self._store = store
        self._trials = trials
        self._keep = keep
        self._leaders: list[tuple[float, int]] = []  # minus the score, and the number; best first
        for trial in trials:
            self.ended(trial)  # what a former driver did not come to

    def ended(self, trial: Trial) -> None:
        """Tidies up after a trial if it has ended, and after the one that it drives from among the best."""
        if not trial.status.is_final:
            return
        if trial.status is not Status.COMPLETED or trial.score is None:
            self._tidy(trial.number)
            return
        bisect.insort(self._leaders, (-trial.score, trial.number))
        if len(self._leaders) > self._keep:
            self._tidy(self._leaders.pop()[1])

    def _tidy(self, number: int) -> None:
        trial = self._trials[number]
        place = self._directory / trial_folder(number)
        paths = {self._directory / trial.artifacts[name] for name in _HEAVY if name in trial.artifacts}
        for parent, _, names in os.walk(place):
            checkpoints = (Path(parent, name) for name in names if name.endswith(".ckpt"))
            paths |= {path for path in checkpoints if not path.is_symlink()}
        if not paths:
            return
        artifacts = {name: path for name, path in trial.artifacts.items() if name not in _HEAVY}
        artifacts[DELETED] = ", ".join(sorted(path.relative_to(place).as_posix() for path in paths))
        self._trials[number] = replace(trial, artifacts=artifacts)
        self._store.write_artifacts(number, artifacts)
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink()
