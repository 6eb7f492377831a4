"""What a network costs to run."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


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
    twin = copy.deepcopy(model).eval()
    with contextlib.suppress(NotImplementedError, RuntimeError):
        on_meta = [x.to("meta") if isinstance(x, torch.Tensor) else x for x in inputs]
        return _count(copy.deepcopy(twin).to("meta"), on_meta)
    return _count(twin, inputs)


def _count(model: nn.Module, inputs: Any) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), _attention_in_parts():
        model(*inputs)
    return int(counter.get_total_flops()) // 2  # a multiply-accumulate is counted as two operations


@contextlib.contextmanager
def _attention_in_parts() -> Iterator[None]:
    """Keeps torch from running attention in one fused operation, which is not counted."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)
