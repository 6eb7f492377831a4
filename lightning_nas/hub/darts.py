"""The cell space of DARTS, which also holds NASNet-A, AmoebaNet-A and PC-DARTS.

Source: Liu, Simonyan and Yang, "DARTS: Differentiable Architecture Search", ICLR 2019 (arXiv:1806.09055),
sections 2.1 and 3.1. Published sizes (36 channels, 20 layers, 10 classes): DARTS_V1 3,169,414 weights,
DARTS_V2 3,349,342, with auxiliary head 3,645,840 and 3,825,768; for ImageNet (48 channels, 14 layers,
1,000 classes) DARTS_V2 4,718,752. Seven operations under NNI's labels make 83,013,134,400 cells;
counted as the paper does (`distinct=True`), 1,037,664,180.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch

import lightning_nas.nn as nn
from lightning_nas.hub.operations import (
    Conv7x1,
    DilConv,
    DropPath,
    FactorizedReduce,
    Noise,
    PartialChannels,
    PoolBN,
    ReLUConvBN,
    SepConv,
    avg_pool_3x3,
    max_pool_3x3,
)
from lightning_nas.mutables import model_wrapper

DARTS_OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The seven operations a derived cell may have; the search adds `none`."""


def make_operation(name: str, c: int, stride: int, search: bool) -> nn.Module:
    """The operation called `name` on `c` channels.

    Args:
        name: one of `DARTS_OPERATIONS`, `none`, `noise`, `sep_conv_7x7` or `conv_7x1_1x7`.
        c: channels in and out.
        stride: 1 or 2.
        search: in the form for the search: pools are followed by batch-norm, no batch-norm has weights.
    """
    affine = not search
    if name == "none":
        return nn.Zero(stride)
    if name == "noise":
        return Noise(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(c, c, affine)
    if name in ("max_pool_3x3", "avg_pool_3x3"):
        pool = max_pool_3x3(stride) if name == "max_pool_3x3" else avg_pool_3x3(stride)
        return PoolBN(pool, c) if search else pool
    if name == "conv_7x1_1x7":
        return Conv7x1(c, stride, affine)
    kernel = int(name[-1])
    if name.startswith("sep_conv_"):
        return SepConv(c, kernel, stride, affine)
    return DilConv(c, kernel, stride, affine)


_KNOWN = {*DARTS_OPERATIONS, "none", "noise", "sep_conv_7x7", "conv_7x1_1x7"}


class EdgeOperation:
    """Makes one operation for an edge; in a reduction, edges from the cell's two inputs have stride 2."""

    def __init__(
        self, name: str, c: int, is_reduction: bool, search: bool, drop_path: float, parts: int = 1
    ) -> None:
        self.make = partial(make_operation, name, c // parts, search=search)
        self.is_reduction = is_reduction
        self.drop_path = drop_path
        self.parts = parts

    def __call__(self, node: int, edge: int, state: int) -> nn.Module:
        stride = 2 if self.is_reduction and state < 2 else 1
        operation = self.make(stride=stride)
        if self.parts > 1:
            return PartialChannels(operation, self.parts, stride)
        if self.drop_path == 0 or isinstance(operation, (nn.Identity, nn.Zero)):
            return operation
        return nn.Sequential(operation, DropPath(self.drop_path))


class CellInputs(nn.Module):
    """Brings the outputs of the two cells before to the channels of this one.

    Args:
        c_before, c_last: channels of the older and of the newer output.
        c: channels of this cell.
        was_reduction: the cell before was a reduction, so that the older output is twice as large.
        affine: whether batch-norms have weights.
    """

    def __init__(self, c_before: int, c_last: int, c: int, was_reduction: bool, affine: bool) -> None:
        super().__init__()
        self.before = (
            FactorizedReduce(c_before, c, affine) if was_reduction else ReLUConvBN(c_before, c, affine=affine)
        )
        self.last = ReLUConvBN(c_last, c, affine=affine)

    def forward(self, states: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self.before(states[0]), self.last(states[1])]


class AuxiliaryHead(nn.Sequential):
    """Classifies the feature maps behind the second reduction, as a second source of gradients.

    Args:
        c: channels of the maps, which are 8x8 (CIFAR) or 7x7 (ImageNet).
        num_classes: of the output.
        is_imagenet: the head for 7x7 maps; the published one lacks the second batch-norm.
    """

    def __init__(self, c: int, num_classes: int, is_imagenet: bool = False) -> None:
        norm = [] if is_imagenet else [nn.BatchNorm2d(768)]
        super().__init__(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=2 if is_imagenet else 3, count_include_pad=False),
            nn.Conv2d(c, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            *norm,
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, num_classes),
        )


def cifar_stem(c: int) -> nn.Sequential:
    """(b, 3, h, w) -> (b, c, h, w)."""
    return nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))


