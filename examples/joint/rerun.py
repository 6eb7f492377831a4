"""Trains the winner of joint.py again: torch alone, no lightning_nas, no Lightning.

On the same machine with the same number of threads the score is the trial's to the last bit: the weights begin as
they did there, and the random numbers go on from the same state in the same order, which is for each epoch the
order of the images, dropout, and the number that a DataLoader draws when validation begins.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parent))
from net import Net

FOLDER = Path(__file__).resolve().parent
settings = json.loads((FOLDER / "settings.json").read_text())
images = torch.load(FOLDER / "images.pt", weights_only=True)
start = torch.load(FOLDER / "start.pt", weights_only=True)

net = Net()
net.load_state_dict(start["weights"])
torch.set_rng_state(start["random"])
train = DataLoader(TensorDataset(*images["train"]), settings["batch_size"], shuffle=True)
val = DataLoader(TensorDataset(*images["val"]), 300)
optimizer = torch.optim.SGD(net.parameters(), settings["lr"], momentum=0.9)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings["epochs"])
scores = []
for _ in range(settings["epochs"]):
    net.train()
    for x, y in train:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        ((x, y),) = val
        scores.append((net(x).argmax(1) == y).float().mean().item())
    schedule.step()

imported = [name for name in ("lightning_nas", "pytorch_lightning", "lightning") if name in sys.modules]
print(json.dumps({"val_acc": scores, "imported": imported}))
