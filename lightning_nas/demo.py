"""`lightning-nas demo`: Retiarii's quick start on real images that come with the package, in about a minute."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import lightning_nas.nn as nn
from lightning_nas.digits import digits_loaders, split_digits
from lightning_nas.errors import ExportError
from lightning_nas.evaluators import Classification
from lightning_nas.experiment import Experiment
from lightning_nas.mutables import model_wrapper
from lightning_nas.strategies import Random

_TRIALS = 12
_EPOCHS = 25


class DepthwiseSeparableConv(nn.Module):
    """A 3x3 convolution of each channel alone, then a 1x1 convolution across channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, kernel_size=3, groups=in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


@model_wrapper
class Net(nn.Module):
    """The quick start's network for images of 8x8 instead of 28x28: 18 networks in one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.LayerChoice([nn.Conv2d(32, 64, 3, 1), DepthwiseSeparableConv(32, 64)])
        self.dropout1 = nn.Dropout(nn.ValueChoice([0.25, 0.5, 0.75], label="dropout"))
        self.dropout2 = nn.Dropout(0.5)
        feature = nn.ValueChoice([64, 128, 256], label="feature")
        self.fc1 = nn.Linear(256, feature)
        self.fc2 = nn.Linear(feature, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(self.conv2(x), 2)
        x = torch.flatten(self.dropout1(x), 1)
        x = self.fc2(self.dropout2(F.relu(self.fc1(x))))
        return F.log_softmax(x, dim=1)


def run_demo(directory: str | Path, trials: int | None = None) -> None:
    """Searches, trains and exports a network for handwritten digits, and says what it does.

    Run again with the same directory it goes on or, if the trials are done, tells the result again.

    Args:
        directory: where everything is written.
        trials: how many of the 18 networks to try, 1 or more; 12 if None.

    Raises:
        ExperimentError: if the directory cannot be used or holds another experiment, or no trial completed.
        ExportError: if the winner could not be exported as code and ONNX.
    """
    trials = trials or _TRIALS
    train, val = digits_loaders()
    experiment = Experiment(
        Net(),
        Classification(train_dataloaders=train, val_dataloaders=val, max_epochs=_EPOCHS),
        Random(dedup=True),
        directory=directory,
        max_trials=trials,
        concurrency=2,
        objective="val_acc",
    )
    size = experiment.space.size
    print(
        f"Searching {size} networks for the one that reads 8x8 images of handwritten digits best:\n"
        f"{min(trials, size)} of them train for {_EPOCHS} epochs on 1,197 images, two at a time."
    )
    experiment.run()
    _tell(experiment, Path(directory))


def _tell(experiment: Experiment, directory: Path) -> None:
    """Prints how good the winner is on images never seen before, and where it lies."""
    (model,) = experiment.export_top_models(formatter="instance")
    (sample,) = experiment.export_top_models(formatter="dict")
    best = directory / "best"
    manifest = json.loads((best / "manifest.json").read_text()) if (best / "manifest.json").exists() else {}
    for formatter in ("code", "onnx"):
        if formatter not in manifest:
            raise ExportError(f"The winner was not exported as {formatter}; {best / 'export.log'} says why.")
    code, onnx = (max(manifest[name]["differences"].values()) for name in ("code", "onnx"))
    print(
        f"""
The winner has {", ".join(f"{label}={value}" for label, value in sample.items())}.
On the 300 test images, which the search has never seen, it is right in {_accuracy(model):.1%}. It is yours in

  {best}/sample.json   what was chosen
  {best}/net.py        as code that needs PyTorch alone; proved equal (difference {code:.1g} at most)
  {best}/weights.pt    its trained weights
  {best}/net.onnx      as ONNX; proved equal (difference {onnx:.1g} at most)

To see all trials:         lightning-nas show {directory}, or as a page: lightning-nas view {directory}
To mail them around:       lightning-nas report {directory}
To export the best three:  lightning-nas export {directory} --top 3 --format code"""
    )


@torch.no_grad()
def _accuracy(model: nn.Module) -> float:
    """The share of the test images, in [0, 1], whose digit `model` names."""
    images, labels = split_digits().test.tensors
    return (model.eval()(images).argmax(1) == labels).float().mean().item()
