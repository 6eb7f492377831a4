"""Claim: where DARTS collapses onto noise, the guard says so, and stopping or perturbation keep useful cells.

Toy versions of the spaces S2 (skip or sep_conv_3x3 on each edge) and S4 (noise or sep_conv_3x3) of Zela
et al., "Understanding and Robustifying Differentiable Architecture Search", ICLR 2020 (arXiv:1909.09656):
three cells of two nodes, 8 channels. What goes wrong is the paper's: weights that fit a small training half
too well let the alphas prefer operations that cannot. For that, the search is given few images, 40 % of
whose labels are drawn at random. S4 sees the 8x8 digits; on these a network of skips alone is good enough,
so S2 sees pairs of dots in noise, 12x12, whose class is the way from one dot to the other: skips alone
tell them as well as chance does.

For each space and seed: one search with `Darts`, the sample its alphas speak for, the one of the last epoch
before `stop_at_parameter_free` ends a second, equal search, and the one that `perturbation_selection` finds
in the first search's supernet, by validation images with the same share of wrong labels. Then each is
trained anew on right labels and tested on other images with right labels. The table shows, of the eight
derived operations, how many are skips or noise, and the test accuracy; means over the seeds and their
standard deviation.

Seen: in S4 the alphas speak for reduction cells of noise alone, and what they derive tests at chance (0.1);
what perturbation or the stop keeps tests at 0.97 and more. In S2 the alphas take 5 or 6 skips of 8 and
perturbation 3 or 4, but two convolutions are enough for the dots once labels are right: accuracy does not tell
them apart. The stop is only as good as its moment: in S2 a share of skips is there from the first epochs.

    python benchmarks/cifar10/collapse.py [--seeds 3] [--spaces S4 S2] [--output benchmarks/cifar10/collapse.json]
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import platform
import statistics
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_nas.digits import split_digits
from lightning_nas.hub import DartsSpace
from lightning_nas.oneshot import Darts, perturbation_selection

FREE = {"S2": "skip_connect", "S4": "noise"}
EXAMPLES = {"S2": 512, "S4": 256}
WRONG = 0.4
CHANNELS, LAYERS, NODES = 8, 3, 2
LIMIT = 0.5
WAYS = ("alphas", "stopped", "perturbation")


class Classifier(pl.LightningModule):
    """Classifies; SGD with a cosine schedule, without weight decay."""

    def __init__(self, net: nn.Module, epochs: int) -> None:
        super().__init__()
        self.net = net
        self.epochs = epochs

    def training_step(self, batch: Any) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any) -> None:
        logits = self.net(batch[0])
        self.log("val_loss", F.cross_entropy(logits, batch[1]))
        self.log("val_acc", (logits.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)]


def dots(n: int, seed: int) -> TensorDataset:
    """n images of two bright dots in noise; the class is one of four ways from the upper to the other."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.3 * torch.randn(n, 1, 12, 12, generator=generator)
    y = torch.randint(4, (n,), generator=generator)
    for i, (down, right) in enumerate(((0, 4), (4, 0), (4, 4), (4, -4))[way] for way in y.tolist()):
        row = int(torch.randint(0, 12 - down, (1,), generator=generator))
        column = int(torch.randint(max(0, -right), 12 - max(0, right), (1,), generator=generator))
        x[i, 0, row, column] += 2
        x[i, 0, row + down, column + right] += 2
    return TensorDataset(x, y)


class Data(NamedTuple):
    """What a space is searched and judged by: training, validation and test images."""

    train: TensorDataset
    val: TensorDataset
    test: TensorDataset


@functools.cache
def data_of(name: str) -> Data:
    """Digits, or 1,000 pairs of dots with 300 for validation and 300 for testing."""
    return Data(*split_digits()) if name == "S4" else Data(dots(1000, 1), dots(300, 2), dots(300, 3))


def images(data: TensorDataset, n: int | None = None, wrong: float = 0.0) -> TensorDataset:
    """The first n images in three channels, a share of the labels drawn at random."""
    x, y = data.tensors[0][:n].expand(-1, 3, -1, -1).contiguous(), data.tensors[1][:n].clone()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(len(y), generator=generator) < wrong
    y[drawn] = torch.randint(int(y.max()) + 1, (int(drawn.sum()),), generator=generator)
    return TensorDataset(x, y)


def trainer(epochs: int, *callbacks: Any) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs, callbacks=list(callbacks), accelerator="cpu", logger=False, gradient_clip_val=5,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def space(name: str, search: bool) -> DartsSpace:
    """The toy S2 or S4."""
    operations = (FREE[name], "sep_conv_3x3")
    classes = int(data_of(name).test.tensors[1].max()) + 1
    return DartsSpace(CHANNELS, LAYERS, NODES, classes, operations, search=search)


def free_operations(name: str, sample: dict[str, Any]) -> int:
    """How many of the eight derived operations are skips or noise."""
    return sum(value == FREE[name] for value in sample.values())


def searched(name: str, seed: int, epochs: int) -> dict[str, Any]:
    """One search and the three samples that come of it."""
    data = data_of(name)
    train = images(data.train, EXAMPLES[name], WRONG)

    def fit(darts: Darts) -> None:
        torch.manual_seed(seed)
        module = Classifier(space(name, search=True), epochs)
        trainer(epochs, darts).fit(module, DataLoader(train, 64, shuffle=True), val)

    val = DataLoader(images(data.val, wrong=WRONG), 300)
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
    """Test accuracy of a network trained from scratch on all training images with right labels."""
    data = data_of(name)
    torch.manual_seed(seed)
    module = Classifier(space(name, search=False).build(sample), epochs)
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


def print_table(runs: list[dict[str, Any]], spaces: list[str]) -> None:
    print(f"\n{'space':6}{'selection':14}{'free of 8':16}{'test accuracy':20}")
    for name in spaces:
        own = [run for run in runs if run["space"] == name]
        for way in WAYS:
            free, accuracy = ([run[f"{way}_{key}"] for run in own] for key in ("free", "test_acc"))
            print(f"{name:6}{way:14}{spread(free):16}{spread(accuracy):20}")
        gaps = [next(h["search/gap"] for h in reversed(run["history"]) if "search/gap" in h) for run in own]
        print(
            f"{name:6}the guard warned in {sum(bool(run['warnings']) for run in own)} of {len(own)} searches;"
        )
        print(f"{name:6}the derived network scores {spread(gaps)} worse than the mixture at the end")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--spaces", nargs="+", choices=sorted(FREE), default=["S4", "S2"])
    parser.add_argument("--epochs", type=int, default=60, help="of the searches")
    parser.add_argument("--retrain-epochs", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for root in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(root).setLevel(logging.ERROR)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    versions = {"torch": torch.__version__, "lightning": pl.__version__, "python": platform.python_version()}
    settings = {"examples": EXAMPLES, "wrong": WRONG, "epochs": options.epochs, "limit": LIMIT}
    runs: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        for name in options.spaces:
            run = {"space": name, "seed": seed, **searched(name, seed, options.epochs)}
            for way in WAYS:
                run[f"{way}_free"] = free_operations(name, run[way])
                run[f"{way}_test_acc"] = tested(name, run[way], seed, options.retrain_epochs)
            runs.append(run)
            print(name, seed, {k: v for k, v in run.items() if k.endswith(("_free", "_acc", "_epoch"))})
            print("   ", run["warnings"], flush=True)
        results = {"settings": settings, **versions, "machine": platform.machine(), "commit": commit}
        options.output.write_text(json.dumps({**results, "runs": runs}, indent=1) + "\n")
    print_table(runs, options.spaces)


if __name__ == "__main__":
    main()
