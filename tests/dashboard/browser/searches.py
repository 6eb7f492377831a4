"""The searches that the browser tests look at. Run as `python searches.py NAME DIR [NAME DIR ...]`, one after another.

As a script, so that what it defines is pickled with the experiment and `lightning-nas resume` and `export` find it.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_nas import Categorical, Experiment, Float, FunctionalEvaluator, report_intermediate_result
from lightning_nas.strategies import GridSearch, Random

SPACE = {
    "lr": Float(1e-4, 1e-1, log=True),
    "width": Categorical([16, 32, 64]),
    "optimizer": Categorical(["sgd", "adam"]),
}
TRIALS = 24  # importances take 20
STEP_S = 0.2

# Each would name itself in the title of the page if anything ran it.
_RUN = "document.title='owned'"
HOSTILE_LABELS = (
    f"<script>{_RUN}</script>",
    f'<img src=x onerror="{_RUN}">',
    "{{ constructor.constructor(`" + _RUN + "`)() }}",
    ":label",
)
HOSTILE_VALUE = f"</script><img src=x onerror={_RUN}><svg onload={_RUN}>"
HOSTILE_METRIC = f"<b onmouseover={_RUN}>acc</b>"
HOSTILE_LOG = f"\x1b[31mred\x1b[0m \x1b]0;owned\x07<script>{_RUN}</script> <img src=x onerror={_RUN}> end"


def learn(sample: dict[str, Any]) -> dict[str, float]:
    """Ten steps of a curve that depends on the sample."""
    width, lr = sample["width"], sample["lr"]
    best = 0.95 - 0.05 * abs(lr - 0.02) / 0.02 - 4 / width
    for step in range(10):
        acc = max(0.0, best * (1 - 0.5 ** (step + 1)))
        print(f"step {step}: acc {acc:.3f}", flush=True)
        report_intermediate_result({"acc": acc, "loss": 1 - acc})
    return {"acc": max(0.0, best), "loss": 1 - best, "latency_ms": 0.1 * width}


def break_sometimes(sample: dict[str, Any]) -> dict[str, float]:
    """As `learn`, but the narrow ones raise."""
    if sample["width"] == 16:
        raise ValueError(f"a width of {sample['width']} is too narrow")
    return learn(sample)


def stay(sample: dict[str, Any]) -> float:
    """Reports for minutes, until it is told to stop."""
    return _report_slowly(1000)


def last_two_seconds(sample: dict[str, Any]) -> float:
    """Reports for about two seconds."""
    return _report_slowly(10)


def _report_slowly(steps: int) -> float:
    for step in range(steps):
        print(f"step {step}", flush=True)
        report_intermediate_result({"acc": step / (step + 5)})
        time.sleep(STEP_S)
    return steps / (steps + 5)


def attack(sample: dict[str, Any]) -> dict[str, float]:
    """What a page must show as text: labels, values, a metric, a log; some fail with a message of the kind."""
    print(HOSTILE_LOG, flush=True)
    if sample[":label"] > 0.2:
        raise RuntimeError(HOSTILE_VALUE)
    for step in range(3):
        report_intermediate_result({HOSTILE_METRIC: step / 3})
    return {HOSTILE_METRIC: 1 - sample[":label"]}


def search(
    function: Callable[..., Any], directory: Path, space: dict[str, Any] = SPACE, **options: Any
) -> None:
    """A random search of a function."""
    settings = {"max_trials": TRIALS, "progress": False, "max_consecutive_failures": None, **options}
    Experiment(space, FunctionalEvaluator(function), Random(), directory=directory, **settings).run()


def finished(directory: Path) -> None:
    search(learn, directory, objective="acc", reuse=True)


def flawed(directory: Path) -> None:
    search(break_sometimes, directory, objective="acc", max_trials=8, reuse=True)


def running(directory: Path) -> None:
    search(stay, directory, max_trials=50, objective="default")


def stoppable(directory: Path) -> None:
    search(last_two_seconds, directory, max_trials=50, concurrency=1)


def hostile(directory: Path) -> None:
    space = {label: Categorical([HOSTILE_VALUE, "x"]) for label in HOSTILE_LABELS[:3]} | {
        ":label": Float(0, 1)
    }
    search(attack, directory, space=space, max_trials=4, objective=HOSTILE_METRIC, seed=3)


def networks(directory: Path) -> None:
    """Two networks for the digits, an epoch each."""
    from lightning_nas.demo import Net
    from lightning_nas.digits import digits_loaders
    from lightning_nas.evaluators import Classification

    train, val = digits_loaders(batch_size=200)
    evaluator = Classification(train_dataloaders=train, val_dataloaders=val, max_epochs=1, accelerator="cpu")
    Experiment(
        Net(),
        evaluator,
        GridSearch(),
        directory=directory,
        max_trials=2,
        objective="val_acc",
        runner="inprocess",
        export=False,
        progress=False,
    ).run()


def one_shot(directory: Path) -> None:
    """DARTS for three epochs over a cell of two nodes."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    import lightning_nas.nn as nn
    from lightning_nas import Classification, Darts, model_wrapper

    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            operations = {
                "linear": lambda node, edge, state: nn.Linear(4, 4),
                "skip": lambda node, edge, state: nn.Identity(),
                "tanh": lambda node, edge, state: nn.Tanh(),
            }
            self.cell = nn.Cell(
                operations, num_nodes=2, num_ops_per_node=2, num_predecessors=2, label="normal"
            )
            self.hidden = nn.Linear(8, nn.ValueChoice([2, 4], label="hidden"))
            self.head = nn.Linear(nn.ValueChoice([2, 4], label="hidden"), 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.hidden(self.cell(x, x)))

    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, (x[:, 0] > x[:, 1]).long()), 16, shuffle=True)
    evaluator = Classification(
        train_dataloaders=loader, val_dataloaders=loader, max_epochs=4, accelerator="cpu"
    )
    Experiment(
        Net(),
        evaluator,
        Darts(learning_rate=0.3, guard=False),
        directory=directory,
        objective="val_acc",
        runner="inprocess",
        export=False,
        progress=False,
    ).run()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.simplefilter("ignore")
    for name, directory in zip(sys.argv[1::2], sys.argv[2::2]):
        globals()[name](Path(directory))
