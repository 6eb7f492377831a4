"""Claim: where plain DARTS collapses, the guard says so, and selection by perturbation does not collapse.

Toy versions of the spaces S2 (skip or sep_conv_3x3 on each edge) and S4 (noise or sep_conv_3x3) of Zela
et al., "Understanding and Robustifying Differentiable Architecture Search", ICLR 2020 (arXiv:1909.09656):
8x8 digits, two nodes a cell, two edges a node. What goes wrong is the paper's: weights that fit a small
training half too well let the alphas prefer operations that cannot. For that, the search is given few
digits, a share of whose labels is wrong.

For each space and seed: one search with `Darts`, the sample its alphas speak for, the one of the last epoch
before `stop_at_parameter_free` would have ended the search, and the one that `perturbation_selection` finds
in the same supernet, by validation digits with the same share of wrong labels. Then each is trained anew on
1,197 digits with right labels and tested on 300 others. The table shows, of the eight derived operations,
how many have no use for weights (skip, noise), and the test accuracy; means over the seeds and their
standard deviation.

    python benchmarks/cifar10/collapse.py [--seeds 5] [--spaces S2 S4] [--output benchmarks/cifar10/collapse.json]
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_nas.digits import split_digits
from lightning_nas.hub import DartsSpace
from lightning_nas.oneshot import Darts, perturbation_selection

FREE = {"S2": "skip_connect", "S4": "noise"}
SETTINGS: dict[str, dict[str, Any]] = {
    "S2": {"channels": 8, "layers": 6, "epochs": 30, "examples": 1197, "wrong": 0.0, "lr": 0.01},
    "S4": {"channels": 8, "layers": 3, "epochs": 60, "examples": 256, "wrong": 0.4, "lr": 0.05},
}
LIMIT = 0.5


class Digits(pl.LightningModule):
    """Classifies; SGD with a cosine schedule, without weight decay."""

    def __init__(self, net: nn.Module, epochs: int, lr: float) -> None:
        super().__init__()
        self.net = net
        self.epochs = epochs
        self.lr = lr

    def training_step(self, batch: Any) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any) -> None:
        logits = self.net(batch[0])
        self.log("val_loss", F.cross_entropy(logits, batch[1]))
        self.log("val_acc", (logits.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)]


def images(data: TensorDataset, n: int | None = None, wrong: float = 0.0) -> TensorDataset:
    """The first n digits in three channels, a share of the labels drawn at random."""
    x, y = data.tensors[0][:n].expand(-1, 3, -1, -1).contiguous(), data.tensors[1][:n].clone()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(len(y), generator=generator) < wrong
    y[drawn] = torch.randint(10, (int(drawn.sum()),), generator=generator)
    return TensorDataset(x, y)


def trainer(epochs: int, *callbacks: Any) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs, callbacks=list(callbacks), accelerator="cpu", logger=False, gradient_clip_val=5,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def space(name: str, search: bool) -> DartsSpace:
    """The toy S2 or S4."""
    own = SETTINGS[name]
    operations = (FREE[name], "sep_conv_3x3")
    return DartsSpace(own["channels"], own["layers"], 2, operations=operations, search=search)


def free_operations(name: str, sample: dict[str, Any]) -> int:
    """How many of the eight derived operations are skips or noise."""
    return sum(value == FREE[name] for value in sample.values())


def searched(name: str, seed: int, epochs: int) -> dict[str, Any]:
    """One search and the three samples that come of it."""
    own, data = SETTINGS[name], split_digits()
    train = images(data.train, own["examples"], own["wrong"])

    def fit(darts: Darts) -> None:
        torch.manual_seed(seed)
        module = Digits(space(name, search=True), epochs, own["lr"])
        trainer(epochs, darts).fit(module, DataLoader(train, 64, shuffle=True), val)

    val = DataLoader(images(data.val, wrong=own["wrong"]), 300)
    darts = Darts(learning_rate=1e-2, seed=seed, gap_monitor="val_acc", gap_every=max(epochs // 6, 1))
    stopping = Darts(learning_rate=1e-2, seed=seed, stop_at_parameter_free=LIMIT, guard=False)
    with Warnings() as warned:
        fit(darts)
    fit(stopping)
    stopped = stopping.history[-1 if len(stopping.history) == epochs else -2 :][0]
    start = time.perf_counter()
    perturbed = perturbation_selection(darts, val, "val_acc", seed=seed, accelerator="cpu")
    return {
        "alphas": darts.sample(),
        "stopped": stopped["sample"],
        "perturbation": perturbed,
        "perturbation_s": time.perf_counter() - start,
        "stopped_epoch": stopped["epoch"],
        "warnings": warned.texts,
        "history": [{k: v for k, v in h.items() if k not in ("weights", "sample")} for h in darts.history],
    }


def tested(name: str, sample: dict[str, Any], seed: int, epochs: int) -> float:
    """Accuracy on the test digits of a network trained from scratch on all training digits."""
    data = split_digits()
    torch.manual_seed(seed)
    module = Digits(space(name, search=False).build(sample), epochs, 0.05)
    run = trainer(epochs)
    run.fit(module, DataLoader(images(data.train), 64, shuffle=True))
    run.validate(module, DataLoader(images(data.test), 300), verbose=False)
    return float(run.callback_metrics["val_acc"])


class Warnings(logging.Handler):
    """Collects what the guard says."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())

    def __enter__(self) -> Warnings:
        logging.getLogger("lightning_nas.oneshot").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("lightning_nas.oneshot").removeHandler(self)


def spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3g} +- {deviation:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--spaces", nargs="+", choices=sorted(FREE), default=sorted(FREE))
    parser.add_argument("--epochs", type=int, help="of the searches; the table's if left out")
    parser.add_argument("--retrain-epochs", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for root in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(root).setLevel(logging.ERROR)
    runs = []
    for name in options.spaces:
        for seed in range(options.seeds):
            run = searched(name, seed, options.epochs or SETTINGS[name]["epochs"])
            for way in ("alphas", "stopped", "perturbation"):
                run[f"{way}_free"] = free_operations(name, run[way])
                run[f"{way}_test_acc"] = tested(name, run[way], seed, options.retrain_epochs)
            runs.append({"space": name, "seed": seed, **run})
            print(name, seed, {k: v for k, v in run.items() if k.endswith(("_free", "_acc", "_s", "_epoch"))})
            print("   ", run["history"][-1], run["warnings"], flush=True)
    print(f"\n{'space':6}{'selection':14}{'free of 8':16}{'test accuracy':20}")
    for name in options.spaces:
        for way in ("alphas", "stopped", "perturbation"):
            own = [run for run in runs if run["space"] == name]
            free, accuracy = ([run[f"{way}_{key}"] for run in own] for key in ("free", "test_acc"))
            print(f"{name:6}{way:14}{spread(free):16}{spread(accuracy):20}")
        print(
            f"{name:6}the guard warned in {sum(bool(run['warnings']) for run in own)} of {len(own)} searches"
        )
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    results = {
        "settings": SETTINGS, "runs": runs, "torch": torch.__version__, "lightning": pl.__version__,
        "machine": platform.processor() or platform.machine(), "commit": commit,
    }  # fmt: skip
    options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
