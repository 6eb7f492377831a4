"""The operations of the cell spaces, plain torch: they are written into exported files as they stand.

Sources: Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019 (arXiv:1806.09055), section
3.1; Dong and Yang, "NAS-Bench-201", ICLR 2020 (arXiv:2001.00326), section 2.1.

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
