"""A search that takes milliseconds: a LightningModule with two choices, its data and its Trainer."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import lightning_nas.nn as nn
from lightning_nas import Darts
from lightning_nas.oneshot import Step


class Net(nn.Module):
    def __init__(self, dropout: float = 0.3, norm: bool = True) -> None:
        super().__init__()
        self.layer = nn.LayerChoice([nn.Linear(8, 8), nn.Identity(), nn.Zero()], label="layer")
        self.inputs = nn.InputChoice(2, label="inputs")
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.inputs([self.layer(x).relu(), x])
        return self.head(self.norm(self.dropout(mixed)))


class Steps:
    """What a user writes; mixed with the LightningModule of either root."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])  # type: ignore[attr-defined]
        self.log("train_loss", loss)  # type: ignore[attr-defined]
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])  # type: ignore[attr-defined]
        self.log("val_loss", loss, sync_dist=True)  # type: ignore[attr-defined]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.05, momentum=0.9, weight_decay=3e-4)  # type: ignore[attr-defined]
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)]


class Lit(Steps, pl.LightningModule):
    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = Net() if net is None else net


def data(n: int = 128) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 8, generator=generator)
    return TensorDataset(x, (x @ torch.randn(8, 4, generator=generator)).argmax(1))


def loader(batch_size: int = 16, n: int = 128, **options: Any) -> DataLoader[Any]:
    return DataLoader(data(n), batch_size, **{"shuffle": True, **options})


def trainer(*callbacks: Any, lightning: Any = pl, **options: Any) -> Any:
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": any("Checkpoint" in type(c).__name__ for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
    }
    return lightning.Trainer(callbacks=list(callbacks), **{**quiet, **options})


def search(darts: Any, module: Any = None, *, data: Any = None, ckpt_path: Any = None, **options: Any) -> Any:
    """Seeds, searches and returns the trainer; a function makes the module after the seeding."""
    torch.manual_seed(1)
    module = Lit() if module is None else module if isinstance(module, nn.Module) else module()
    runner = trainer(darts, *options.pop("callbacks", ()), **options)
    fit(runner, module, loader() if data is None else data, loader(64, shuffle=False), ckpt_path=ckpt_path)
    return runner


def fit(runner: Any, module: Any, *data: Any, **options: Any) -> None:
    """`runner.fit`, without Lightning's advice on workers and what torch says of Lightning's own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner.fit(module, *data, **options)


def quiet_lit() -> Lit:
    """A module without dropout and batch-norm: what it computes does not depend on how batches are cut."""
    return Lit(Net(dropout=0, norm=False))


class Watching(Darts):
    """Keeps the gradients of each step and the weights before it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[dict[str, Any]] = []

    def search_gradients(self, loss_of: Any, search_batch: Any, step: Step) -> list[Tensor]:
        before = copy.deepcopy({label: alpha.detach().clone() for label, alpha in self.alphas.items()})
        weights = {name: p.detach().clone() for name, p in step.module.named_parameters()}
        gradients = super().search_gradients(loss_of, search_batch, step)
        after = dict(step.module.named_parameters())
        self.seen.append(
            {
                "batch": search_batch,
                "train_batch": step.train_batch,
                "alphas": before,
                "gradients": dict(zip(self.alphas, gradients)),
                "weights": weights,
                "weights_stood_still": all(torch.equal(weights[n], after[n]) for n in weights),
            }
        )
        return gradients
