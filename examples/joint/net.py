"""The network, with its choices, and how it is trained."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

import lightning_nas.nn as nn
from lightning_nas import model_wrapper
from lightning_nas.digits import split_digits


@model_wrapper
class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        channels = nn.ValueChoice([8, 16, 32], label="channels")
        self.conv = nn.LayerChoice(
            {
                "3x3": nn.Conv2d(1, channels, 3, padding=1),
                "5x5": nn.Conv2d(1, channels, 5, padding=2),
            },
            label="conv",
        )
        self.pool = nn.LayerChoice({"max": nn.MaxPool2d(2), "avg": nn.AvgPool2d(2)}, label="pool")
        hidden = nn.ValueChoice([32, 64, 128], label="hidden")
        self.dropout = nn.Dropout(nn.ValueChoice([0.0, 0.2, 0.4], label="dropout"))
        self.first = nn.Linear(channels * 16, hidden)
        self.last = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv(x))).flatten(1)
        return self.last(self.dropout(F.relu(self.first(x))))


class Lit(pl.LightningModule):
    def __init__(self, net: torch.nn.Module, lr: float = 0.1) -> None:
        super().__init__()
        self.net = net
        self.lr = lr

    def training_step(self, batch: Any) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any) -> None:
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)]


class Digits(pl.LightningDataModule):
    def __init__(self, batch_size: int = 64) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return DataLoader(split_digits().train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(split_digits().val, 300)
