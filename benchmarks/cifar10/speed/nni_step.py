"""Claim: on a CPU one search step of the fast supernet takes a third of the time of NNI 3.0's, or less.

Compares, in one process, round by round (A B C A B C ...), one first-order search step (alphas, then weights)
of NNI's DARTS, of the port of the paper's (`port.py`) and of the fast supernet, at the small size of `step.py`,
and of NNI's and the fast one at the paper's; and counts what one step dispatches. All on the same torch.

NNI is no dependency: it is installed beside, without its dependencies, for it asks for an older `filelock`:

    pip install --target DIRECTORY --no-deps nni==3.0 'filelock<3.12' 'typeguard<4.1.3' json-tricks astor \\
        cloudpickle colorama prettytable schema responses websockets psutil PythonWebHDFS pandas scikit-learn \\
        requests scipy simplejson wcwidth urllib3 idna certifi charset-normalizer python-dateutil joblib six \\
        threadpoolctl
    PYTHONPATH=DIRECTORY python nni_step.py

NNI's side is its own code, unpatched: the space `nni.nas.hub.pytorch.DARTS`, made a supernet by
`nni.nas.strategy.DARTS`, and `DartsLightningModule.training_step` with Lightning's optimizers. Both sides have
the same cells, channels, batches, losses, settings of Adam and SGD, and clip gradients at 5. What differs:

- NNI has seven operations on an edge and a logit for no connection, for which it weighs a tensor of zeros; we
  have eight with `none`, which the supernet does not compute, and the port does.
- NNI's batch-norms have weights and biases, and its pooling has no batch-norm after it; ours are the paper's.
- NNI steps Adam parameter by parameter, as its code has it; SGD goes by `foreach` on every side.
- NNI's step passes through Lightning's wrappers, the others are loops of their own.

Writes `nni_step.json` beside itself, with every time, the load of the machine and the versions.
Usage: python nni_step.py [--rounds 5] [--paper-rounds 3] [--threads 1]; 0 rounds leave a size out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import step
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes in torch.nn that NNI does not know
        from nni.nas import strategy as nni_strategy
        from nni.nas.evaluator.pytorch import LightningModule
        from nni.nas.hub import pytorch as nni_hub
except ImportError as error:
    sys.exit(
        f"NNI 3.0 cannot be imported ({error}); the head of {Path(__file__).name} says how to install it."
    )


class Training(LightningModule):
    """What a user of NNI writes: the loss, and the optimizer of the weights."""

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4, foreach=True)


class NniSearch:
    """Steps of NNI's search. A fit of one step on two images attaches the trainer that NNI's step asks for."""

    def __init__(self, channels: int, layers: int) -> None:
        strategy = nni_strategy.DARTS(gradient_clip_val=5.0)
        training = Training()
        training.set_model(strategy.mutate_model(nni_hub.DARTS(channels, layers, "cifar")))
        self.module = strategy.configure_oneshot_module(training)
        few = {"train": step.batch(2, 0), "val": step.batch(2, 1)}
        trainer = pl.Trainer(
            max_steps=2,  # optimizer steps: one on the alphas, one on the weights
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(self.module, DataLoader([few], batch_size=None))
        self.module.train()

    def step(self, train: Sequence[Tensor], search: Sequence[Tensor]) -> Tensor:
        """Takes batches `(images, labels)` of both halves; the training loss."""
        return self.module.training_step({"train": train, "val": search}, 1).detach()


def make(variant: str, channels: int, layers: int) -> Any:
    torch.manual_seed(0)
    return NniSearch(channels, layers) if variant == "step of NNI" else step.make(variant, channels, layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--paper-rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    results: dict[str, Any] = {
        "commit": commit,
        "nni": version("nni"),
        "torch": torch.__version__,
        "pytorch-lightning": pl.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "threads": options.threads,
        "sizes": step.SIZES,
    }
    runs = {
        "small": (("step of NNI", "port", "fast"), options.rounds),
        "paper": (("step of NNI", "fast"), options.paper_rounds),
    }
    for size, (variants, rounds) in runs.items():
        if rounds:
            results[size] = step.times(variants, step.SIZES[size], rounds, make, "step of NNI")
            print(size, json.dumps(results[size]), flush=True)
            Path(__file__).with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
