"""An ordinary LightningCLI program: a perceptron on the digits that come with lightning-nas."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningCLI
from torch.utils.data import DataLoader

from lightning_nas.digits import split_digits


class Perceptron(pl.LightningModule):
    def __init__(self, hidden: int = 16, dropout: float = 0.0):
        super().__init__()
        layers = (
            torch.nn.Linear(64, hidden),
            torch.nn.ReLU(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(hidden, 10),
        )
        self.net = torch.nn.Sequential(torch.nn.Flatten(), *layers)

    def training_step(self, batch):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean(), prog_bar=True)


class Digits(pl.LightningDataModule):
    def __init__(self, batch_size: int = 64):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return DataLoader(split_digits().train, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(split_digits().val, 300)


if __name__ == "__main__":
    LightningCLI(Perceptron, Digits)
