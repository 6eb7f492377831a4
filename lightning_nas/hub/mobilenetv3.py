"""The MobileNetV3 space of Once-for-all: kernel and expansion per block, depth per stage.

Sources: Howard et al., "Searching for MobileNetV3", ICCV 2019 (arXiv:1905.02244), table 1, for the
network; Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR
2020 (arXiv:1908.09791), section 3.2, for the choices. Published size: five stages of 2 to 4 blocks with
9 choices each, (9^2 + 9^3 + 9^4)^5, "roughly 2 x 10^19".
"""

from __future__ import annotations

import torch

import lightning_nas.nn as nn
from lightning_nas.mutables import model_wrapper


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `channels`, but at least 90 % of it."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from the means of all."""

    def __init__(self, c: int) -> None:
        super().__init__()
        hidden = make_divisible(c / 4)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(c, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, c, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class InvertedResidual(nn.Module):
    """Pointwise expansion, depthwise convolution, gate, pointwise projection; a sum where shapes allow.

    Args:
        c_in, c_out: channels outside.
        hidden: channels inside.
        kernel: odd size of the depthwise kernel.
        stride: of the depthwise convolution.
        has_gate: whether there is squeeze-and-excitation.
        activation: class of the activation.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        hidden: int,
        kernel: int,
        stride: int,
        has_gate: bool,
        activation: type[nn.Module],
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if hidden != c_in:
            layers += [nn.Conv2d(c_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden), activation()]
        layers += [
            nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            activation(),
        ]
        if has_gate:
            layers.append(SqueezeExcite(hidden))
        layers += [nn.Conv2d(hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out)]
        self.layers = nn.Sequential(*layers)
        self.has_sum = stride == 1 and c_in == c_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.has_sum else self.layers(x)


@model_wrapper
class MobileNetV3Space(nn.Module):
    """MobileNetV3-Large with searched kernels, expansions and depths.

    Labels, for stage s of 5 and block i: `stage{s}/depth`, `stage{s}/block{i}/kernel`,
    `stage{s}/block{i}/expansion`; those of a block are active if the stage is deep enough.

    Args:
        num_classes: of the output.
        width_multiplier: of all channels, which stay multiples of 8.
        kernels, expansions, depths: the candidates.

    Shape: (b, 3, h, w) -> (b, num_classes); h and w are halved five times.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width_multiplier: float = 1.0,
        kernels: tuple[int, ...] = (3, 5, 7),
        expansions: tuple[int, ...] = (3, 4, 6),
        depths: tuple[int, ...] = (2, 3, 4),
    ) -> None:
        super().__init__()
        # Channels, stride, gate and activation of each searched stage.
        stages = [
            (24, 2, False, nn.ReLU),
            (40, 2, True, nn.ReLU),
            (80, 2, False, nn.Hardswish),
            (112, 1, True, nn.Hardswish),
            (160, 2, True, nn.Hardswish),
        ]
        c = make_divisible(16 * width_multiplier)
        self.stem = nn.Sequential(
            nn.Conv2d(3, c, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(c), nn.Hardswish()
        )
        blocks: list[nn.Module] = [InvertedResidual(c, c, c, 3, 1, has_gate=False, activation=nn.ReLU)]
        for s, (channels, stride, has_gate, activation) in enumerate(stages):
            c_out = make_divisible(channels * width_multiplier)
            depth = nn.ValueChoice(depths, label=f"stage{s}/depth")
            for i in range(depth):
                kernel = nn.ValueChoice(kernels, label=f"stage{s}/block{i}/kernel")
                expansion = nn.ValueChoice(expansions, label=f"stage{s}/block{i}/expansion")
                hidden = make_divisible(c * expansion)
                first = i == 0
                blocks.append(
                    InvertedResidual(c, c_out, hidden, kernel, stride if first else 1, has_gate, activation)
                )
                c = c_out
        self.blocks = nn.Sequential(*blocks)
        last, features = make_divisible(960 * width_multiplier), make_divisible(1280 * width_multiplier)
        self.head = nn.Sequential(
            nn.Conv2d(c, last, 1, bias=False),
            nn.BatchNorm2d(last),
            nn.Hardswish(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(last, features, bias=False),
            nn.Hardswish(),
            nn.Dropout(0.1),
            nn.Linear(features, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)))
