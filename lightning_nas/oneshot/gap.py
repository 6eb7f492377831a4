"""How much the derived network falls behind the mixture it was derived from."""

from __future__ import annotations

import math
from typing import Any

import torch

from lightning_nas.errors import SearchError
from lightning_nas.evaluators.random_states import random_states, set_random_states
from lightning_nas.oneshot.scoring import first_batches, recalibrate, untouched, validation_score
from lightning_nas.oneshot.supernet import Supernet
from lightning_nas.trial import Objective, Sample

RECALIBRATION_BATCHES = 10
"""Of the validation data, for the batch-norms of the derived network."""


class Gap:
    """Scores the derived network with the supernet's weights, after a validation run of the mixture.

    The supernet follows the derived sample, the batch-norms' statistics are estimated anew on the first
    validation batches, and `validation_step` runs once more over all of them, with what it logs kept apart.
    Weights, buffers, metrics and random states are left as they were; what a `validation_step` keeps by
    itself, such as a list of outputs, it keeps twice.

    Args:
        monitor: what `validation_step` logs and is compared; None measures nothing.
        every: epochs from one measurement to the next.

    Attributes:
        derived: the derived network's score at the last validation; NaN if it was not measured.
        gap: by how much that is worse than the mixture's, in the unit of the metric; NaN likewise.
    """

    def __init__(self, monitor: str | None, every: int) -> None:
        self._monitor = monitor
        self._every = every
        self.derived = self.gap = math.nan

    def look(self, supernet: Supernet, sample: Sample, trainer: Any, module: Any) -> None:
        """Measures, where it is time to, at the end of a validation run. The supernet's weights must be set anew.

        Raises:
            SearchError: if there are several validation loaders, or the metric is not logged.
        """
        self.derived = self.gap = math.nan
        if self._monitor is None or trainer.sanity_checking or (trainer.current_epoch + 1) % self._every:
            return
        if self._monitor not in trainer.callback_metrics:
            have = ", ".join(sorted(map(repr, trainer.callback_metrics))) or "nothing"
            raise SearchError(f"gap_monitor={self._monitor!r} is not logged in validation; there is {have}.")
        if isinstance(trainer.val_dataloaders, (list, tuple, dict)) and len(trainer.val_dataloaders) > 1:
            raise SearchError("gap_monitor needs one validation loader, but there are several.")
        mixed = float(trainer.callback_metrics[self._monitor])
        states = random_states()
        supernet.follow(sample)
        try:
            self.derived = self._score(trainer, module, self._monitor)
        finally:
            supernet.follow(None)
            set_random_states(states)
        is_lower_better = Objective(self._monitor).direction(self._monitor) == "min"
        self.gap = (self.derived - mixed) * (1 if is_lower_better else -1)

    def _score(self, trainer: Any, module: Any, monitor: str) -> float:
        loader = trainer.val_dataloaders
        if isinstance(loader, (list, tuple, dict)):
            (loader,) = loader.values() if isinstance(loader, dict) else loader
        n = trainer.num_val_batches[0]
        limit = None if math.isinf(n) else int(n)
        few = RECALIBRATION_BATCHES if limit is None else min(limit, RECALIBRATION_BATCHES)
        with untouched(module), torch.no_grad(), trainer.precision_plugin.val_step_context():
            recalibrate(module, first_batches(trainer, loader, few))
            score = validation_score(module, first_batches(trainer, loader, limit), monitor)
        total, weight = trainer.strategy.reduce(score, reduce_op="sum").tolist()
        return float(total / weight)
