"""The joint search, and its winner in a process that knows torch alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "joint"


@pytest.mark.slow
def test_the_winner_of_a_joint_search_scores_the_same_without_the_library(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE / "joint.py"), "--trials=3", "--epochs=2"]
    command += [f"--directory={tmp_path / 'search'}", f"--output={tmp_path / 'joint.json'}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "joint.json").read_text())
    assert figures["sample"].keys() >= {"lr", "batch_size", "channels", "conv"}
    assert len(figures["val_acc_alone"]) == 2
    assert figures["val_acc_alone"] == figures["val_acc_in_the_search"]
    assert figures["imported_alone"] == []

    # It is the training that is repeated, not the score that was copied: another start, another score.
    alone = tmp_path / "search" / "alone"
    start = torch.load(alone / "start.pt", weights_only=True)
    start["weights"] = {name: -value for name, value in start["weights"].items()}
    torch.save(start, alone / "start.pt")
    again = subprocess.run([sys.executable, "-I", alone / "rerun.py"], capture_output=True, text=True)
    assert json.loads(again.stdout)["val_acc"] != figures["val_acc_in_the_search"], again.stderr
