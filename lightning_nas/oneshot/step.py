"""One step on the alphas, between the callback and Lightning: the loss and its scale, what is frozen or shared."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.errors import SearchError

Reduce = Callable[[Sequence[Tensor]], list[Tensor]]
"""Means of tensors over all ranks."""


class Step:
    """What a method may ask of the training step that its search step precedes.

    Attributes:
        train_batch: the batch of the weight step that follows.
        module: the LightningModule.
        optimizers: those of the weights.
        reduce: means of tensors over all ranks.
    """

    def __init__(self, train_batch: Any, trainer: Any, module: Any, reduce: Reduce) -> None:
        self.train_batch = train_batch
        self.module = module
        self.optimizers = trainer.optimizers
        self.reduce = reduce


class TrainingLoss:
    """The module's training loss on a batch, as Lightning would compute it, scaled for half precision."""

    def __init__(self, trainer: Any, module: Any, batch_idx: int, scale: float) -> None:
        self._trainer = trainer
        self._step: Callable[..., Any] = getattr(module, "search_step", module.training_step)
        self._arguments = (batch_idx,) if len(inspect.signature(self._step).parameters) > 1 else ()
        self._scale = scale
        self.last: Tensor = torch.zeros(())

    def __call__(self, batch: Any) -> Tensor:
        with self._trainer.precision_plugin.train_step_context():
            output = self._step(batch, *self._arguments)
        loss = output.get("loss") if isinstance(output, Mapping) else output
        if not isinstance(loss, Tensor):
            raise SearchError(
                f"{getattr(self._step, '__name__', 'training_step')} must return a loss, or a dict with one, for the "
                f"search; it returned {type(output).__name__}."
            )
        self.last = loss
        return loss * self._scale if self._scale != 1 else loss


def alpha_gradients(loss: Tensor, alphas: Mapping[str, Tensor]) -> list[Tensor]:
    """The gradient of a loss by each label's alphas, in their order.

    Raises:
        SearchError: if the loss does not depend on one of them; the message names it.
    """
    if not loss.requires_grad:
        return reached(alphas, [None] * len(alphas))
    return reached(alphas, torch.autograd.grad(loss, list(alphas.values()), allow_unused=True))


def reached(alphas: Mapping[str, Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor]:
    """The gradients, of which none is None.

    Raises:
        SearchError: if one is: no loss depends on these alphas; the message names their label.
    """
    found = []
    for label, gradient in zip(alphas, gradients):
        if gradient is None:
            raise SearchError(
                f"The loss does not depend on the choice {label!r}: the forward pass never reaches it. Use it, or take "
                "it out of the model."
            )
        found.append(gradient)
    return found


@contextlib.contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Inside, no gradient is kept for these parameters: the backward pass then leaves out what only they need."""
    changed = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in changed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def without_logs(module: Any) -> Iterator[None]:
    """Inside, the module logs nothing: its metrics are those of the weight step."""
    names = ("log", "log_dict")
    for name in names:
        vars(module)[name] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        for name in names:
            vars(module).pop(name, None)


def loss_scale(trainer: Any) -> float:
    """What half precision multiplies losses by; 1 elsewhere."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())


def reducer(trainer: Any) -> Reduce:
    """Means over all ranks, in one call for all tensors."""
    if trainer.world_size == 1:
        return list

    def reduce(tensors: Sequence[Tensor]) -> list[Tensor]:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        flat = trainer.strategy.reduce(flat, reduce_op="mean")
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors)]

    return reduce
