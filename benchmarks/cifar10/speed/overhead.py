"""Claim: the Darts callback costs less than 3 % over a loop written by hand around the same supernet.

A: a plain loop (batch of the search half, Adam step on the alphas with frozen weights, batch of the
training half, clipped SGD step). B: `Trainer(callbacks=[Darts()])` with the same module, data and
optimizers, Lightning's own work included. Random images; A B A B in one run, seconds from the end of a step to
the end of the next, ratio of medians.

    python benchmarks/cifar10/speed/overhead.py [--channels 8] [--layers 5] [--batch 16] [--steps 30]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import time
import warnings
from itertools import pairwise
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from lightning_nas import Darts
from lightning_nas.hub import DARTS_OPERATIONS, DartsSpace
from lightning_nas.oneshot import frozen, relax


class Lit(pl.LightningModule):
    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.net = DartsSpace(channels, layers, operations=("none", *DARTS_OPERATIONS), search=True)

    def training_step(self, batch):
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)


class Clock(pl.Callback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_):
        self.ends.append(time.perf_counter())


def images(steps: int, batch: int) -> TensorDataset:
    """Enough for `steps` batches of each half."""
    n = 2 * steps * batch
    return TensorDataset(torch.randn(n, 3, 32, 32), torch.randint(10, (n,)))


def by_hand(options: argparse.Namespace) -> list[float]:
    module = Lit(options.channels, options.layers)
    supernet = relax(module)
    alphas = {label: (1e-3 * torch.randn(shape)).requires_grad_() for label, shape in supernet.shapes.items()}
    adam = torch.optim.Adam(list(alphas.values()), 3e-4, (0.5, 0.999), weight_decay=1e-3)
    sgd = module.configure_optimizers()
    data = images(options.steps, options.batch)
    half = len(data) // 2
    train, search = (
        DataLoader(torch.utils.data.Subset(data, part), options.batch, shuffle=True)
        for part in (range(half), range(half, 2 * half))
    )
    ends = []
    for batch, other in zip(train, search):
        with frozen(module.parameters()):
            supernet.receive(supernet.activate(alphas))
            gradients = torch.autograd.grad(module.training_step(other), list(alphas.values()))
        for alpha, gradient in zip(alphas.values(), gradients):
            alpha.grad = gradient
        adam.step()
        with torch.no_grad():
            supernet.receive(supernet.activate(alphas))
        sgd.zero_grad()
        module.training_step(batch).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 5)
        sgd.step()
        ends.append(time.perf_counter())
    return ends


def by_callback(options: argparse.Namespace) -> list[float]:
    clock = Clock()
    trainer = pl.Trainer(
        max_epochs=1, callbacks=[Darts(guard=False), clock], gradient_clip_val=5, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = DataLoader(images(options.steps, options.batch), options.batch, shuffle=True)
    trainer.fit(Lit(options.channels, options.layers), data)
    return clock.ends


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    seconds: dict[str, list[float]] = {"by_hand": [], "callback": []}
    for _ in range(options.rounds):
        for name, run in (("by_hand", by_hand), ("callback", by_callback)):
            seconds[name] += [end - start for start, end in pairwise(run(options))][2:]  # the first warm up
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    result = {
        **{f"{name}_ms": 1e3 * median for name, median in medians.items()},
        **{
            f"{name}_ms_quartiles": [1e3 * q for q in statistics.quantiles(v, n=4)[::2]]
            for name, v in seconds.items()
        },
        "overhead_percent": 100 * (medians["callback"] / medians["by_hand"] - 1),
        "is_below_3_percent": medians["callback"] < 1.03 * medians["by_hand"],
        **{name: getattr(options, name) for name in ("channels", "layers", "batch", "steps", "rounds")},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average": os.getloadavg()[0],
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
