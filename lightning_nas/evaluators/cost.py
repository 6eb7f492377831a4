"""What a network costs to run."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from lightning_nas.mutables import Blueprint

T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """What a network takes.

    Args:
        params_m: parameters, in millions.
        macs_m: multiply-accumulate operations of one forward pass, in millions; what papers on architecture
            search mostly call FLOPs. None if no inputs were given.
        activation_mb: what a forward pass keeps for the backward pass besides parameters and buffers, in
            10^6 bytes. None if no inputs were given.
    """

    params_m: float
    macs_m: float | None = None
    activation_mb: float | None = None


def cost_of(model: nn.Module, *inputs: Any) -> Cost:
    """Parameters, operations and activation memory of a network.

    Args:
        model: left as it is; it may be on the meta device.
        inputs: what `forward` takes, a batch of one for figures per example; without them only the
            parameters are counted.

    >>> cost_of(nn.Sequential(nn.Linear(1000, 100), nn.Sigmoid()), torch.zeros(1, 1000))
    Cost(params_m=0.1001, macs_m=0.1, activation_mb=0.0044)
    """
    params_m = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    if not inputs:
        return Cost(params_m)
    return Cost(params_m, count_macs(model, *inputs) / 1e6, _on_meta(_activation_bytes, model, inputs) / 1e6)


def cost_of_sample(model: Blueprint, sample: Mapping[str, Any], inputs: Sequence[Any] = ()) -> Cost:
    """As `cost_of`, of the network that `model` builds for `sample`; random states stay as they are."""
    with torch.random.fork_rng(devices=[]):
        with contextlib.suppress(NotImplementedError, RuntimeError), torch.device("meta"):
            return cost_of(model.build(sample), *inputs)
        return cost_of(model.build(sample), *inputs)  # its constructor reads numbers


def costs_of_space(
    model: Blueprint, shapes: Sequence[Sequence[int]] = (), most: int = 100, seed: int = 0
) -> Iterator[Cost]:
    """The costs of all networks of a space, or of `most` drawn at random where it has more.

    Args:
        model: the space.
        shapes: of one example, for each tensor that `forward` takes; without them only parameters are counted.
        most: how many networks.
        seed: of the draws.

    Raises:
        Exception: what the networks raise on inputs of these shapes.
    """
    rng = np.random.default_rng(seed)
    space = model.space
    samples = space.enumerate() if space.size <= most else (space.sample(rng) for _ in range(most))
    inputs = [torch.zeros(1, *shape) for shape in shapes]
    for sample in samples:
        yield cost_of_sample(model, sample, inputs)


def count_macs(model: nn.Module, *inputs: Any) -> int:
    """Multiply-accumulate operations of one forward pass in evaluation mode.

    Convolutions and matrix products count, also those in functions and attention; normalisation,
    activations, pooling and additions do not, as is the custom in papers. Nothing is computed: a copy of
    the model runs on the meta device, or, where it reads numbers, on its own.

    Args:
        model: left as it is.
        inputs: what `forward` takes; all samples of a batch count, so give a batch of one.

    >>> count_macs(nn.Conv2d(3, 8, 3, padding=1), torch.zeros(1, 3, 32, 32))  # 8 * 32 * 32 * 3 * 3 * 3
    221184
    """
    return _on_meta(_count, model, inputs)


def _on_meta(measure: Callable[[nn.Module, Any], T], model: nn.Module, inputs: Any) -> T:
    """`measure` of a copy in evaluation mode on the meta device; on its own where it reads numbers."""
    twin = copy.deepcopy(model).eval()
    with contextlib.suppress(NotImplementedError, RuntimeError):
        on_meta = [x.to("meta") if isinstance(x, torch.Tensor) else x for x in inputs]
        return measure(copy.deepcopy(twin).to("meta"), on_meta)
    return measure(twin, inputs)


def _activation_bytes(model: nn.Module, inputs: Any) -> int:
    own = {_memory(tensor) for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # alive, so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if _memory(tensor) not in own:
            kept[_memory(tensor)] = tensor.untyped_storage()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(*inputs)
    size = sum(storage.nbytes() for storage in kept.values())
    del output  # only now: with it goes what it keeps
    return size


def _memory(tensor: torch.Tensor) -> int:
    """What tensors share that share their memory, also on the meta device."""
    return int(tensor.untyped_storage()._cdata)


def _count(model: nn.Module, inputs: Any) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), attention_in_parts():
        model(*inputs)
    return int(counter.get_total_flops()) // 2  # a multiply-accumulate is counted as two operations


@contextlib.contextmanager
def attention_in_parts() -> Iterator[None]:
    """Keeps torch from running attention in one fused operation, which is not counted."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)
