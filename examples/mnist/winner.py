"""Retrains the winner on the whole training set, exports it as code, and scores the export on its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from mnist import accuracy, load, train_epoch
from torch.utils.data import DataLoader

from lightning_nas import Experiment
from lightning_nas.export import export_model

VERIFY = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from net import Net
net = Net()
net.load_state_dict(torch.load(sys.argv[1] + "/weights.pt"))
images, labels = torch.load(sys.argv[1] + "/test.pt")
net.eval()
with torch.no_grad():
    right = sum((net(x).argmax(1) == y).sum().item() for x, y in zip(images.split(500), labels.split(500)))
assert "lightning_nas" not in sys.modules
print(right / len(labels))
"""


def retrain_and_verify(net: torch.nn.Module, exp: Experiment, root: Path, epochs: int) -> None:
    """Prints the test accuracy of the winner, retrained, here and in a process without lightning-nas."""
    data = load(root)
    torch.manual_seed(0)
    model = net.build(exp.best.sample)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        train_epoch(model, DataLoader(data["full"], batch_size=64, shuffle=True), optimizer)
        schedule.step()
        print(f"retraining the winner: epoch {epoch + 1} of {epochs} done", flush=True)

    model.cpu()
    here = accuracy(model, data["test"])
    folder = exp.directory / "retrained"
    path = export_model(
        net,
        exp.best.sample,
        formatter="code",
        directory=folder,
        weights=model.state_dict(),
        inputs=(data["test"].tensors[0][:4],),
    )
    torch.save(data["test"].tensors, folder / "test.pt")
    command = [sys.executable, "-I", "-c", VERIFY, str(folder)]
    there = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"winner {exp.best.sample}: test accuracy {here:.2%}; from {path} alone {there:.2%}")
    if here != there:
        raise SystemExit("The exported code does not score what the model scores.")
