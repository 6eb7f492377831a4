"""MNIST in memory, and a plain training loop: what the two searches share."""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision import datasets

VALIDATION_IMAGES = 5_000
"""The last images of the training set: the search is scored on them and never sees the test set."""


def unpacked(root: str | Path) -> Path:
    """A root in which torchvision finds MNIST: `root`, or a copy in the temporary folder if it is read-only.

    With the four .gz files in place nothing is downloaded, they are checked and unpacked (55 MB).
    """
    root = Path(root).resolve()
    raw = root / "MNIST" / "raw"
    # The permission bits count, which do not bind a superuser but say what is wanted.
    is_read_only = raw.exists() and not (os.access(raw, os.W_OK) and raw.stat().st_mode & stat.S_IWUSR)
    if is_read_only and not (raw / "train-images-idx3-ubyte").exists():
        root = Path(tempfile.gettempdir()) / "lightning-nas-mnist"
        (root / "MNIST" / "raw").mkdir(parents=True, exist_ok=True)
        for path in raw.iterdir():
            shutil.copyfile(path, root / "MNIST" / "raw" / path.name)
    datasets.MNIST(root, download=True)
    return root


def load(root: Path) -> dict[str, TensorDataset]:
    """The training, validation, full training and test images, normalised, shape (n, 1, 28, 28)."""
    parts = {}
    for is_train in (True, False):
        data = datasets.MNIST(root, train=is_train)
        images = (data.data.float().unsqueeze(1) / 255 - 0.1307) / 0.3081
        parts["full" if is_train else "test"] = TensorDataset(images, data.targets)
    images, labels = parts["full"].tensors
    parts["train"] = TensorDataset(images[:-VALIDATION_IMAGES], labels[:-VALIDATION_IMAGES])
    parts["validation"] = TensorDataset(
        images[-VALIDATION_IMAGES:].clone(), labels[-VALIDATION_IMAGES:].clone()
    )
    return parts


def subset(data: TensorDataset, n: int) -> TensorDataset:
    """The first `n` examples, in memory of their own, so that only they travel to a trial."""
    return TensorDataset(*(tensor[:n].clone() for tensor in data.tensors))


def train_epoch(model: torch.nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer) -> None:
    """One pass over `loader`, minimising the negative log-likelihood."""
    device = next(model.parameters()).device
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        F.nll_loss(model(images.to(device)), labels.to(device)).backward()
        optimizer.step()


@torch.no_grad()
def accuracy(model: torch.nn.Module, data: TensorDataset) -> float:
    """The share of `data` that `model` names correctly, in [0, 1]."""
    device = next(model.parameters()).device
    model.eval()
    right = sum(
        (model(images.to(device)).argmax(1) == labels.to(device)).sum().item()
        for images, labels in DataLoader(data, batch_size=500)
    )
    return right / len(data)


def arguments(description: str) -> argparse.Namespace:
    """The options of both searches."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--root", required=True, help="folder that holds MNIST/raw/ (the four .gz files suffice)"
    )
    parser.add_argument(
        "--directory", default=None, help="where the experiment is kept (default: runs/<time>)"
    )
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument(
        "--images", type=int, default=10_000, help="training images per trial (default: 10000)"
    )
    parser.add_argument("--epochs", type=int, default=2, help="epochs per trial (default: 2)")
    parser.add_argument(
        "--retrain-epochs", type=int, default=3, help="epochs of the winner, on all 60,000 images"
    )
    options = parser.parse_args()
    options.root = unpacked(options.root)
    return options
