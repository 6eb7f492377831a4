"""DARTS, first and second order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lightning_nas.oneshot.callback import OneShot
from lightning_nas.oneshot.step import Step, alpha_gradients, frozen
from lightning_nas.oneshot.unrolled import unrolled_gradients


class Darts(OneShot):
    """Differentiable architecture search: a softmax over the candidates, trained on its own half of the data.

        trainer = Trainer(max_epochs=50, callbacks=[darts := Darts()])
        trainer.fit(lit_module, datamodule)
        darts.sample()

    Args:
        order: 1 takes the gradient of the search loss at the present weights, 2 at the weights one step
            ahead, by finite differences.
        epsilon: the length of the difference of order 2; 0.01 in the paper.
        options: as in `OneShot`.

    Raises:
        ValueError: if `order` is neither 1 nor 2, or another option is out of its range.

    Source: Liu, Simonyan and Yang, "DARTS: Differentiable Architecture Search", ICLR 2019
    (arXiv:1806.09055), equations 2 to 8; settings as in its published code. With order 2 the step ahead is
    the weights' own SGD step, momentum and weight decay included; for other optimizers equation 6.
    """

    def __init__(self, order: int = 1, epsilon: float = 0.01, **options: Any) -> None:
        super().__init__(**options)
        if order not in (1, 2):
            raise ValueError(f"`order` must be 1 or 2, but got {order!r}.")
        if not epsilon > 0:
            raise ValueError(f"`epsilon > 0` must hold, but got {epsilon=}.")
        self.order = order
        self.epsilon = epsilon

    def search_gradients(
        self, loss_of: Callable[[Any], Tensor], search_batch: Any, step: Step
    ) -> list[Tensor]:
        def loss(batch: Any) -> Tensor:
            self._supernet().receive(self.activate())
            return loss_of(batch)

        if self.order == 2:
            return unrolled_gradients(loss, self.alphas, search_batch, step, self.epsilon)
        with frozen(step.module.parameters()):
            return alpha_gradients(loss(search_batch), self.alphas)
