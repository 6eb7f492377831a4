"""An evaluator that scores candidates with the weights of a trained supernet."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from lightning_nas.errors import MetricError, SearchError
from lightning_nas.evaluators.roots import is_a
from lightning_nas.oneshot.mixed import Mixed, Relaxed
from lightning_nas.oneshot.scoring import Runs, first_batches, recalibrate
from lightning_nas.oneshot.supernet import Supernet, relax
from lightning_nas.trial import Candidate, Metrics, Report


class SharedWeights:
    """Scores a sample with the shared weights of a supernet, by the user's own validation, without training.

        trainer.fit(lit_module, loader)                      # with callbacks=[SPOS()]
        scores = SharedWeights(lit_module, val_loader, train_dataloaders=loader, accelerator="cpu")
        Experiment(net, scores, RegularizedEvolution(), max_trials=1000, objective="val_acc").run()

    The labels of the experiment's model are those of the supernet if both come from one class. Labels that the
    supernet does not know are passed over; of a value that only makes layers narrower, a slice is used.

    Args:
        module: a LightningModule, trained under `SPOS` or any other one-shot method; or not trained yet,
            with its choices, if a checkpoint is given. It is copied.
        val_dataloaders: the validation data, or a function without arguments that makes the loader.
        checkpoint: a checkpoint of Lightning's, written while the supernet was trained.
        train_dataloaders: likewise, for the statistics of batch-norms, which are estimated anew for each
            sample; None keeps those that the supernet gathered on all its paths.
        recalibration_batches: how many of them.
        trainer_kwargs: arguments of the Trainer, such as the accelerator.

    Raises:
        TypeError: if `module` is no LightningModule.
        SearchError: if it has no shared weights: it was not trained, and there is no checkpoint.
        ValueError: if `recalibration_batches` is below 1.

    Source: Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV 2020
    (arXiv:1904.00420), sections 3.3 and 3.4.
    """

    def __init__(
        self,
        module: Any,
        val_dataloaders: Any,
        *,
        checkpoint: str | Path | None = None,
        train_dataloaders: Any = None,
        recalibration_batches: int = 20,
        **trainer_kwargs: Any,
    ) -> None:
        if not is_a(module, "LightningModule"):
            raise TypeError(f"`module` must be a LightningModule, but got a {type(module).__name__}.")
        if recalibration_batches < 1:
            raise ValueError(f"`recalibration_batches` must be at least 1, but got {recalibration_batches}.")
        is_relaxed = any(isinstance(part, Relaxed) for part in module.modules())
        if checkpoint is None and not is_relaxed:
            raise SearchError(
                f"{type(module).__name__} has no shared weights: fit it with Trainer(callbacks=[SPOS()]) first, or "
                "give checkpoint=."
            )
        self._module = copy.deepcopy(module)
        if not is_relaxed:
            relax(self._module)
        if checkpoint is not None:
            saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
            self._module.load_state_dict(saved["state_dict"])
        self._module.cpu()
        for part in self._module.modules():
            if isinstance(part, Mixed):
                part.weights = part.hard = None  # a sample that lacks a label then fails instead of mixing
        self._val = val_dataloaders
        self._train = train_dataloaders
        self._recalibration_batches = recalibration_batches
        self._runs = Runs(trainer_kwargs)

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """What the module's validation logs when the supernet computes the candidate's sample.

        Raises:
            MetricError: if the module logs nothing.
            RuntimeError: if the sample lacks the label of a choice; the message names it.
        """
        supernet = Supernet(self._module)

        def prepare(trainer: Any) -> None:
            supernet.follow(candidate.sample)
            if self._train is not None:
                loader = _made(self._train)
                with trainer.precision_plugin.val_step_context():
                    recalibrate(
                        trainer.lightning_module, first_batches(trainer, loader, self._recalibration_batches)
                    )

        try:
            metrics = self._runs.validate(self._module, _made(self._val), prepare)
        finally:
            supernet.follow(None)
        if not metrics:
            raise MetricError(f"{type(self._module).__name__} logged no metric in validation.")
        return metrics


def _made(data: Any) -> Any:
    """Data as given, or as the given function makes it."""
    return data() if callable(data) else data
