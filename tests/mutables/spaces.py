"""Model spaces that several tests use."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

import lightning_nas.nn as nn
from lightning_nas.mutables import model_wrapper


class DepthwiseSeparableConv(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, kernel_size=3, groups=in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))


@model_wrapper
class QuickStart(nn.Module):
    """The Net of Retiarii's quick start, unlabelled as there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.LayerChoice([nn.Conv2d(32, 64, 3, 1), DepthwiseSeparableConv(32, 64)])
        self.dropout1 = nn.Dropout(nn.ValueChoice([0.25, 0.5, 0.75]))
        self.dropout2 = nn.Dropout(0.5)
        feature = nn.ValueChoice([64, 128, 256])
        self.fc1 = nn.Linear(9216, feature)
        self.fc2 = nn.Linear(feature, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(self.conv2(x), 2)
        x = torch.flatten(self.dropout1(x), 1)
        x = self.fc2(self.dropout2(F.relu(self.fc1(x))))
        return F.log_softmax(x, dim=1)


@model_wrapper
class MobileLike(nn.Module):
    """Kernel and expansion per block, depth per stage, as `range(depth)`: 4 stages of 2 to 4 blocks."""

    def __init__(self, stages: int = 4) -> None:
        super().__init__()
        blocks = []
        for stage in range(stages):
            for i in range(nn.ValueChoice([2, 3, 4], label=f"stage{stage}/depth")):
                kernel = nn.ValueChoice([3, 5, 7], label=f"stage{stage}/kernel{i}")
                expansion = nn.ValueChoice([3, 4, 6], label=f"stage{stage}/expansion{i}")
                hidden = 8 * expansion
                blocks.append(
                    nn.Sequential(
                        nn.Conv2d(8, hidden, 1),
                        nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden),
                        nn.Conv2d(hidden, 8, 1),
                    )
                )
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


def has_choice_or_trace(model: nn.Module) -> bool:
    """Whether any choice or traced value is left anywhere in `model`."""
    from lightning_nas.mutables import Choice
    from lightning_nas.mutables.values import Traced

    def holds(value: object) -> bool:
        if isinstance(value, (Choice, Traced)):
            return True
        if isinstance(value, dict):
            return any(map(holds, [*value.keys(), *value.values()]))
        return isinstance(value, (list, tuple, set)) and any(map(holds, value))

    return any(isinstance(m, Choice) or any(map(holds, vars(m).values())) for m in model.modules())


def space_of(make: Callable[[nn.Module], None], forward: Callable[..., object]) -> nn.Module:
    """A model space from what its constructor does to `self` and from its forward pass."""

    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            make(self)

        def forward(self, x):
            return forward(self, x)

    return Net()


def edge(label: str, **more: Callable[[], nn.Module]) -> nn.LayerChoice:
    candidates = {"none": nn.Zero, "skip": nn.Identity, "conv": lambda: nn.Conv2d(3, 3, 1)}
    return nn.LayerChoice({**candidates, **more}, label=label)


def two_edges(self: nn.Module) -> None:
    self.a, self.b = edge("a"), edge("b")
