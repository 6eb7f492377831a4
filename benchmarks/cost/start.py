"""Claim: once the runner is warm, a real Lightning trial trains within 0.2 s of being asked for.

From the moment the driver writes the trial as running to its first training batch: the way to the worker, building
module and Trainer from the sample, Lightning's own setup with its callbacks and the first batch of the digits. One
trial at a time; the first three trials of each search do not count. A B C A B C: fresh processes, reused processes,
Ray where it is installed; medians and quartiles of all rounds. `alone` is the same fit in a loop, from the call to
its first batch.

    python benchmarks/cost/start.py [--rounds 3] [--output benchmarks/cost/start.json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn

from lightning_nas import Float, hpo
from lightning_nas.digits import digits_loaders

TRIALS, WARM_UP, LIMIT_S = 15, 3, 0.2
RUNNERS: dict[str, dict[str, Any]] = {
    "processes": {},
    "reuse": {"reuse": True},
    "ray": {"runner": "ray"},
}


class Lit(pl.LightningModule):
    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self.trains_since = 0.0

    def training_step(self, batch: Any) -> torch.Tensor:
        self.trains_since = self.trains_since or time.time()
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any) -> None:
        # Twice, as a metric is a float of 32 bits to Lightning, too few for seconds since 1970.
        self.log("thousands", torch.tensor(self.trains_since // 1000, dtype=torch.float64))
        self.log("rest", torch.tensor(self.trains_since % 1000, dtype=torch.float64))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class First(Callback):
    def on_train_batch_start(self, *_: Any) -> None:
        self.time = getattr(self, "time", time.time())


def alone() -> list[float]:
    """Seconds from making module and Trainer to the first batch."""
    train, val = digits_loaders()
    seconds = []
    for _ in range(TRIALS):
        first, began = First(), time.time()
        with tempfile.TemporaryDirectory() as directory:
            trainer = pl.Trainer(
                max_epochs=1,
                accelerator="cpu",
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=directory,
                callbacks=[first],
            )
            trainer.fit(Lit(0.01), train, val)
        seconds.append(first.time - began)
    return seconds[WARM_UP:]


def ours(settings: dict[str, Any]) -> list[float]:
    """Seconds from a trial's entry in the store to its first batch."""
    train, val = digits_loaders()
    with tempfile.TemporaryDirectory() as directory:
        experiment = hpo.tune(
            Lit,
            {"lr": Float(1e-3, 1e-1, log=True)},
            train_dataloaders=train,
            val_dataloaders=val,
            trainer={"max_epochs": 1, "accelerator": "cpu"},
            objective="rest",
            max_trials=TRIALS,
            directory=Path(directory) / "search",
            progress=False,
            **settings,
        )
        trials = experiment.trials[WARM_UP:]
    return [
        1000 * trial.metrics["thousands"] + trial.metrics["rest"] - trial.started
        for trial in trials
        if trial.started is not None
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    runners = {n: s for n, s in RUNNERS.items() if n != "ray" or importlib.util.find_spec("ray")}
    seconds: dict[str, list[float]] = {"alone": [], **{name: [] for name in runners}}
    for _ in range(options.rounds):
        seconds["alone"] += alone()
        for name, settings in runners.items():
            seconds[name] += ours(settings)
    result = {
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average": round(os.getloadavg()[0], 2),
        "rounds": options.rounds,
        "limit_s": LIMIT_S,
        "seconds": {name: [round(q, 4) for q in statistics.quantiles(s, n=4)] for name, s in seconds.items()},
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["seconds"]))


if __name__ == "__main__":
    main()
