"""Two ranks sample the same paths, and train them as one rank does on whole batches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from small_search import Lit, Net, fit, loader, trainer

from lightning_nas import SearchError
from lightning_nas.oneshot import GDAS, SPOS


class _Writes:
    """Writes what each rank has at the end, and the paths it took."""

    folder: Path
    paths: list[Any]

    def on_train_batch_start(self, *arguments: Any) -> None:
        super().on_train_batch_start(*arguments)  # type: ignore[misc]
        paths = [(mixed.hard, str(mixed.path)) for mixed in self.supernet.relaxed]  # type: ignore[attr-defined]
        self.paths = [*getattr(self, "paths", []), paths]

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        alphas = {label: alpha.detach() for label, alpha in self.alphas.items()}  # type: ignore[attr-defined]
        state = {"alphas": alphas, "weights": pl_module.state_dict(), "paths": self.paths}
        torch.save(state, self.folder / f"{trainer.world_size}-{trainer.global_rank}.pt")


class WritingGDAS(_Writes, GDAS):
    """See `_Writes`."""


class WritingSPOS(_Writes, SPOS):
    """See `_Writes`."""


def searched(folder: Path, made: Any, ranks: int, strategy: str) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    made.folder = folder
    options = {"devices": ranks, "strategy": strategy, "max_epochs": 3}
    fit(trainer(made, **options), Lit(Net(dropout=0, norm=False)), loader(32 // ranks))
    return [torch.load(folder / f"{ranks}-{rank}.pt") for rank in range(ranks)]


@pytest.mark.slow
@pytest.mark.parametrize("method", [WritingGDAS, WritingSPOS])
def test_two_ranks_train_the_paths_of_one(tmp_path: Path, method: Any) -> None:
    with mock.patch.dict(os.environ):  # Lightning leaves MASTER_PORT and the like behind
        first, second = searched(tmp_path, method(), 2, "ddp_spawn_find_unused_parameters_true")
    (alone,) = searched(tmp_path, method(), 1, "auto")
    assert first["paths"] == second["paths"] == alone["paths"]
    assert len({str(path) for path in alone["paths"]}) > 2
    for name, alpha in first["alphas"].items():
        torch.testing.assert_close(alpha, second["alphas"][name], rtol=0, atol=0)
        torch.testing.assert_close(alpha, alone["alphas"][name], rtol=1e-3, atol=1e-5)
    for name, weight in first["weights"].items():
        torch.testing.assert_close(weight, alone["weights"][name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_ddp_that_waits_for_all_gradients_is_refused_before_training(tmp_path: Path) -> None:
    with (
        mock.patch.dict(os.environ),
        pytest.raises(Exception, match="ddp_find_unused_parameters_true") as raised,
    ):
        searched(tmp_path, WritingSPOS(), 2, "ddp_spawn")
    assert "SearchError" in str(raised.value) or isinstance(raised.value, SearchError)
