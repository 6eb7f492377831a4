"""A small task with a known answer: which of two points on a line an example was drawn at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_nas.trial import Candidate

SAMPLE = {"width": 4}


def dataset(n: int = 20) -> TensorDataset:
    """`n` examples (4,) of two classes, far apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    return TensorDataset(torch.randn(n, 4, generator=generator) + 6.0 * labels[:, None] - 3, labels)


def numbers(n: int = 20) -> TensorDataset:
    """`n` examples (4,) with the sum of each as target (1,)."""
    (inputs, _) = dataset(n).tensors
    return TensorDataset(inputs, inputs.sum(1, keepdim=True))


def loader(data: TensorDataset | None = None, batch_size: int = 8, shuffle: bool = False) -> DataLoader[Any]:
    return DataLoader(data or dataset(), batch_size, shuffle)


def build(width: int = 4, outputs: int = 2) -> nn.Module:
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, outputs))


def candidate(directory: Path, make: Callable[[], Any] = build, number: int = 0, **sample: Any) -> Candidate:
    return Candidate(number, {**SAMPLE, **sample}, make, directory)


def go_on(step: int, metrics: Any) -> bool:
    return True


def train(model: nn.Module, epochs: int = 1) -> float:
    """Trains with Adam and returns the accuracy on the training data."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(epochs):
        for inputs, labels in loader(shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    return accuracy(model)


@torch.no_grad()
def accuracy(model: nn.Module) -> float:
    inputs, labels = dataset().tensors
    model.eval()
    right: Tensor = model(inputs).argmax(1) == labels
    return right.float().mean().item()
