"""The Lightning callback through which a training run reports and is stopped."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_nas.trial import Metrics, Report


class ReportCallback(Callback):
    """Reports each validation run of a `fit`, and ends the training when the answer is False.

    Nothing has to be called after `fit`: the decision is taken on rank 0, sent to all ranks, and carried
    out by Lightning itself through `trainer.should_stop` (which it obeys from `min_epochs` on). Lightning's
    sanity check before the training is not reported. The Trainer may come from `lightning.pytorch` too.

    Args:
        report: is given the step and every metric logged so far. The step counts the validation runs
            from 0, so it is the epoch unless the Trainer validates more or less often; a checkpoint
            carries the count.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._steps = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        step, self._steps = self._steps, self._steps + 1
        goes_on = self._report(step, logged_metrics(trainer)) if trainer.is_global_zero else True
        if not trainer.strategy.broadcast(goes_on):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._steps = state_dict["steps"]


def logged_metrics(trainer: Any) -> Metrics:
    """What the module has logged under `self.log` so far, by name; NaN and infinities included."""
    return {name: float(value) for name, value in trainer.callback_metrics.items()}
