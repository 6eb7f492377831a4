"""GDAS: differentiable search that computes one sampled operation per edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_nas.errors import SearchError
from lightning_nas.oneshot.callback import OneShot
from lightning_nas.oneshot.mixed import Mixed, MixedInputs
from lightning_nas.oneshot.paths import check_parameters_may_rest, draws
from lightning_nas.oneshot.step import Step, frozen

_SEARCH, _TRAIN = 0, 1


class GDAS(OneShot):
    """Samples one candidate for each row of alphas at every step, and computes that one alone.

    The search step and the weight step draw anew, the same on every rank. Validation uses the strongest
    candidate of each row. Among many candidates a step takes a fraction of what it takes with `Darts`; the
    host waits for the alphas twice a step, to know which operations to launch.

    Args:
        temperature: of the Gumbel softmax in the first and in the last epoch, linear in between.
        options: as in `OneShot`.

    Raises:
        ValueError: if a temperature is not positive, or another option is out of its range.

    In `fit`, SearchError is raised if an `InputChoice` chooses several inputs, the Trainer has no
    `max_epochs`, or DDP does not look for unused parameters.

    Source: Dong and Yang, "Searching for a Robust Neural Architecture in Four GPU Hours", CVPR 2019
    (arXiv:1910.04465), equations 3 to 7; the temperature falls from 10 to 0.1 as in section 4.1. Alphas get a
    gradient through the sampled candidate alone, as the paper has it; its published code also adds the
    others' weights, zeros in value, to the output. Cells are derived by the paper's rule, which is DARTS'.
    """

    def __init__(self, temperature: tuple[float, float] = (10.0, 0.1), **options: Any) -> None:
        super().__init__(**options)
        if len(temperature) != 2 or not min(temperature) > 0:
            raise ValueError(f"`temperature` must be two positive numbers, but got {temperature!r}.")
        self.temperature = temperature
        self._now = (0, temperature[0])

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        for mixed in self.supernet.relaxed if self.supernet is not None else ():
            if isinstance(mixed, MixedInputs) and mixed.n_chosen != 1:
                raise SearchError(
                    f"GDAS samples one candidate of each choice, but the InputChoice {mixed.label!r} chooses "
                    f"{'any number of' if mixed.n_chosen is None else mixed.n_chosen} inputs; Darts can search it."
                )

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        check_parameters_may_rest("GDAS", trainer)
        if trainer.max_epochs is None or trainer.max_epochs < 1:
            raise SearchError(
                "GDAS lowers its temperature up to the last epoch; give the Trainer max_epochs=."
            )
        super().on_fit_start(trainer, pl_module)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        first, last = self.temperature
        share = min(trainer.current_epoch / max(trainer.max_epochs - 1, 1), 1)
        self._now = trainer.global_step, first + (last - first) * share
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def search_gradients(
        self, loss_of: Callable[[Any], Tensor], search_batch: Any, step: Step
    ) -> list[Tensor]:
        alphas = list(self.alphas.values())
        with frozen(step.module.parameters()):
            self._take(self._noise(_SEARCH))
            loss = loss_of(search_batch)
            # What was not sampled has no gradient; the loss has none at all if each sampled path is `none`.
            found = torch.autograd.grad(loss, alphas, allow_unused=True) if loss.requires_grad else alphas
        return [
            torch.zeros_like(alpha) if gradient is None or gradient is alpha else gradient
            for gradient, alpha in zip(found, alphas)
        ]

    def set_weights_for_training(self) -> None:
        with torch.no_grad():
            self._take(self._noise(_TRAIN))

    def set_weights_for_validation(self) -> None:
        with torch.no_grad():
            self._take({label: np.zeros(shape) for label, shape in self._supernet().shapes.items()})

    def _noise(self, purpose: int) -> dict[str, np.ndarray]:
        rng = draws(self.seed, self._now[0], purpose)
        return {label: rng.gumbel(size=shape) for label, shape in sorted(self._supernet().shapes.items())}

    def _take(self, noise: Mapping[str, np.ndarray]) -> None:
        """Has the supernet compute the candidates that are strongest under `noise`."""
        supernet = self._supernet()
        weights, chosen = {}, {}
        for label, alpha in self.alphas.items():
            weights[label] = straight_through(alpha, torch.from_numpy(noise[label]), self._now[1])
            chosen[label] = tuple(weights[label].detach().reshape(-1, alpha.shape[-1]).argmax(1).tolist())
        supernet.receive(weights)
        for mixed in supernet.relaxed:
            if isinstance(mixed, Mixed):
                mixed.hard = chosen[mixed.label]


def straight_through(alpha: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """One-hot rows of the strongest candidates, with the gradient of their softmax.

    Args:
        alpha: shape (..., k).
        noise: of the same shape; Gumbel noise draws a candidate with its softmax probability.
        temperature: of the softmax that gives the gradient, positive.

    Source: Dong and Yang, CVPR 2019 (arXiv:1910.04465), equations 4 to 6.
    """
    logits = alpha.log_softmax(-1) + noise.to(alpha)
    soft = (logits / temperature).softmax(-1)
    hard = F.one_hot(logits.detach().argmax(-1), alpha.shape[-1]).to(soft)
    return hard + (soft - soft.detach())
