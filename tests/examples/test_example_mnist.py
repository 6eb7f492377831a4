"""The MNIST examples run from end to end, on a small stand-in for MNIST in torchvision's layout."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_nas.digits import digits

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "mnist"


def write_idx(path: Path, array: np.ndarray) -> None:
    """MNIST's format: magic number with the number of axes, the sizes, the bytes."""
    header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The embedded digits, blown up to 28x28 and repeated, as 5,400 images for training and 300 for testing."""
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images, labels = digits()
    blown = torch.nn.functional.interpolate(images, (28, 28), mode="bilinear")[:, 0] * 255
    for name, pick in (("train", torch.arange(5400) % 1497), ("t10k", torch.arange(1497, 1797))):
        write_idx(raw / f"{name}-images-idx3-ubyte", blown[pick].numpy())
        write_idx(raw / f"{name}-labels-idx1-ubyte", labels[pick].numpy())
    return tmp_path / "root"


@pytest.mark.slow
@pytest.mark.parametrize("script", ["search.py", "search_lightning.py"])
def test_an_example_ends_with_code_that_scores_what_the_model_scores(
    script: str, root: Path, tmp_path: Path
) -> None:
    command = [sys.executable, str(EXAMPLES / script), f"--root={root}", f"--directory={tmp_path / 'runs'}"]
    command += ["--trials=2", "--images=300", "--epochs=1", "--retrain-epochs=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    here, there = re.findall(r"([\d.]+)%", done.stdout.splitlines()[-1])
    assert here == there
    assert float(here) > 80
    assert (tmp_path / "runs" / "best" / "net.py").exists()
    assert not list(tmp_path.glob("lightning_logs"))
