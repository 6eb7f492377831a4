"""Two ranks on half batches search as one rank on whole batches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from small_search import Lit, Net, fit, loader, trainer
from torch import Tensor

from lightning_nas import Darts


class Writes(Darts):
    """Writes what each rank has at the end: a spawned process keeps it otherwise."""

    def __init__(self, folder: Path, order: int) -> None:
        super().__init__(order=order, learning_rate=0.05, guard=False)
        self.folder = folder

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        alphas = {label: alpha.detach() for label, alpha in self.alphas.items()}
        path = self.folder / f"{trainer.world_size}-{trainer.global_rank}.pt"
        torch.save({"alphas": alphas, "weights": pl_module.state_dict(), "sample": self.sample()}, path)


def searched(folder: Path, ranks: int, order: int) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    module = Lit(Net(dropout=0, norm=False))
    options = {"devices": ranks, "strategy": "ddp_spawn" if ranks > 1 else "auto", "max_epochs": 2}
    fit(trainer(Writes(folder, order), **options), module, loader(32 // ranks))
    return [torch.load(folder / f"{ranks}-{rank}.pt") for rank in range(ranks)]


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], **tolerances: float) -> None:
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerances)


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2])
def test_two_ranks_search_as_one_does(tmp_path: Path, order: int) -> None:
    # Lightning leaves MASTER_PORT and the like behind.
    with mock.patch.dict(os.environ):
        first, second = searched(tmp_path, 2, order)
    (alone,) = searched(tmp_path, 1, order)
    assert_close(first["alphas"], second["alphas"], rtol=0, atol=0)
    assert first["sample"] == second["sample"] == alone["sample"]
    assert_close(first["alphas"], alone["alphas"], rtol=1e-3, atol=1e-5)
    assert_close(first["weights"], alone["weights"], rtol=1e-3, atol=1e-5)
    assert any(bool(alpha.abs().max() > 0.01) for alpha in alone["alphas"].values())
