"""Claim: at equal epochs ASHA finds a better network than plain random search, on real images.

A perceptron for the 8x8 digits (400 for training, 1,097 for validation, 300 for testing), trained for 27 epochs
along a cosine; eight hyper-parameters over wide ranges. Every method draws the same random samples and may spend
540 epochs, the price of 20 full trainings. What counts is the network with the best validation accuracy at the
end of any epoch so far (the earlier one if equal), judged by its test accuracy. A: random search; B: random search
with a stopping rule. A B A B over the seeds in one process with one thread; means, standard deviations, and how
many epochs each needs to reach the validation accuracy that random search ends with.

    python benchmarks/asha/digits.py [--seeds 10] [--output benchmarks/asha/digits.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_nas.digits import split_digits
from lightning_nas.experiment import Experiment
from lightning_nas.space import Categorical, Float, Integer, SearchSpace
from lightning_nas.stopping import ASHA, Hyperband, MedianStop
from lightning_nas.strategies import Random

EPOCHS = 27
BUDGET = 20 * EPOCHS
MARKS = (BUDGET // 4, BUDGET // 2, BUDGET)
METHODS: dict[str, Any] = {
    "random": None,
    "ASHA": ASHA(max_steps=EPOCHS),
    "Hyperband": Hyperband(max_steps=EPOCHS),
    "MedianStop": MedianStop(start_step=1),
}
SPACE = SearchSpace(
    {
        "lr": Float(1e-4, 1.0, log=True),
        "momentum": Float(0.0, 0.99),
        "weight_decay": Float(1e-6, 1e-1, log=True),
        "batch_size": Categorical([16, 32, 64, 128, 256]),
        "width": Integer(8, 128, log=True),
        "depth": Integer(1, 3),
        "dropout": Float(0.0, 0.7),
        "activation": Categorical(["relu", "tanh", "sigmoid"]),
    }
)
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def splits() -> list[tuple[Tensor, Tensor]]:
    """Images (n, 64) and labels (n,): few to learn from, so that there is something left to gain."""
    train, val, test = (part.tensors for part in split_digits())
    images, labels = torch.cat([train[0], val[0]]).flatten(1), torch.cat([train[1], val[1]])
    return [(images[:400], labels[:400]), (images[400:], labels[400:]), (test[0].flatten(1), test[1])]


TRAIN, VAL, TEST = splits()


@dataclass
class Trains:
    """Trains from the trial's checkpoint on, and notes what each epoch of the whole search reached."""

    reached: list[tuple[float, float]] = field(default_factory=list)  # validation and test accuracy

    def evaluate(self, candidate, report):
        sample, path = candidate.sample, candidate.directory / "checkpoint"
        net, optimizer, first = network(sample), None, 0
        optimizer = torch.optim.SGD(
            net.parameters(),
            sample["lr"],
            momentum=sample["momentum"],
            weight_decay=sample["weight_decay"],
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
        if candidate.resume_from is not None:
            state = torch.load(candidate.resume_from, weights_only=True)
            first = state["epoch"]
            for thing, name in ((net, "net"), (optimizer, "optimizer"), (schedule, "schedule")):
                thing.load_state_dict(state[name])
            torch.set_rng_state(state["random"])
        for epoch in range(first, EPOCHS):
            train(net, optimizer, sample["batch_size"])
            schedule.step()
            metrics = {"val_acc": accuracy(net, *VAL)}
            self.reached.append((metrics["val_acc"], accuracy(net, *TEST)))
            if not report(epoch, metrics):
                if candidate.may_pause:
                    state = {
                        "epoch": epoch + 1,
                        "net": net.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "schedule": schedule.state_dict(),
                        "random": torch.get_rng_state(),
                    }
                    torch.save(state, path)
                break
        return metrics


@dataclass(frozen=True)
class Until:
    """Random search that ends when its epochs are spent."""

    trains: Trains
    strategy: Random = field(default_factory=Random)

    def ask(self, space, trials, rng):
        return None if len(self.trains.reached) >= BUDGET else self.strategy.ask(space, trials, rng)


def network(sample: dict[str, Any]) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = 64
    for _ in range(sample["depth"]):
        layers += [nn.Linear(width, sample["width"]), ACTIVATIONS[sample["activation"]]()]
        layers += [nn.Dropout(sample["dropout"])]
        width = sample["width"]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def train(net: nn.Module, optimizer: torch.optim.Optimizer, batch_size: int) -> None:
    net.train()
    images, labels = TRAIN
    for batch in torch.randperm(len(labels)).split(batch_size):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
        optimizer.step()


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    return (net.eval()(images).argmax(1) == labels).float().mean().item()


def search(rule: Any, seed: int) -> dict[str, Any]:
    """One search: the best validation accuracy and its test accuracy after each epoch, and how it went."""
    trains = Trains()
    with tempfile.TemporaryDirectory() as directory:
        trials = (
            Experiment(
                SPACE,
                trains,
                Until(trains),
                directory=directory,
                max_trials=None,
                objective="val_acc",
                seed=seed,
                runner="inprocess",
                stopping=rule,
                progress=False,
            )
            .run()
            .trials
        )
    leaders, leader = [], (-1.0, 0.0)
    for reached in trains.reached[:BUDGET]:
        leader = reached if reached[0] > leader[0] else leader
        leaders.append(leader)
    return {
        "leaders": leaders,
        "epochs": len(trains.reached),
        "trials": len(trials),
        "completed": sum(trial.status.value == "completed" for trial in trials),
    }


def summary(runs: list[dict[str, Any]], goals: list[float]) -> dict[str, Any]:
    """What the searches of one method come to; `goals` are random search's last validation accuracies."""
    needed = [
        next((epoch for epoch, (val, _) in enumerate(run["leaders"], 1) if val >= goal), None)
        for run, goal in zip(runs, goals)
    ]
    result: dict[str, Any] = {}
    for mark in MARKS:
        for i, name in enumerate(("val_acc", "test_acc")):
            values = [100 * run["leaders"][mark - 1][i] for run in runs]
            result[f"{name}_{mark}_by_seed"] = [round(value, 2) for value in values]
            result[f"{name}_{mark}"] = [round(float(f(values)), 2) for f in (np.mean, np.std)]
    reached = [epochs for epochs in needed if epochs is not None]
    return {
        **result,
        "trials": statistics.mean(run["trials"] for run in runs),
        "completed": statistics.mean(run["completed"] for run in runs),
        "reached_randoms_last": len(reached),
        "epochs_to_reach_it": needed,
        "median_epochs_to_reach_it": statistics.median(reached) if reached else None,
        "epochs_spent_in_all": [run["epochs"] for run in runs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in METHODS}
    for seed in range(options.seeds):
        for name, rule in METHODS.items():
            runs[name].append(search(rule, seed))
        print(f"seed {seed}, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    goals = [run["leaders"][-1][0] for run in runs["random"]]
    results = {name: summary(found, goals) for name, found in runs.items()}
    print(
        "| | " + " | ".join(f"{mark} epochs" for mark in MARKS) + " | trials | completed | epochs to reach |"
    )
    for name, row in results.items():
        cells = [
            "{:.2f} ± {:.2f} (test {:.2f})".format(*row[f"val_acc_{mark}"], row[f"test_acc_{mark}"][0])
            for mark in MARKS
        ]
        last = f"{row['median_epochs_to_reach_it']} ({row['reached_randoms_last']})"
        print(f"| {name} | {' | '.join(cells)} | {row['trials']:.0f} | {row['completed']:.0f} | {last} |")
    described = {
        "epochs_of_a_full_training": EPOCHS,
        "budget_epochs": BUDGET,
        "seeds": options.seeds,
        "methods": {name: repr(rule) for name, rule in METHODS.items()},
        "results": results,
        "seconds": round(time.perf_counter() - start),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
    }
    options.output.write_text(json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
