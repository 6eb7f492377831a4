"""A small, real search: what `faults.py` starts and kills. Usage: python search.py DIR STRATEGY RUNNER."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_nas import Categorical, Float, hpo, strategies
from lightning_nas.digits import digits_loaders

TRIALS, EPOCHS = 12, 4
SPACE = {"lr": Float(1e-3, 1e-1, log=True), "hidden": Categorical([8, 16, 32]), "drop": Float(0.0, 0.5)}
STRATEGIES = {
    "Random": strategies.Random(),
    "RegularizedEvolution": strategies.RegularizedEvolution(population_size=4, sample_size=2),
    "TPE": strategies.TPE(startup_trials=4),
}
# Trials run one by one in process, else two at a time. With a lag of one that makes no difference to the samples.
RUNNERS: dict[str, dict[str, Any]] = {
    "inprocess": {"runner": "inprocess"},
    "processes": {"runner": "processes", "concurrency": 2},
    "ray": {"runner": "ray", "concurrency": 2},
}
EPOCHS_BEGUN = "epochs"
"""A folder in the experiment's: for each sample a file with a line for each epoch begun, in whatever attempt."""


class Lit(pl.LightningModule):
    begun: Path  # an absolute path, as a trial on Ray has a folder of its own until it ends

    def __init__(self, lr: float, hidden: int, drop: float) -> None:
        super().__init__()
        self.lr, self.file = lr, self.begun / f"{lr}-{hidden}-{drop}"
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(drop), nn.Linear(hidden, 10)
        )

    def on_train_epoch_start(self) -> None:
        with self.file.open("a") as file:
            file.write(f"{self.current_epoch}\n")

    def training_step(self, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any) -> None:
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def search(directory: str, strategy: str, runner: str) -> None:
    train, val = digits_loaders()
    Lit.begun = Path(directory).absolute() / EPOCHS_BEGUN
    Lit.begun.mkdir(parents=True, exist_ok=True)
    hpo.tune(
        Lit,
        SPACE,
        train_dataloaders=train,
        val_dataloaders=val,
        trainer={"max_epochs": EPOCHS, "accelerator": "cpu"},
        strategy=STRATEGIES[strategy],
        objective="val_acc",
        max_trials=TRIALS,
        directory=directory,
        lag=1,
        progress=False,
        retries=100,  # one trial may be killed many times
        **RUNNERS[runner],
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("begins", flush=True)
    search(*sys.argv[1:])
