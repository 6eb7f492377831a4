"""The second-order gradient of DARTS: the search loss one weight step ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.errors import SearchError
from lightning_nas.oneshot.step import Step, reached


def unrolled_gradients(
    loss: Callable[[Any], Tensor], alphas: Mapping[str, Tensor], search_batch: Any, step: Step, epsilon: float
) -> list[Tensor]:
    """The gradient of `L_search(w - lr * step(w, alpha), alpha)` by alpha.

    The weights and buffers are as before afterwards.

    Args:
        loss: of a batch, with gradients for alphas and weights.
        alphas: what to differentiate by, by label.
        search_batch: for the outer loss; the inner one uses `step.train_batch`.
        step: holds the module, its optimizers and the mean over ranks.
        epsilon: the finite difference is `epsilon / norm` long, with the norm of the outer gradient.

    Raises:
        SearchError: if there is more than one optimizer of the weights, or the loss does not depend on a label.

    Source: Liu et al., "DARTS", ICLR 2019, equations 6 to 8.
    """
    if len(step.optimizers) != 1:
        raise SearchError(
            f"order=2 needs one optimizer of the weights, but there are {len(step.optimizers)}."
        )
    module = step.module
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
    before = [weight.detach().clone() for weight in weights]
    buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    try:
        inner = step.reduce(_gradients(loss(step.train_batch), weights))
        rates = _advance(weights, inner, step.optimizers[0])
        outer = torch.autograd.grad(loss(search_batch), [*alphas.values(), *weights], allow_unused=True)
        direct = reached(alphas, outer[: len(alphas)])
        ahead = step.reduce([_or_zeros(g, weight) for g, weight in zip(outer[len(alphas) :], weights)])
        norm = torch.stack([gradient.norm() for gradient in ahead]).norm()
        length = epsilon / norm
        # The rate of each weight's group belongs inside the product of the Hessian with the direction.
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                for weight, old, gradient, rate in zip(weights, before, ahead, rates):
                    weight.copy_(old + sign * length * rate * gradient)
            sides.append(_gradients(loss(step.train_batch), list(alphas.values())))
        return [d - (plus - minus) / (2 * length) for d, plus, minus in zip(direct, *sides)]
    finally:
        with torch.no_grad():
            for weight, old in zip(weights, before):
                weight.copy_(old)
            for name, buffer in module.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


def _gradients(loss: Tensor, by: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(by), allow_unused=True)
    return [_or_zeros(gradient, tensor) for gradient, tensor in zip(found, by)]


def _advance(weights: Sequence[nn.Parameter], gradients: Sequence[Tensor], optimizer: Any) -> list[float]:
    """Moves the weights one step ahead, in place; returns the learning rate of each."""
    settings = {id(weight): group for group in optimizer.param_groups for weight in group["params"]}
    rates = []
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients):
            group = settings.get(id(weight))
            rate = 0.0 if group is None else float(group["lr"])
            rates.append(rate)
            if group is None:
                continue
            move = gradient
            if isinstance(optimizer, torch.optim.SGD):
                move = move + group["weight_decay"] * weight
                velocity = optimizer.state.get(weight, {}).get("momentum_buffer")
                if velocity is not None:
                    move = move + group["momentum"] * velocity
            weight.sub_(rate * move)
    return rates
