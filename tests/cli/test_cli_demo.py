"""The demo from the first command to the exported winners, as a newcomer types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def lightning_nas(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lightning_nas.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_ends_with_a_winner_that_show_and_export_find(tmp_path: Path) -> None:
    demo = lightning_nas(tmp_path, "demo", "--trials", "2")
    assert demo.returncode == 0, demo.stderr
    assert "The winner has conv2=" in demo.stdout
    best = tmp_path / "demo" / "best"
    assert {"sample.json", "net.py", "weights.pt", "net.onnx", "manifest.json"} <= {
        p.name for p in best.iterdir()
    }

    shown = lightning_nas(tmp_path, "show", "demo").stdout
    assert "2 trials (2 completed)" in shown
    assert "val_acc=0.9" in shown

    exported = lightning_nas(tmp_path, "export", "demo", "--top", "3", "--format", "code")
    assert exported.returncode == 0, exported.stderr
    first, second = map(Path, exported.stdout.split())
    assert (tmp_path / first).read_text() == (best / "net.py").read_text()
    assert (tmp_path / second).is_file()


@pytest.mark.slow
def test_the_demo_refuses_the_folder_of_another_experiment_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("not a folder")
    demo = lightning_nas(tmp_path, "demo")
    assert (demo.returncode, demo.stderr.count("\n")) == (2, 1), demo.stderr
    assert "demo is a file" in demo.stderr
