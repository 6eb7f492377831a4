"""Trains a network of torchvision's on CIFAR-10: a script for one trial, or to be run by hand.

    python main.py --model resnet50 --initial_lr 0.01        # by hand
    lightning-nas create --config config.yml                 # as the trials of a search

The same file runs under NNI (`nnictl create --config config.yml`). Each epoch reports the accuracy, in [0, 1], on
training images that were held out, and the end reports it once more; `--held_out 0` trains on all of them and
reports the accuracy on the test images instead.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor, nn

try:
    import nni
except ImportError:  # by hand, and NNI is not installed
    from lightning_nas.hpo.shim import nni

sys.path.append(str(Path(__file__).resolve().parents[1]))
from data import Batches, Cifar10

MODELS = (
    "resnet18",
    "resnet50",
    "vgg16",
    "vgg16_bn",
    "densenet121",
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "mobilenet_v2",
    "resnext50_32x4d",
    "mnasnet1_0",
)


def network(name: str, num_classes: int = 10) -> nn.Module:
    """A network of torchvision's, untrained, whose stem leaves a 32x32 image its size.

    The first convolution has stride 1 (in the ResNets and DenseNet, kernel 3 too), and a pooling in the stem goes.
    VGG, which has no stem, gets one linear layer in place of its three, as 32x32 leaves 1x1 for them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torchvision's own initialisation
        model: Any = getattr(torchvision.models, name)(weights=None, num_classes=num_classes)
    family = "".join(itertools.takewhile(str.isalpha, name))
    if family in ("resnet", "resnext"):
        model.conv1, model.maxpool = _conv3x3(model.conv1), nn.Identity()
    elif family == "densenet":
        model.features.conv0, model.features.pool0 = _conv3x3(model.features.conv0), nn.Identity()
    elif family == "vgg":
        model.avgpool, model.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, num_classes)
    elif family == "squeezenet":
        model.features[0].stride, model.features[0].padding = (1, 1), (1, 1)
        model.features[2] = nn.Identity()
    elif family == "shufflenet":
        model.conv1[0].stride, model.maxpool = (1, 1), nn.Identity()
    elif family == "mobilenet":
        model.features[0][0].stride = (1, 1)
    elif family == "mnasnet":
        model.layers[0].stride = (1, 1)
    return model


def _conv3x3(old: nn.Conv2d) -> nn.Conv2d:
    conv = nn.Conv2d(3, old.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def optimizer_of(model: nn.Module, args: argparse.Namespace) -> torch.optim.Optimizer:
    settings = {"lr": args.initial_lr, "weight_decay": args.weight_decay}
    if args.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=args.momentum, **settings)
    if args.optimizer == "rmsprop":
        return torch.optim.RMSprop(model.parameters(), momentum=args.momentum, **settings)
    return torch.optim.Adam(model.parameters(), **settings)


def train(
    model: nn.Module, batches: Batches, optimizer: torch.optim.Optimizer, schedule: Any, grad_clip: float
) -> float:
    """One epoch; the mean loss of its batches."""
    model.train()
    losses: list[Tensor] = []
    for images, labels in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        if grad_clip > 0:
            nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean().item()


@torch.no_grad()
def accuracy(model: nn.Module, batches: Batches) -> float:
    """The share of images, in [0, 1], whose class is found."""
    model.eval()
    right = torch.cat([model(images).argmax(1) == labels for images, labels in batches])
    return right.float().mean().item()


def main(args: argparse.Namespace) -> float:
    """Trains; the accuracy after the last epoch."""
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    data = Cifar10(
        args.data,
        args.batch_size,
        args.held_out,
        args.cutout,
        args.train_examples,
        args.test_examples,
        seed=args.seed,
    )
    data.device = device
    data.setup()
    batches = data.train_dataloader()
    judged = data.val_dataloader() if args.held_out else data.test_dataloader()
    model = network(args.model, data.num_classes).to(device)
    optimizer = optimizer_of(model, args)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, args.epochs * len(batches), eta_min=args.ending_lr
    )
    top1 = 0.0
    for epoch in range(1, args.epochs + 1):
        batches.sampler.set_epoch(epoch)
        loss = train(model, batches, optimizer, schedule, args.grad_clip)
        top1 = accuracy(model, judged)
        print(f"epoch {epoch}/{args.epochs}: loss {loss:.4f}, accuracy {top1:.4f}", flush=True)
        nni.report_intermediate_result(top1)
    nni.report_final_result(top1)
    return top1


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    add("--initial_lr", default=0.1, type=float, help="initial learning rate")
    add("--weight_decay", default=5e-4, type=float, help="weight decay")
    add("--ending_lr", default=0.0, type=float, help="the learning rate to which a cosine falls")
    add("--cutout", default=0, type=int, help="side of the square cut out in augmentation, in pixels")
    add("--batch_size", default=128, type=int, help="batch size")
    add("--epochs", default=300, type=int, help="epochs")
    add("--optimizer", default="sgd", choices=["sgd", "rmsprop", "adam"])
    add("--momentum", default=0.9, type=float, help="momentum (not of adam)")
    add("--model", default="resnet18", choices=MODELS)
    add("--grad_clip", default=0.0, type=float, help="largest norm of the gradient; 0: any")
    add("--seed", default=42, type=int, help="of weights, order, augmentation and which images are held out")
    add(
        "--data",
        default="digits",
        help="torchvision's folder, a folder with train/<class>/ and test/<class>/, a .npz of JPEG streams, or "
        "`digits`: 1,797 small images that come with lightning_nas",
    )
    add(
        "--held_out",
        default=0.1,
        type=float,
        help="share of the training images that judges; 0: test images do",
    )
    add("--train_examples", type=int, help="training images, held out ones included; all, if not given")
    add("--test_examples", type=int, help="test images; all, if not given")
    return result


if __name__ == "__main__":
    options = parser().parse_args()
    main(nni.utils.merge_parameter(options, nni.get_next_parameter()))
