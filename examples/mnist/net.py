"""The model space of Retiarii's quick start: an ordinary module in which three things are left open."""

from __future__ import annotations

import torch
import torch.nn.functional as F

import lightning_nas.nn as nn
from lightning_nas import model_wrapper


class DepthwiseSeparableConv(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, kernel_size=3, groups=in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))


@model_wrapper
class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        # One of two layers; the choice takes the attribute's name, conv2, as its label.
        self.conv2 = nn.LayerChoice([nn.Conv2d(32, 64, 3, 1), DepthwiseSeparableConv(32, 64)])
        # One of three values.
        self.dropout1 = nn.Dropout(nn.ValueChoice([0.25, 0.5, 0.75], label="dropout"))
        self.dropout2 = nn.Dropout(0.5)
        # One value used in two places.
        feature = nn.ValueChoice([64, 128, 256], label="feature")
        self.fc1 = nn.Linear(9216, feature)
        self.fc2 = nn.Linear(feature, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(self.conv2(x), 2)
        x = torch.flatten(self.dropout1(x), 1)
        x = self.fc2(self.dropout2(F.relu(self.fc1(x))))
        return F.log_softmax(x, dim=1)
