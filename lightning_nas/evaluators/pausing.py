"""The Lightning callback that lets a trial go on later: after a pause, and after a crash."""

from __future__ import annotations

import functools
import importlib
import math
import os
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning_nas.evaluators.random_states import gathered, random_states, set_random_states

CHECKPOINT = "checkpoint"
"""The file's name in a trial's folder."""

_SHARE = 0.05  # of the time of a training may go into checkpoints


def trial_checkpoint(lightning: ModuleType, path: Path, may_pause: bool) -> Any:
    """A callback that writes a checkpoint between epochs, and goes on from one exactly.

    It holds the random states too, so that a training that goes on from the end of an epoch equals one
    that was never stopped; from within an epoch Lightning takes as many batches as were left, but not the
    same ones. The file is whole or not there. It is written after the first epoch and then so often that
    it takes at most a twentieth of the time; and, if the trial may be paused, where it is told to stop. A
    training that comes to its end removes it.

    Args:
        lightning: the root of the Trainer; only its own checkpoint callbacks come after all others.
        path: the file.
        may_pause: whether a training that is told to stop is to go on later.
    """
    return _callback_class(lightning)(path, may_pause)


@functools.cache
def _callback_class(lightning: ModuleType) -> type:
    bases = (_TrialCheckpoint, lightning.callbacks.Checkpoint)
    return type("TrialCheckpoint", bases, {"root": lightning.__name__})


def _unpickled(root: str, path: Path, may_pause: bool) -> Any:
    return trial_checkpoint(importlib.import_module(root), path, may_pause)


class _TrialCheckpoint:
    state_key = "lightning_nas.TrialCheckpoint"
    root: str  # the Lightning it belongs to

    def __init__(self, path: Path, may_pause: bool) -> None:
        self._path = path
        self._may_pause = may_pause
        self._due = -math.inf  # monotonic
        self._is_between_epochs = False
        self._goes_on = False  # from a checkpoint, in its first epoch
        self._loaded: list[Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:  # `ddp_spawn` sends callbacks to its ranks
        return _unpickled, (self.root, self._path, self._may_pause)

    # Not at the end of an epoch: plateau schedulers take their step after that hook.
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        # Where it goes on, this state has a checkpoint; another would be wrong, since Lightning has by now
        # begun to read the data, which draws a number, and will do so once more.
        if self._goes_on or trainer.current_epoch == 0:
            return
        if trainer.strategy.broadcast(time.monotonic() >= self._due):
            self._is_between_epochs = True
            try:
                self._write(trainer)
            finally:
                self._is_between_epochs = False

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._goes_on = False

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self._may_pause and trainer.should_stop:
            self._write(trainer)
        elif trainer.is_global_zero:
            self._path.unlink(missing_ok=True)  # it is over

    def _write(self, trainer: Any) -> None:
        started = time.monotonic()
        draft = self._path.with_name(f".{self._path.name}.new")
        trainer.save_checkpoint(draft)
        if trainer.is_global_zero:
            os.replace(draft, self._path)
        now = time.monotonic()
        self._due = now + (now - started) / _SHARE

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._is_between_epochs:  # Lightning has counted the new epoch, but is to begin it again
            for progress in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
                progress["ready"] -= 1

    def state_dict(self) -> dict[str, Any]:
        return {"random": gathered(random_states())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._goes_on = True
        self._loaded = state_dict["random"]
        self._restore(0)  # in case that `configure_optimizers` makes the loader, to count batches

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.train_dataloader is None or trainer.world_size > 1:
            self._restore(trainer.global_rank)  # every later hook is too late
        self._loaded = None

    def _restore(self, rank: int) -> None:
        if self._loaded is not None:
            set_random_states(self._loaded[min(rank, len(self._loaded) - 1)])
