"""The Lightning callback that lets a trial be stopped now and go on later."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning_nas.evaluators.random_states import gathered, random_states, set_random_states

CHECKPOINT = "checkpoint"
"""The file's name in a trial's folder."""


def pause_checkpoint(lightning: ModuleType, path: Path) -> Any:
    """A callback that writes a checkpoint where the training is told to stop, and goes on from one exactly.

    It holds the random states too, so that a training that goes on from the end of an epoch equals one
    that was never stopped; from within an epoch Lightning takes as many batches as were left, but not the
    same ones. The file is whole or not there.

    Args:
        lightning: the root of the Trainer; only its own checkpoint callbacks come after all others.
        path: the file.
    """
    return _callback_class(lightning)(path)


@functools.cache
def _callback_class(lightning: ModuleType) -> type:
    return type("PauseCheckpoint", (_PauseCheckpoint, lightning.callbacks.Checkpoint), {})


class _PauseCheckpoint:
    state_key = "lightning_nas.PauseCheckpoint"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loaded: list[Any] | None = None

    # Not at the end of the epoch: plateau schedulers take their step after that hook.
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.should_stop:
            draft = self._path.with_name(f".{self._path.name}.new")
            trainer.save_checkpoint(draft)
            if trainer.is_global_zero:
                os.replace(draft, self._path)

    def state_dict(self) -> dict[str, Any]:
        return {"random": gathered(random_states())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict["random"]
        self._restore(0)  # in case that `configure_optimizers` makes the loader, to count batches

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.train_dataloader is None or trainer.world_size > 1:
            self._restore(trainer.global_rank)  # every later hook is too late
        self._loaded = None

    def _restore(self, rank: int) -> None:
        if self._loaded is not None:
            set_random_states(self._loaded[min(rank, len(self._loaded) - 1)])
