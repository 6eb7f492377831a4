"""The embedded digits: that they are all there and split the same everywhere."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import torch

import lightning_nas
from lightning_nas.digits import digits, digits_loaders, split_digits

DATA = Path(lightning_nas.__file__).parent / "data"


def test_the_readme_gives_the_files_checksum() -> None:
    content = (DATA / "digits.csv.gz").read_bytes()
    readme = (DATA / "README.md").read_text()
    assert f"| {len(content):,} | `{hashlib.sha256(content).hexdigest()}` |" in readme


def test_there_are_as_many_digits_as_published() -> None:
    # Counts of the UCI description, optdigits.tes.
    images, labels = digits()
    assert (images.shape, images.dtype) == ((1797, 1, 8, 8), torch.float32)
    assert (labels.shape, labels.dtype) == ((1797,), torch.int64)
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (images.min(), images.max()) == (0, 1)
    assert torch.equal(images * 16, (images * 16).round())


def test_the_first_digit_looks_like_a_zero() -> None:
    images, labels = digits()
    assert labels[0] == 0
    ink = images[0, 0] > 0.5
    assert not ink[3:5, 3:5].any()
    assert ink.sum() > 15


def test_the_splits_are_fixed() -> None:
    splits = split_digits()
    assert [len(part) for part in splits] == [1197, 300, 300]
    assert [part.tensors[1][:8].tolist() for part in splits] == [
        [2, 8, 2, 6, 6, 7, 1, 9],
        [5, 3, 9, 6, 1, 6, 0, 6],
        [8, 8, 2, 2, 2, 9, 8, 8],
    ]


def test_the_splits_share_no_image_of_the_file() -> None:
    together = torch.cat([part.tensors[0] for part in split_digits()]).flatten(1)
    everything = digits()[0].flatten(1)
    assert sorted(together.tolist()) == sorted(everything.tolist())


def test_every_class_is_in_every_split() -> None:
    for part in split_digits():
        assert part.tensors[1].bincount(minlength=10).min() >= 0.07 * len(part)


def test_loaders_cover_training_and_validation() -> None:
    train, val = digits_loaders(batch_size=100)
    assert [sum(len(labels) for _, labels in loader) for loader in (train, val)] == [1197, 300]
    assert len(next(iter(train))[0]) == 100


def test_importing_it_loads_no_torch() -> None:
    program = "import sys, lightning_nas.digits; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