def imagenet_stems(c: int) -> tuple[nn.Sequential, nn.Sequential]:
    """(b, 3, h, w) -> (b, c, h / 4, w / 4), and on to (b, c, h / 8, w / 8): what the first cell takes."""
    first = nn.Sequential(
        nn.Conv2d(3, c // 2, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(c // 2),
        nn.ReLU(),
        nn.Conv2d(c // 2, c, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(c),
    )
    return first, nn.Sequential(
        nn.ReLU(), nn.Conv2d(c, c, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(c)
    )


def set_drop_path(model: nn.Module, probability: float) -> None:
    """Sets the drop-path probability of a built model (in place); the paper raises it linearly to 0.2."""
    for module in model.modules():
        if isinstance(module, DropPath):
            module.probability = probability


@model_wrapper
class DartsSpace(nn.Module):
    """Stacked cells whose operations and wiring are searched; labels `normal/op_2_0` and so on, as NNI's.

    Cells at one third and two thirds of the depth are reductions: they halve h and w and double the
    channels. All normal cells are alike, and all reductions.

    Args:
        channels: of the first cells' nodes, C in the paper; even.
        layers: number of cells, L in the paper, at least 3.
        nodes: per cell.
        num_classes: of the output.
        operations: the candidates, among `DARTS_OPERATIONS`, `none`, `noise`, `sep_conv_7x7` and
            `conv_7x1_1x7`.
        concat: the states that make up a cell's output, by "normal" and "reduce"; all nodes if None.
        search: the form for the search (pools with batch-norm, batch-norms without weights) instead of
            the final one; labels are the same, so a sample carries over.
        auxiliary: add the auxiliary head after the second reduction; needs images of 32x32, or of
            224x224 with the ImageNet stem.
        distinct: a node chooses its two states together, both different, as the paper counts.
        stem: "cifar" keeps h and w, "imagenet" divides them by 8.
        drop_path: probability, in [0, 1), of dropping an edge other than an identity for a sample, while
            training; `set_drop_path` changes it in a built model.
        partial_channels: each operation works on one of so many parts of the channels (K in PC-DARTS), and
            the rest passes by; for the search, with `PCDarts`. 1 is the plain space.

    Raises:
        ValueError: if an operation is unknown, `channels` is odd, `layers` below 3, `stem` or `drop_path`
            none of these, or `partial_channels` does not divide `channels` or comes without `search`.

    Shape: (b, 3, h, w) -> (b, num_classes), h and w divisible by 4, or by 32 with the ImageNet stem. In
    training with `auxiliary`, a pair of that and the auxiliary head's.
    """

    def __init__(
        self,
        channels: int = 36,
        layers: int = 20,
        nodes: int = 4,
        num_classes: int = 10,
        operations: Sequence[str] = DARTS_OPERATIONS,
        concat: Mapping[str, Sequence[int]] | None = None,
        search: bool = False,
        auxiliary: bool = False,
        distinct: bool = False,
        stem: Literal["cifar", "imagenet"] = "cifar",
        drop_path: float = 0.0,
        partial_channels: int = 1,
    ) -> None:
        super().__init__()
        unknown = set(operations) - _KNOWN
        if unknown:
            raise ValueError(f"DartsSpace has no operations {sorted(unknown)}; there are {sorted(_KNOWN)}.")
        if channels % 2 or layers < 3:
            raise ValueError(f"`channels` must be even and `layers >= 3`, but got ({channels=}, {layers=}).")
        if stem not in ("cifar", "imagenet") or not 0 <= drop_path < 1:
            raise ValueError(
                "`stem` must be 'cifar' or 'imagenet' and `0 <= drop_path < 1` must hold, but got "
                f"({stem=}, {drop_path=})."
            )
        if partial_channels < 1 or channels % partial_channels:
            raise ValueError(
                f"`partial_channels` must divide `channels`, but got ({partial_channels=}, {channels=})."
            )
        if partial_channels > 1 and (not search or drop_path):
            raise ValueError(
                "`partial_channels` is for the search: give search=True and no drop_path, but got "
                f"({partial_channels=}, {search=}, {drop_path=})."
            )
        c = channels
        self.second_stem = None
        if stem == "cifar":
            c_last = 3 * c
            self.stem = cifar_stem(c_last)
        else:
            c_last = c
            self.stem, self.second_stem = imagenet_stems(c_last)
        c_before, was_reduction = c_last, stem == "imagenet"
        self.cells = nn.ModuleList()
        self.auxiliary_head = None
        self.auxiliary_after = 2 * layers // 3
        for i in range(layers):
            is_reduction = i in (layers // 3, 2 * layers // 3)
            if is_reduction:
                c = 2 * c
            label = "reduce" if is_reduction else "normal"
            outputs = list(range(2, nodes + 2)) if concat is None else list(concat[label])
            self.cells.append(
                nn.Cell(
                    {
                        name: EdgeOperation(name, c, is_reduction, search, drop_path, partial_channels)
                        for name in operations
                    },
                    nodes,
                    num_ops_per_node=2,
                    num_predecessors=2,
                    merge_op=outputs,
                    preprocessor=CellInputs(c_before, c_last, c, was_reduction, affine=not search),
                    label=label,
                    distinct=distinct,
                )
            )
            c_before, c_last, was_reduction = c_last, c * len(outputs), is_reduction
            if auxiliary and i == self.auxiliary_after:
                self.auxiliary_head = AuxiliaryHead(c_last, num_classes, is_imagenet=stem == "imagenet")
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(c_last, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        before = last = self.stem(x)
        if self.second_stem is not None:
            last = self.second_stem(last)
        auxiliary = None
        for i, cell in enumerate(self.cells):
            before, last = last, cell(before, last)
            if i == self.auxiliary_after and self.auxiliary_head is not None and self.training:
                auxiliary = self.auxiliary_head(last)
        logits = self.classifier(self.pool(last).flatten(1))
        return logits if auxiliary is None else (logits, auxiliary)
