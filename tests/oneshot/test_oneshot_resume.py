"""A search that goes on from a checkpoint equals one that was never stopped, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from small_search import Lit, Net, loader, search
from torch import Tensor

import lightning_nas.nn as nn
from lightning_nas import Darts, SearchError


def searched(
    folder: Path, every: int | None, ckpt_path: Path | None = None, **options: Any
) -> dict[str, Tensor]:
    """Alphas and weights after two epochs of four batches; a checkpoint after each step or each epoch."""
    darts = Darts(order=options.pop("order", 1), learning_rate=0.05, guard=False)
    # Half of 112 examples: the last batch of an epoch is a short one.
    data = loader(16, n=112, num_workers=options.pop("workers", 0))
    kept = ModelCheckpoint(folder, every_n_train_steps=every, save_top_k=-1, filename="{epoch}-{step}")
    runner = search(
        darts,
        Lit,
        data=data,
        callbacks=[kept],
        ckpt_path=ckpt_path,
        max_epochs=2,
        num_sanity_val_steps=0,
        **options,
    )
    state = dict(runner.lightning_module.state_dict())
    return {**state, **{f"alpha {label}": alpha.detach() for label, alpha in darts.alphas.items()}}


def differences(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.mark.parametrize("options", [{}, {"order": 2}, {"accumulate_grad_batches": 3}], ids=str)
def test_from_any_step(tmp_path: Path, options: dict[str, Any]) -> None:
    whole = searched(tmp_path / "whole", 1, **options)
    checkpoints = sorted((tmp_path / "whole").iterdir())
    assert len(checkpoints) == (8 if "accumulate_grad_batches" not in options else 4)
    for checkpoint in checkpoints:
        again = searched(tmp_path / "again", 1, checkpoint, **options)
        assert differences(whole, again) == [], checkpoint.name


def test_from_the_end_of_an_epoch(tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole", None)
    (first,) = (tmp_path / "whole").glob("epoch=0*")
    assert differences(whole, searched(tmp_path / "again", None, first)) == []


@pytest.mark.slow
def test_with_workers_that_load_the_data(tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole", 3, workers=1)
    for checkpoint in (tmp_path / "whole").iterdir():
        assert differences(whole, searched(tmp_path / "again", 3, checkpoint, workers=1)) == []


def test_the_history_and_the_derived_sample_go_on_too(tmp_path: Path) -> None:
    kept = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")
    whole = Darts(learning_rate=0.05)
    search(whole, Lit, callbacks=[kept], max_epochs=3)
    again = Darts(learning_rate=0.05)
    search(again, Lit, ckpt_path=tmp_path / "epoch=1.ckpt", max_epochs=3)
    assert whole.history == again.history
    assert whole.sample() == again.sample()


def test_given_search_data_are_resumed_too(tmp_path: Path) -> None:
    def run(ckpt_path: Path | None) -> Darts:
        darts = Darts(learning_rate=0.05, search_data=loader(10, n=30))
        kept = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        search(darts, Lit, data=loader(16, n=64), callbacks=[kept], ckpt_path=ckpt_path, max_epochs=2)
        return darts

    whole = run(None)
    again = run(tmp_path / "step=5.ckpt")
    assert differences(whole.weights(), again.weights()) == []


def test_a_checkpoint_can_be_read_without_a_pickle(tmp_path: Path) -> None:
    searched(tmp_path, None)
    for path in tmp_path.iterdir():
        state = torch.load(path, weights_only=True)["callbacks"]["Darts"]
        assert set(state["alphas"]) == {"layer", "inputs"}


def test_a_checkpoint_of_another_space_is_refused(tmp_path: Path) -> None:
    searched(tmp_path, None)

    class Other(Net):
        def __init__(self) -> None:
            super().__init__()
            self.inputs = nn.InputChoice(2, label="sources")

    checkpoint = next(tmp_path.iterdir())
    with pytest.raises(SearchError, match="of another space: it differs in 'inputs', 'sources'"):
        search(Darts(), Lit(Other()), ckpt_path=checkpoint, max_epochs=4)
