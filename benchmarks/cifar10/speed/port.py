"""A plain PyTorch port of the paper's first-order search, to measure against.

Written anew from Liu, Simonyan and Yang, "DARTS: Differentiable Architecture Search", ICLR 2019
(arXiv:1806.09055), sections 2 and 3.1 and algorithm 1, and from the behaviour of its published code: every
edge applies all eight operations and sums them, weighted; a step on the alphas takes the gradient of
everything and moves the alphas alone; a step on the weights likewise. Nothing here uses the library.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


class NoConnection(nn.Module):
    """No connection: the input times nought."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0) if self.stride == 1 else x[:, :, :: self.stride, :: self.stride].mul(0.0)


class Reduce(nn.Module):
    """Two pointwise convolutions of stride 2, one of them shifted by a pixel, side by side."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.second = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(c_out, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.norm(torch.cat([self.first(x), self.second(x[:, :, 1:, 1:])], 1))


def relu_conv_norm(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out, affine=False)
    )


def half_separable(c: int, kernel: int, stride: int, dilation: int) -> list[nn.Module]:
    """ReLU, depthwise convolution, pointwise convolution, batch-norm."""
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False),
        nn.Conv2d(c, c, 1, bias=False),
        nn.BatchNorm2d(c, affine=False),
    ]


def operation(name: str, c: int, stride: int) -> nn.Module:
    if name == "none":
        return NoConnection(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else Reduce(c, c)
    norm = nn.BatchNorm2d(c, affine=False)
    if name == "max_pool_3x3":
        return nn.Sequential(nn.MaxPool2d(3, stride, 1), norm)
    if name == "avg_pool_3x3":
        return nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm)
    kernel = int(name[-1])
    if name.startswith("dil"):
        return nn.Sequential(*half_separable(c, kernel, stride, 2))
    return nn.Sequential(*half_separable(c, kernel, stride, 1), *half_separable(c, kernel, 1, 1))


class MixedOperation(nn.Module):
    def __init__(self, c: int, stride: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operation(name, c, stride) for name in OPERATIONS)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(weight * each(x) for weight, each in zip(weights, self.operations))


class Cell(nn.Module):
    def __init__(self, c_before: int, c_last: int, c: int, reduces: bool, came_after_reduction: bool) -> None:
        super().__init__()
        self.reduces = reduces
        self.before = Reduce(c_before, c) if came_after_reduction else relu_conv_norm(c_before, c)
        self.last = relu_conv_norm(c_last, c)
        self.edges = nn.ModuleList(
            MixedOperation(c, 2 if reduces and state < 2 else 1)
            for node in range(2, 6)
            for state in range(node)
        )

    def forward(self, before: Tensor, last: Tensor, weights: Tensor) -> Tensor:
        states = [self.before(before), self.last(last)]
        edge = 0
        for _ in range(4):
            states.append(sum(self.edges[edge + i](x, weights[edge + i]) for i, x in enumerate(states)))
            edge += len(states) - 1
        return torch.cat(states[2:], 1)


class Network(nn.Module):
    """The supernet of the paper: `layers` cells of four nodes, those at a third and two thirds reductions."""

    def __init__(self, channels: int, layers: int, classes: int = 10) -> None:
        super().__init__()
        c, c_before, c_last = channels, 3 * channels, 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, c_last, 3, padding=1, bias=False), nn.BatchNorm2d(c_last))
        self.cells = nn.ModuleList()
        reduced = False
        for i in range(layers):
            reduces = i in (layers // 3, 2 * layers // 3)
            c = 2 * c if reduces else c
            self.cells.append(Cell(c_before, c_last, c, reduces, reduced))
            c_before, c_last, reduced = c_last, 4 * c, reduces
        self.classifier = nn.Linear(c_last, classes)
        self.alphas = [(1e-3 * torch.randn(14, len(OPERATIONS))).requires_grad_() for _ in range(2)]

    def forward(self, x: Tensor) -> Tensor:
        before = last = self.stem(x)
        for cell in self.cells:
            weights = F.softmax(self.alphas[cell.reduces], dim=-1)
            before, last = last, cell(before, last, weights)
        return self.classifier(F.adaptive_avg_pool2d(last, 1).flatten(1))


class Search:
    """Steps of the search: one on the alphas, one on the weights."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.arch_optimizer = torch.optim.Adam(
            net.alphas, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3, foreach=True
        )
        self.optimizer = torch.optim.SGD(
            net.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4, foreach=True
        )

    def step(self, train: Sequence[Tensor], search: Sequence[Tensor]) -> Tensor:
        """Takes batches `(images, labels)` of both halves; the training loss."""
        self.arch_optimizer.zero_grad()
        F.cross_entropy(self.net(search[0]), search[1]).backward()
        self.arch_optimizer.step()

        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.net(train[0]), train[1])
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0, foreach=True)
        self.optimizer.step()
        return loss.detach()
