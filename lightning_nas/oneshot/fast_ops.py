"""Operations of many edges at once, for the fast supernet; shapes as everywhere, (b, c, h, w).

Images are in channels_last memory, which CPUs and GPUs like best for depthwise convolutions: on the CPU
the same convolutions take fifty times longer in contiguous memory (oneDNN 3.13).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def spread(x: Tensor, n: int, edges: int) -> Tensor:
    """Each of n states once for each of its edges: (b, n * c, h, w) -> (b, n * edges * c, h, w)."""
    rows = torch.unflatten(x.permute(0, 2, 3, 1), 3, (n, 1, -1))
    return rows.expand(-1, -1, -1, -1, edges, -1).flatten(3).permute(0, 3, 1, 2)


def spread_phases(x: Tensor, n: int, edges: int) -> Tensor:
    """As `spread`, in four sub-images of every second row and column, h and w even.

    Returns:
        Shape (2 * b, 2 * n * edges * c, h / 2, w / 2): rows 0, 2, ... of an image, then its rows 1, 3, ...;
        in each the channels of columns 0, 2, ..., then those of columns 1, 3, ....
    """
    b, _, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(b, h // 2, 2, w // 2, 2, n, 1, -1)
    phases = rows.transpose(1, 2).expand(-1, -1, -1, -1, -1, -1, edges, -1)
    return phases.flatten(4).flatten(0, 1).permute(0, 3, 1, 2)


def join_columns(x: Tensor) -> Tensor:
    """Puts columns back in order: (2 * b, 2 * c, h / 2, w / 2) -> (2 * b, c, h / 2, w). A view."""
    return torch.unflatten(x.permute(0, 2, 3, 1), 3, (2, -1)).flatten(2, 3).permute(0, 3, 1, 2)


def join_rows(x: Tensor) -> Tensor:
    """Puts rows back in order: (2 * b, c, h / 2, w) -> (b, c, h, w)."""
    rows = torch.unflatten(x.permute(0, 2, 3, 1), 0, (-1, 2))
    return rows.transpose(1, 2).flatten(1, 2).permute(0, 3, 1, 2)


def depthwise(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """A convolution of each channel with its own square kernel of odd size, padded to keep h and w at stride 1.

    Args:
        x: shape (b, c, h, w).
        weight: shape (c, 1, k, k).
        stride, dilation: of the convolution.
    """
    kernel = weight.shape[2]
    is_plain = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if is_plain and kernel == 5 and dilation == 1 and weight.requires_grad:
        return _Depthwise5x5.apply(x, weight, stride)  # type: ignore[no-any-return, no-untyped-call]
    padding = dilation * (kernel // 2)
    return F.conv2d(x, weight, None, stride, padding, dilation, weight.shape[0])


class _Depthwise5x5(torch.autograd.Function):
    """A 5x5 depthwise convolution whose weight gradient is taken for three columns of the kernel, then for two.

    oneDNN 3.13 has a fast weight gradient for depthwise kernels of up to three columns; for wider ones
    it computes every channel as a block of sixteen (64 channels, 5x5: 16 ms instead of 2).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, 2, 1, weight.shape[0])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        by_x = by_weight = None
        if ctx.needs_input_grad[0]:
            by_x = _convolution_backward(gradient, x, weight, ctx.stride, (2, 2), "x")
        if ctx.needs_input_grad[1]:
            b, c, h, w = x.shape
            # Two zeros on the left of each row stand on the right of the row before, too: so one tensor,
            # read from two pixels further, is also the image shifted by two columns.
            rows = x.new_empty(b * h + 1, w + 2, c)
            rows[:, :2] = 0
            rows[:-1, 2:] = x.permute(0, 2, 3, 1).flatten(0, 1)
            pixels, size = rows.flatten(0, 1), b * h * (w + 2)
            columns = []
            for first in (0, 2):
                image = pixels[first : first + size].view(b, h, w + 2, c).permute(0, 3, 1, 2)
                columns.append(
                    _convolution_backward(gradient, image, weight[..., :3], ctx.stride, (2, 0), "weight")
                )
            by_weight = torch.cat([columns[0], columns[1][..., 1:]], 3)
        return by_x, by_weight, None


def _convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], by: str
) -> Tensor:
    """One of the gradients of a depthwise convolution."""
    mask = [by == "x", by == "weight", False]
    found = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [stride] * 2, padding, [1, 1], False, [0, 0], weight.shape[0], mask
    )
    result: Tensor = found[0] if by == "x" else found[1]
    return result


class Shared:
    """What the convolutions of a group's edges share; each is computed once, when it is first used.

    Args:
        x: n states side by side, (b, n * c, h, w).
        n, edges: how many states, and edges from each.
        stride: of the edges.
    """

    def __init__(self, x: Tensor, n: int, edges: int, stride: int) -> None:
        self.x = x
        self.n, self.edges, self.stride = n, edges, stride
        # No `cached_property`: its lock, before Python 3.12, would cut a compiled cell in pieces.
        self._relu: Tensor | None = None
        self._spread: Tensor | None = None
        self._part: Tensor | None = None

    @property
    def relu(self) -> Tensor:
        if self._relu is None:
            self._relu = self.x.relu()
        return self._relu

    @property
    def spread(self) -> Tensor:
        if self._spread is None:
            self._spread = spread(self.relu, self.n, self.edges)
        return self._spread

    @property
    def _sampled(self) -> Tensor:
        if self._part is None:
            self._part = spread(self.relu[:, :, ::2, ::2], self.n, self.edges)
        return self._part

    @property
    def _phases(self) -> Tensor:
        if self._part is None:
            self._part = spread_phases(self.relu, self.n, self.edges)
        return self._part

    def dilated(self, weight: Tensor) -> tuple[Tensor, bool]:
        """The depthwise convolutions of dilation 2, and whether `join_rows` must put their rows back in order.

        A dilated convolution reads every second row and column only, so on each of the four sub-images of
        such rows and columns it is an ordinary one; at stride 2 it needs the first of them alone. On the
        CPU oneDNN 3.13 has no fast gradient for dilated ones (64 channels, 5x5: 40 ms instead of 2).

        Args:
            weight: shape (n * edges * c, 1, k, k).
        """
        if self.stride == 2:
            return depthwise(self._sampled, weight), False
        _, _, h, w = self.x.shape
        if self.x.device.type != "cpu" or h % 2 or w % 2:
            return depthwise(self.spread, weight, dilation=2), False
        return join_columns(depthwise(self._phases, weight.repeat(2, 1, 1, 1))), True
