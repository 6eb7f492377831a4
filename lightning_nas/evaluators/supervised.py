"""Evaluators for the two commonest tasks: a candidate is trained without a LightningModule of one's own."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from lightning_nas.evaluators.lightning import LightningEvaluator
from lightning_nas.evaluators.roots import root_of
from lightning_nas.trial import Candidate, Metrics, Report


class Classification:
    """Trains a candidate to tell classes apart, with Lightning.

    Batches are pairs of inputs and targets. Logged, and so returned, are `train_loss`, `train_acc`,
    `val_loss` and `val_acc`: means over the examples of an epoch, accuracies in [0, 1].

    A model puts out one logit per class, shape (b, k, ...), for targets (b, ...) of integers or (b, k) of
    probabilities; or a single logit for two classes, shape (b,) or (b, 1), for targets (b,) of 0 and 1.

    Args:
        criterion: makes the loss, called as `criterion()(outputs, targets)`: a class, or for example
            `functools.partial(nn.CrossEntropyLoss, label_smoothing=0.1)`.
        learning_rate, weight_decay: given to the optimizer.
        optimizer: makes it: `optimizer(parameters, lr=..., weight_decay=...)`.
        train_dataloaders, val_dataloaders, datamodule: the data, as in `LightningEvaluator`.
        num_classes: if given, a model that puts out another number of classes fails at its first batch.
        seed: as in `LightningEvaluator`.
        trainer_kwargs: arguments of the Trainer, such as `max_epochs`.

    Raises:
        TypeError: if the Trainer has no such argument, or `criterion` does not make a loss.
        ValueError: if there are no training data, or loaders as well as a data module, or if
            `learning_rate` or `weight_decay` is negative.

    Source: `Classification` of NNI (Retiarii).
    """

    def __init__(
        self,
        criterion: Callable[[], nn.Module] = nn.CrossEntropyLoss,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        optimizer: Callable[..., Optimizer] = Adam,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: Any = None,
        num_classes: int | None = None,
        seed: int | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        measure = functools.partial(_measure_classes, num_classes=num_classes)
        self._evaluator = _supervised(
            _Supervision(criterion, measure, optimizer, learning_rate, weight_decay),
            (train_dataloaders, val_dataloaders, datamodule),
            seed,
            trainer_kwargs,
        )

    @property
    def max_steps(self) -> int | None:
        """See `LightningEvaluator.max_steps`."""
        return self._evaluator.max_steps

    @property
    def ranks(self) -> int:
        """See `LightningEvaluator.ranks`."""
        return self._evaluator.ranks

    @property
    def runs_on_cpu(self) -> bool:
        """See `LightningEvaluator.runs_on_cpu`."""
        return self._evaluator.runs_on_cpu

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """See `LightningEvaluator.evaluate`."""
        return self._evaluator.evaluate(candidate, report)

    def fit(self, model: nn.Module, report: Report, callbacks: Sequence[Any] = ()) -> Metrics:
        """See `LightningEvaluator.fit`. Changes `model`."""
        return self._evaluator.fit(model, report, callbacks)


class Regression:
    """Trains a candidate to predict numbers, with Lightning.

    Batches are pairs of inputs and targets; outputs have the shape of the targets. Logged, and so
    returned, are `train_loss`, `train_mse`, `train_mae`, `val_loss`, `val_mse` and `val_mae`: means over
    the examples of an epoch, in the targets' unit, squared for `mse`.

    Args:
        criterion: makes the loss, called as `criterion()(outputs, targets)`.
        learning_rate, weight_decay, optimizer: as in `Classification`.
        train_dataloaders, val_dataloaders, datamodule: the data, as in `LightningEvaluator`.
        seed: as in `LightningEvaluator`.
        trainer_kwargs: arguments of the Trainer, such as `max_epochs`.

    Raises:
        TypeError: if the Trainer has no such argument, or `criterion` does not make a loss.
        ValueError: if there are no training data, or loaders as well as a data module, or if
            `learning_rate` or `weight_decay` is negative.

    Source: `Regression` of NNI (Retiarii).
    """

    def __init__(
        self,
        criterion: Callable[[], nn.Module] = nn.MSELoss,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        optimizer: Callable[..., Optimizer] = Adam,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: Any = None,
        seed: int | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        self._evaluator = _supervised(
            _Supervision(criterion, _measure_numbers, optimizer, learning_rate, weight_decay),
            (train_dataloaders, val_dataloaders, datamodule),
            seed,
            trainer_kwargs,
        )

    @property
    def max_steps(self) -> int | None:
        """See `LightningEvaluator.max_steps`."""
        return self._evaluator.max_steps

    @property
    def ranks(self) -> int:
        """See `LightningEvaluator.ranks`."""
        return self._evaluator.ranks

    @property
    def runs_on_cpu(self) -> bool:
        """See `LightningEvaluator.runs_on_cpu`."""
        return self._evaluator.runs_on_cpu

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """See `LightningEvaluator.evaluate`."""
        return self._evaluator.evaluate(candidate, report)

    def fit(self, model: nn.Module, report: Report, callbacks: Sequence[Any] = ()) -> Metrics:
        """See `LightningEvaluator.fit`. Changes `model`."""
        return self._evaluator.fit(model, report, callbacks)


def _supervised(
    supervision: _Supervision, data: tuple[Any, Any, Any], seed: int | None, trainer: Mapping[str, Any]
) -> LightningEvaluator:
    train, val, datamodule = data
    if train is None and datamodule is None:
        raise ValueError("There are no training data; give `train_dataloaders` or `datamodule`.")
    return LightningEvaluator(
        supervision, trainer, train_dataloaders=train, val_dataloaders=val, datamodule=datamodule, seed=seed
    )


@dataclass(frozen=True)
class _Supervision:
    """Puts a LightningModule around a model: a loss, an optimizer, and what is measured beside the loss."""

    criterion: Callable[[], nn.Module]
    measure: Callable[[Tensor, Tensor], dict[str, Tensor]]
    optimizer: Callable[..., Optimizer]
    learning_rate: float
    weight_decay: float

    def __post_init__(self) -> None:
        if isinstance(self.criterion, nn.Module) or not callable(self.criterion):
            raise TypeError(
                "`criterion` must make the loss, e.g. nn.CrossEntropyLoss, or functools.partial(nn.CrossEntropyLoss, "
                f"label_smoothing=0.1), but got {self.criterion!r}."
            )
        for name in ("learning_rate", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` must be at least 0, but got {getattr(self, name)!r}.")

    def __call__(self, model: nn.Module, lightning: ModuleType) -> Any:
        return _module_class(lightning)(model, self)


@functools.cache
def _module_class(lightning: ModuleType) -> type:
    """The LightningModule class, with the base class of `lightning`, one of the two roots."""
    return type("SupervisedModule", (_Steps, lightning.LightningModule), {"__doc__": _Steps.__doc__})


def _empty_module(lightning: str) -> Any:
    """A module still without its state, for `pickle`, which does not find classes made on the way."""
    cls: Any = _module_class(importlib.import_module(lightning))
    return cls.__new__(cls)


class _Steps(nn.Module):
    """Trains and validates a model on batches (inputs, targets)."""

    if TYPE_CHECKING:
        log_dict: Callable[..., None]

    def __init__(self, model: nn.Module, supervision: _Supervision) -> None:
        super().__init__()
        self.model = model
        self.criterion = supervision.criterion()
        self.supervision = supervision

    def __reduce__(self) -> tuple[Any, ...]:
        return _empty_module, (root_of(self),), vars(self)

    def forward(self, inputs: Any) -> Any:
        return self.model(inputs)

    def training_step(self, batch: Any) -> Tensor:
        return self._step("train", batch)

    def validation_step(self, batch: Any) -> None:
        self._step("val", batch)

    def configure_optimizers(self) -> Optimizer:
        settings = self.supervision
        return settings.optimizer(
            self.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def _step(self, stage: str, batch: Any) -> Tensor:
        if not isinstance(batch, (list, tuple)) or len(batch) != 2:
            length = f" of {len(batch)}" if isinstance(batch, (list, tuple)) else ""
            raise TypeError(
                f"A batch must be a pair of inputs and targets, but is a {type(batch).__name__}{length}; for other "
                "batches give LightningEvaluator a LightningModule of your own."
            )
        inputs, targets = batch
        outputs = self.model(inputs)
        with torch.no_grad():
            measured = self.supervision.measure(outputs, targets)
        loss: Tensor = self.criterion(outputs, targets)
        values = {f"{stage}_{name}": value for name, value in {"loss": loss, **measured}.items()}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(targets), sync_dist=True)
        return loss


def _measure_classes(outputs: Tensor, targets: Tensor, num_classes: int | None) -> dict[str, Tensor]:
    """`acc`, the share of examples whose most likely class is the target's."""
    is_single = outputs.ndim == 1 or outputs.shape[1] == 1
    k = 2 if is_single else outputs.shape[1]
    if num_classes not in (None, k):
        raise ValueError(f"The model tells {k} classes apart, but {num_classes=} was given.")
    if is_single:
        return {"acc": ((outputs.reshape(targets.shape) > 0) == targets).float().mean()}
    classes = targets.argmax(1) if targets.shape == outputs.shape else targets
    return {"acc": (outputs.argmax(1) == classes).float().mean()}


def _measure_numbers(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """`mse` and `mae`, the means of the squared and of the absolute differences."""
    if outputs.shape != targets.shape:  # torch would broadcast (b, 1) and (b,) to (b, b)
        raise ValueError(
            f"The model's outputs have shape {tuple(outputs.shape)}, the targets {tuple(targets.shape)}; "
            "they must be the same."
        )
    difference = outputs - targets
    return {"mse": difference.square().mean(), "mae": difference.abs().mean()}
