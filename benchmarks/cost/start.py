"""Claim: once the runner is warm, a real Lightning trial trains within 0.2 s of being asked for.

From the moment the driver writes the trial as running to its first training batch: the way to the worker, building
module and Trainer from the sample, Lightning's own setup with its callbacks and the first batch of the digits. One
trial at a time; the first three trials of each search do not count. A B C A B C: fresh processes, reused processes,
Ray where it is installed; medians and quartiles of all rounds. `alone` is the same fit in a loop, from the call to
its first batch.

    python benchmarks/cost/start.py [--rounds 3] [--output benchmarks/cost/start.json]
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import tempfile
import time
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from common import in_turn, parser, write
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
    options = parser(__file__, __doc__, rounds=3).parse_args()
    runners = {n: s for n, s in RUNNERS.items() if n != "ray" or importlib.util.find_spec("ray")}
    ways = {"alone": alone, **{name: partial(ours, settings) for name, settings in runners.items()}}
    seconds = {name: list(chain(*found)) for name, found in in_turn(options.rounds, ways).items()}
    result = {
        "rounds": options.rounds,
        "limit_s": LIMIT_S,
        "seconds": {name: [round(q, 4) for q in statistics.quantiles(s, n=4)] for name, s in seconds.items()},
    }
    write(options.output, result)
    print(json.dumps(result["seconds"]))


if __name__ == "__main__":
    main()
