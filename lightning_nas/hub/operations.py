"""The operations of the cell spaces, plain torch: they are written into exported files as they stand.

Sources: Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019 (arXiv:1806.09055), section
3.1; Dong and Yang, "NAS-Bench-201", ICLR 2020 (arXiv:2001.00326), section 2.1; Zela et al. and Xu et al.,
ICLR 2020, as said below.

All take and give (b, c, h, w); stride 2 halves h and w, rounding up. No convolution has a bias.
"""

from __future__ import annotations

import torch
from torch import nn


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution, batch-norm.

    Args:
        c_in, c_out: channels.
        kernel: size of the square kernel, odd; padded so that stride 1 keeps h and w.
        stride: of the convolution.
        affine: whether the batch-norm has weights.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(c_out, affine=affine),
        )


class DilConv(nn.Sequential):
    """ReLU, depthwise convolution of dilation 2, pointwise convolution, batch-norm."""

    def __init__(self, c: int, kernel: int, stride: int = 1, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(c, c, kernel, stride, padding=kernel - 1, dilation=2, groups=c, bias=False),
            nn.Conv2d(c, c, 1, bias=False),
            nn.BatchNorm2d(c, affine=affine),
        )


class SepConv(nn.Sequential):
    """Twice: ReLU, depthwise convolution, pointwise convolution, batch-norm; the first with the stride."""

    def __init__(self, c: int, kernel: int, stride: int = 1, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(c, c, kernel, stride, padding=kernel // 2, groups=c, bias=False),
            nn.Conv2d(c, c, 1, bias=False),
            nn.BatchNorm2d(c, affine=affine),
            nn.ReLU(),
            nn.Conv2d(c, c, kernel, padding=kernel // 2, groups=c, bias=False),
            nn.Conv2d(c, c, 1, bias=False),
            nn.BatchNorm2d(c, affine=affine),
        )


class Conv7x1(nn.Sequential):
    """ReLU, 1x7 and 7x1 convolution, each striding along its own axis, batch-norm (AmoebaNet's)."""

    def __init__(self, c: int, stride: int = 1, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(c, c, (1, 7), stride=(1, stride), padding=(0, 3), bias=False),
            nn.Conv2d(c, c, (7, 1), stride=(stride, 1), padding=(3, 0), bias=False),
            nn.BatchNorm2d(c, affine=affine),
        )


class FactorizedReduce(nn.Module):
    """Halves h and w: two pointwise convolutions of stride 2, one of them shifted by a pixel, side by side.

    Args:
        c_in, c_out: channels; `c_out` is even. h and w of the input are even.
        affine: whether the batch-norm has weights.
    """

    def __init__(self, c_in: int, c_out: int, affine: bool = True) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(c_out, affine=affine)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


class DropPath(nn.Module):
    """While training, zeroes a sample of the batch with a probability, and scales up those it keeps.

    Args:
        probability: of dropping, in [0, 1).

    Source: Larsson et al., "FractalNet", ICLR 2017 (arXiv:1605.07648); as the DARTS code has it.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def extra_repr(self) -> str:
        return f"probability={self.probability}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        mask = torch.empty(x.shape[0], 1, 1, 1, device=x.device, dtype=x.dtype).bernoulli_(keep)
        return x / keep * mask


class Noise(nn.Module):
    """Standard normal noise of its input's shape, whatever the input, sub-sampled by `stride`; also in `eval`.

    The operation that no good cell has: it tells collapsed searches apart.

    Source: Zela et al., "Understanding and Robustifying Differentiable Architecture Search", ICLR 2020
    (arXiv:1909.09656), section 3, space S4.
    """

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def extra_repr(self) -> str:
        return f"stride={self.stride}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.randn_like(x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride])


class PartialChannels(nn.Module):
    """An operation on the first 1/k of the channels; the others pass by, and then all are shuffled.

    Args:
        operation: on c/k channels, as an operation of its own.
        k: how many parts the channels are cut in; it divides c.
        stride: of the operation; at 2, what passes by is max-pooled 2x2.

    Source: Xu et al., "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search",
    ICLR 2020 (arXiv:1907.05737), equation 2; pooling and shuffle as in its published code.
    """

    def __init__(self, operation: nn.Module, k: int, stride: int = 1) -> None:
        super().__init__()
        self.operation = operation
        self.k = k
        self.stride = stride

    def extra_repr(self) -> str:
        return f"k={self.k}, stride={self.stride}"

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the operation takes, and what passes by, already at the size of the output."""
        c = x.shape[1] // self.k
        rest = x[:, c:]
        return x[:, :c], rest if self.stride == 1 else torch.max_pool2d(rest, 2)

    def join(self, worked: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        """Both parts, shuffled: channel i of each k-th of the channels comes before any channel i + 1."""
        x = torch.cat([worked, rest], dim=1)
        b, c, h, w = x.shape
        return x.view(b, self.k, c // self.k, h, w).transpose(1, 2).reshape(b, c, h, w)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, rest = self.split(x)
        return self.join(self.operation(first), rest)


class PoolBN(nn.Sequential):
    """A 3x3 pool followed by batch-norm without weights, as the DARTS search has it."""

    def __init__(self, pool: nn.Module, c: int) -> None:
        super().__init__(pool, nn.BatchNorm2d(c, affine=False))


def max_pool_3x3(stride: int = 1) -> nn.MaxPool2d:
    """A 3x3 maximum with padding 1."""
    return nn.MaxPool2d(3, stride=stride, padding=1)


def avg_pool_3x3(stride: int = 1) -> nn.AvgPool2d:
    """A 3x3 mean with padding 1 that does not count."""
    return nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)
