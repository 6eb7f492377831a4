"""The network of NAS-Bench-201: 15,625 cells, trained and tabulated.

Source: Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search",
ICLR 2020 (arXiv:2001.00326). Published sizes (16 channels, 5 cells per stage, 10 classes): all 3x3
convolutions 1,531,546 weights, all 1x1 241,306, all skip 73,306.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

import lightning_nas.nn as nn
from lightning_nas.errors import SampleError
from lightning_nas.hub.operations import ReLUConvBN, avg_pool_3x3
from lightning_nas.mutables import model_wrapper
from lightning_nas.trial import Sample

NASBENCH201_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""In the order of the benchmark's own indices."""

_EDGES = [(source, node) for node in (1, 2, 3) for source in range(node)]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a pooled shortcut; halves h and w."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv_a = ReLUConvBN(c_in, c_out, kernel=3, stride=2)
        self.conv_b = ReLUConvBN(c_out, c_out, kernel=3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.conv_b(self.conv_a(x))


class Cell(nn.Module):
    """Four states; each of the last three sums one operation on each earlier state; the last is the output."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        for source, node in [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]:
            self.edges[f"{source}_{node}"] = nn.LayerChoice(
                {
                    "none": lambda: nn.Zero(),
                    "skip_connect": lambda: nn.Identity(),
                    "nor_conv_1x1": lambda: ReLUConvBN(c, c, kernel=1),
                    "nor_conv_3x3": lambda: ReLUConvBN(c, c, kernel=3),
                    "avg_pool_3x3": lambda: avg_pool_3x3(),
                },
                label=f"edge_{source}_{node}",
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        edges = self.edges
        node_1 = edges["0_1"](x)
        node_2 = edges["0_2"](x) + edges["1_2"](node_1)
        return edges["0_3"](x) + edges["1_3"](node_1) + edges["2_3"](node_2)


@model_wrapper
class NasBench201Space(nn.Module):
    """Three stages of cells with residual reductions between; six labels `edge_0_1` to `edge_2_3`.

    Args:
        channels: of the first stage; doubled at each of the other two.
        cells_per_stage: N in the paper.
        num_classes: of the output.

    Shape: (b, 3, h, w) -> (b, num_classes), h and w divisible by 4.
    """

    def __init__(self, channels: int = 16, cells_per_stage: int = 5, num_classes: int = 10) -> None:
        super().__init__()
        c = channels
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
        cells: list[nn.Module] = []
        for stage in range(3):
            if stage > 0:
                cells.append(ResidualBlock(c, 2 * c))
                c = 2 * c
            cells += [Cell(c) for _ in range(cells_per_stage)]
        self.cells = nn.Sequential(*cells)
        self.last = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(c, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.last(self.cells(self.stem(x))))


def to_arch_string(sample: Mapping[str, str]) -> str:
    """The benchmark's name of a sample: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`."""
    nodes = ("".join(f"|{sample[f'edge_{j}_{i}']}~{j}" for j in range(i)) + "|" for i in (1, 2, 3))
    return "+".join(nodes)


def from_arch_string(arch: str) -> Sample:
    """The sample that the benchmark calls `arch`.

    Raises:
        SampleError: if it is not of the form `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`, or an operation is
            none of the five.
    """
    found = [
        (int(j), i, op)
        for i, node in enumerate(arch.split("+"), 1)
        for op, j in re.findall(r"\|(\w+)~(\d)", node)
    ]
    sample = {f"edge_{j}_{i}": op for j, i, op in found}
    if [(j, i) for j, i, _ in found] != _EDGES or to_arch_string(sample) != arch:
        raise SampleError(
            f"An architecture of NAS-Bench-201 is written |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, but got {arch!r}."
        )
    unknown = set(sample.values()) - set(NASBENCH201_OPERATIONS)
    if unknown:
        raise SampleError(
            f"{arch!r} has unknown operations {sorted(unknown)}; there are {NASBENCH201_OPERATIONS}."
        )
    return sample
