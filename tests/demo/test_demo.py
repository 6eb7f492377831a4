"""The demo: its space, and that a newcomer gets what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_nas import demo
from lightning_nas.digits import split_digits

# What a reader would do with the files, in a process that cannot import this package.
PROGRAM = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from net import Net
net = Net().eval()
net.load_state_dict(torch.load(sys.argv[1] + "/weights.pt"))
images, labels = torch.load(sys.argv[2])
print(f"{(net(images).argmax(1) == labels).float().mean().item():.1%}")
assert "lightning_nas" not in sys.modules
"""


def test_each_of_the_18_networks_reads_images_of_the_digits_size() -> None:
    net = demo.Net()
    samples = list(net.search_space.enumerate())
    assert len(samples) == net.search_space.size == 18
    for sample in samples:
        assert net.build(sample)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.slow
def test_the_demo_ends_with_files_that_do_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_EPOCHS", 3)
    directory = tmp_path / "demo"
    demo.run_demo(directory, trials=1)
    said = capsys.readouterr().out
    assert "Searching 18 networks" in said
    best = directory / "best"
    for name in ("sample.json", "net.py", "weights.pt", "net.onnx"):
        assert f"{best / name} " in said
        assert (best / name).stat().st_size > 0
    torch.save(split_digits().test.tensors, tmp_path / "test.pt")
    command = [sys.executable, "-I", "-c", PROGRAM, str(best), str(tmp_path / "test.pt")]
    accuracy = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert f"it is right in {accuracy}." in said
    assert float(accuracy.rstrip("%")) > 50

    demo.run_demo(directory, trials=1)  # nothing is trained twice
    assert capsys.readouterr().out.split("The winner has")[1] == said.split("The winner has")[1]
