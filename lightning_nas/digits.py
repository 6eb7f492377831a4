"""The handwritten digits that come with the package: 1,797 real images, for demonstrations and tests.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998; see `data/README.md`.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader, TensorDataset

_FILE = Path(__file__).parent / "data" / "digits.csv.gz"
_VAL, _TEST = 300, 300


class Splits(NamedTuple):
    """The digits for training (1,197), validation (300) and testing (300), as pairs (image, label)."""

    train: TensorDataset
    val: TensorDataset
    test: TensorDataset


def digits() -> tuple[Tensor, Tensor]:
    """All digits in the file's order.

    Returns:
        images, float32 of shape (1797, 1, 8, 8), in steps of 1/16 from 0 (paper) to 1 (ink), and labels,
        int64 of shape (1797,), from 0 to 9.
    """
    import torch

    with gzip.open(_FILE, "rt") as file:
        rows = np.loadtxt(file, dtype=np.int64, delimiter=",")
    images = torch.from_numpy(rows[:, :64]).reshape(-1, 1, 8, 8).float() / 16
    return images, torch.from_numpy(rows[:, 64].copy())


def split_digits() -> Splits:
    """The digits, shuffled and split once and for all.

    The order is a permutation drawn from `numpy.random.RandomState(0)`, whose stream numpy keeps the same
    for good (NEP 19): the first 1,197 are for training, then 300 for validation and 300 for testing.
    """
    from torch.utils.data import TensorDataset

    images, labels = digits()
    order = np.random.RandomState(0).permutation(len(labels))
    parts = np.split(order, [len(order) - _VAL - _TEST, len(order) - _TEST])
    return Splits(*(TensorDataset(images[part], labels[part]) for part in parts))


def digits_loaders(
    batch_size: int = 64,
) -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
    """Loaders for training (shuffled) and validation.

    Raises:
        ValueError: unless `batch_size` is positive.
    """
    from torch.utils.data import DataLoader

    splits = split_digits()
    return DataLoader(splits.train, batch_size, shuffle=True), DataLoader(splits.val, 300)
