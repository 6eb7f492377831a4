"""What the methods share that compute one sampled operation at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_nas.errors import SearchError


def draws(seed: int, step: int, purpose: int = 0) -> np.random.Generator:
    """The random numbers of one step: the same on every rank, and again after resuming.

    Args:
        seed: of the search.
        step: the weight steps taken so far (`trainer.global_step`).
        purpose: tells several draws of one step apart.
    """
    return np.random.default_rng([seed, step, purpose])


def check_parameters_may_rest(method: str, trainer: Any) -> None:
    """Raises SearchError where DDP would wait for the gradients of operations that were not sampled."""
    settings = getattr(trainer.strategy, "_ddp_kwargs", None)
    if settings is not None and trainer.world_size > 1 and not settings.get("find_unused_parameters", False):
        raise SearchError(
            f"{method} trains a part of the weights at each step, which DDP must be told: use "
            'Trainer(strategy="ddp_find_unused_parameters_true").'
        )
