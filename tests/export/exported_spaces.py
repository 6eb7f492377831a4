"""Model spaces in every style of writing that an export has to read."""

from __future__ import annotations

import math
import sys
import types

import torch
import torch.nn.functional as F
from torch import Tensor

import lightning_nas.nn as nn
from lightning_nas import model_wrapper
from lightning_nas.nn import LayerChoice, ValueChoice

X = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SCALE = 2.0
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


def conv(c_in: int, c_out: int, kernel: int) -> nn.Module:
    """A helper of the user's, used by several classes."""
    return nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2)


def choose_conv(c: int, label: str) -> nn.Module:
    return nn.LayerChoice({"3": conv(c, c, 3), "dil": nn.Conv2d(c, c, 3, padding=2, dilation=2)}, label=label)


class Scale(nn.Module):
    def __init__(self, factor: float = SCALE) -> None:
        super().__init__()
        self.factor = factor * math.pi

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@model_wrapper
class Straight(nn.Module):
    """Choices in straight-line code, one of each kind."""

    def __init__(self, width: int = 4, *, act: str = "relu") -> None:
        super().__init__()
        self.stem = conv(3, width, 3)  # a comment that stays
        self.op = LayerChoice([nn.Identity(), Scale(), conv(width, width, 5)])
        self.act = ACTIVATIONS[act]()
        kernel = ValueChoice([3, 5], label="kernel")
        self.tail = nn.Conv2d(width, width, kernel, padding=(kernel - 1) // 2)
        self.drop = nn.Dropout(ValueChoice([0.1, 0.5], label="drop"))
        self.pick = nn.InputChoice(3, 2, label="pick")
        self.body = nn.Repeat(lambda i: conv(width, width, 1), (1, 3), label="depth")
        self.lazy = nn.LayerChoice([lambda: Scale(0.5), nn.Tanh], label="lazy")

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.op(self.stem(x)))
        x = self.pick([x, self.tail(x), -x])
        x = F.dropout(self.lazy(self.body(x)), 0.2, training=self.training)
        return self.drop(x).mean((2, 3))


@model_wrapper
class Loops(nn.Module):
    """Choices that come out differently each time round, and some in helper functions."""

    def __init__(self) -> None:
        super().__init__()
        layers = [conv(3, 4, 1)]
        for i in range(nn.ValueChoice([2, 3], label="depth")):
            layers.append(choose_conv(4, label=f"op{i}"))
            layers.append(nn.LayerChoice([lambda: nn.ReLU(), lambda: nn.Sigmoid()], label=f"act{i}"))
            layers.append(nn.Conv2d(4, 4, nn.ValueChoice([1, 3], label=f"k{i}"), padding="same"))
        self.layers = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layers(x))


@model_wrapper
class Cells(nn.Module):
    """Cells whose loose ends depend on what is chosen, with zeros among the operations."""

    def __init__(self) -> None:
        super().__init__()
        operations = {
            "none": lambda node, edge, state: nn.Zero(),
            "skip": lambda node, edge, state: nn.Identity(),
            "conv": lambda node, edge, state: conv(3, 3, 3),
        }
        self.cells = nn.ModuleList(
            nn.Cell(operations, 3, 2, 1, merge_op="loose_end", label=label) for label in ("a", "b", "a")
        )
        self.halve = nn.ValueChoice.condition(nn.ValueChoice([1, 2], label="halve") > 1, 0.5, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return sum(cell(x).sum(1) for cell in self.cells) * self.halve


def made(source: str, name: str = "Net") -> torch.nn.Module:
    module = types.ModuleType("exported")
    sys.modules["exported"] = module  # data classes look for their module there
    try:
        exec(compile(source, "<exported>", "exec"), vars(module))
        return vars(module)[name]()
    finally:
        del sys.modules["exported"]
