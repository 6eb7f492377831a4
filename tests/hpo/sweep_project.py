"""A user's project with a LightningCLI program on the digits, and sweeps of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_nas import Experiment
from lightning_nas.hpo import sweep
from lightning_nas.strategies import Random

ROOT = Path(__file__).resolve().parents[2]

NETS = """
import torch
import {lightning} as pl
from torch.utils.data import DataLoader
from lightning_nas.digits import split_digits

class Tanh(torch.nn.Tanh):
    pass

class Leaky(torch.nn.LeakyReLU):
    def __init__(self, slope: float = 0.01, inplace: bool = False):
        super().__init__(slope, inplace)

class Net(pl.LightningModule):
    def __init__(self, hidden: int = 8, rate: float = 0.1, act: torch.nn.Module = torch.nn.ReLU(), size: int = 0):
        super().__init__()
        self.save_hyperparameters(ignore="act")
        first, last = torch.nn.Linear(64, hidden), torch.nn.Linear(hidden, 10)
        self.net = torch.nn.Sequential(torch.nn.Flatten(), first, act, last)

    def training_step(self, batch):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())
        self.log("size", float(self.hparams["size"]))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["rate"])
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)]

class Digits(pl.LightningDataModule):
    def __init__(self, batch_size: int = 64):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return DataLoader(split_digits().train, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(split_digits().val, 300)
"""

MAIN = """
import json
from {lightning}.cli import LightningCLI
from sweep_nets import Digits, Net

class CLI(LightningCLI):
    def add_arguments_to_parser(self, parser):
        parser.link_arguments("data.batch_size", "model.size")

if __name__ == "__main__":
    cli = CLI(Net, Digits)
    print("RESULT", json.dumps({{name: float(value) for name, value in cli.trainer.callback_metrics.items()}}))
"""

TRAINER = """
trainer:
  max_epochs: 3
  limit_train_batches: 3
  accelerator: cpu
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
  enable_checkpointing: false
"""
FIT = TRAINER + "model: {hidden: 16}\n"
NAMED = TRAINER + "model: {class_path: sweep_nets.Net, init_args: {hidden: 16}}\ndata: sweep_nets.Digits\n"

SPACE = {"model.rate": {"loguniform": [0.01, 1]}, "data.batch_size": {"choice": [32, 64]}}


@pytest.fixture(params=["pytorch_lightning"])
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Path]:
    """A user's folder, which is the working folder."""
    if request.param != "pytorch_lightning":
        pytest.importorskip(request.param)
    for name, text in (("sweep_nets.py", NETS), ("main.py", MAIN)):
        (tmp_path / name).write_text(text.format(lightning=request.param))
    (tmp_path / "fit.yaml").write_text(FIT)
    (tmp_path / "named.yaml").write_text(NAMED)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("sweep_nets", None)


def run(space: Any, config: str = "fit.yaml", cli: Any = "main.py", **settings: Any) -> Experiment:
    settings = {
        "strategy": Random(),
        "objective": "val_acc",
        "max_trials": 2,
        "runner": "inprocess",
        "progress": False,
        "directory": "exp",
        **settings,
    }
    return sweep(config, space, cli=cli, **settings)


def config_of(exp: Experiment, number: int) -> Any:
    return yaml.safe_load((exp.directory / "trials" / str(number) / "config.yaml").read_text())


def rerun(config: str, folder: Path) -> Any:
    """What the user's own program says on a config."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    where = folder / "alone"
    where.mkdir()
    done = subprocess.run(
        [sys.executable, str(folder / "main.py"), "fit", "--config", str(folder / config)],
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("RESULT ")[2])
