"""A trial that is paused and goes on from its checkpoint equals one that was never paused."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from two_points import candidate, dataset, loader

from lightning_nas.evaluators import Classification, LightningEvaluator, pausing
from lightning_nas.trial import Candidate


class Lit(pl.LightningModule):
    """Draws from three generators in each step and follows a schedule over all epochs."""

    schedule: str = "epoch"

    def __init__(self, model: nn.Module, schedule: str = "epoch") -> None:
        super().__init__()
        self.model = model
        self.schedule = schedule
        self.drop = nn.Dropout(0.2)
        self.seen = 0.0

    def training_step(self, batch: Any) -> Tensor:
        noise = random.random() + np.random.random() + torch.rand(())  # noqa: NPY002
        loss = nn.functional.cross_entropy(self.model(self.drop(batch[0]) + 0.1 * noise), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.model(batch[0]), batch[1]))
        self.log("lr", self.optimizers().param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        total = (
            self.trainer.max_epochs if self.schedule == "epoch" else self.trainer.estimated_stepping_batches
        )
        if self.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
        return [optimizer], [{"scheduler": scheduler, "interval": self.schedule}]


def evaluator(schedule: str = "epoch", **trainer: Any) -> LightningEvaluator:
    return LightningEvaluator(
        lambda model: Lit(model, schedule),
        {"accelerator": "cpu", "max_epochs": 6, **trainer},
        train_dataloaders=lambda: loader(shuffle=True),
        val_dataloaders=loader(),
        seed=3,
    )


def in_parts(made: LightningEvaluator, given: Candidate, pauses: list[int]) -> tuple[Any, dict[int, Any]]:
    """Evaluates with a pause at each of these steps; the metrics, and the last report of each step."""
    reports: dict[int, Any] = {}
    for pause in pauses:

        def report(step: int, metrics: Any, pause: int = pause) -> bool:
            reports[step] = dict(metrics)
            return step != pause

        metrics = made.evaluate(given, report)
        given = replace(given, resume_from=given.directory / "checkpoint")
    return metrics, reports


@pytest.mark.parametrize("schedule", ["epoch", "step", "plateau"])
def test_a_paused_training_equals_one_that_was_not(tmp_path: Path, schedule: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    made = evaluator(schedule)
    whole = in_parts(made, replace(candidate(tmp_path / "a"), may_pause=True), [99])
    parts = in_parts(made, replace(candidate(tmp_path / "b"), may_pause=True), [0, 2, 3, 99])
    assert sorted(whole[1]) == list(range(6))
    assert parts == whole
    weights = [torch.load(tmp_path / name / "weights.pt", weights_only=True) for name in ("a", "b")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


class Crashes(pl.Callback):
    """Breaks a training off in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise ConnectionError("the machine is gone")


@pytest.mark.parametrize("schedule", ["epoch", "step", "plateau"])
def test_a_training_that_crashed_goes_on_from_its_last_checkpoint_and_equals_one_that_did_not(
    tmp_path: Path, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pausing, "_SHARE", float("inf"))  # after each epoch
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole = in_parts(evaluator(schedule), candidate(tmp_path / "a"), [99])
    given, reports = candidate(tmp_path / "b"), {}
    for epoch in (1, 1, 2, 2, 4):  # also twice in the epoch that it had gone on with
        with pytest.raises(ConnectionError):
            evaluator(schedule, callbacks=[Crashes(epoch)]).evaluate(
                given, lambda step, metrics: reports.update({step: dict(metrics)}) or True
            )
        given = replace(given, resume_from=tmp_path / "b" / "checkpoint")
    metrics, last_reports = in_parts(evaluator(schedule), given, [99])
    assert sorted(last_reports) == [4, 5]
    assert (metrics, {**reports, **last_reports}) == whole
    weights = [torch.load(tmp_path / name / "weights.pt", weights_only=True) for name in ("a", "b")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not (tmp_path / "b" / "checkpoint").exists()  # it is over


def test_checkpoints_take_little_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(
        pausing, "time", SimpleNamespace(monotonic=lambda: float(next(clock)))
    )  # each look at it takes a second
    written = []
    monkeypatch.setattr(pausing, "os", SimpleNamespace(replace=lambda *paths: written.append(paths)))
    evaluator(max_epochs=50).evaluate(candidate(tmp_path), lambda *_: True)
    # By this clock writing takes a second, and so does asking whether it is time, which is done each epoch.
    assert len(written) == 3


def test_a_schedule_sees_the_full_horizon_however_early_a_trial_is_paused(tmp_path: Path) -> None:
    """The rate is reported after it has changed at an epoch's end: half a cosine from 0.1 to 0 in 6 epochs."""
    _, reports = in_parts(evaluator(), replace(candidate(tmp_path), may_pause=True), [0, 99])
    cosine = [0.05 * (1 + np.cos(np.pi * epoch / 6)) for epoch in range(1, 7)]
    assert [reports[step]["lr"] for step in range(6)] == pytest.approx(cosine, abs=1e-7)


@pytest.mark.parametrize("root", ["pytorch_lightning", "lightning.pytorch"])
def test_the_checkpoint_is_left_by_a_trial_told_to_stop_and_by_no_other(tmp_path: Path, root: str) -> None:
    lightning = pytest.importorskip(root)
    made = Classification(train_dataloaders=loader(), val_dataloaders=loader(), max_epochs=2)
    if root != "pytorch_lightning":
        made = Classification(
            train_dataloaders=loader(),
            val_dataloaders=loader(),
            max_epochs=2,
            callbacks=[lightning.callbacks.Timer()],
        )
    for name, may_pause, answer in (("a", True, False), ("b", True, True), ("c", False, False)):
        (tmp_path / name).mkdir()
        made.evaluate(
            replace(candidate(tmp_path / name), may_pause=may_pause), lambda *_, answer=answer: answer
        )
    assert [(tmp_path / name / "checkpoint").exists() for name in "abc"] == [True, False, False]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "architecture.json",
        "checkpoint",
        "inputs.pt",
        "weights.pt",
    ]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_checkpoints_of_the_users_own_stay_as_they_are(tmp_path: Path) -> None:
    own = ModelCheckpoint(tmp_path / "own", save_last=True)
    made = evaluator(callbacks=[own])
    metrics, reports = in_parts(made, replace(candidate(tmp_path), may_pause=True), [1, 99])
    assert sorted(reports) == list(range(6))
    assert metrics["val_loss"] == reports[5]["val_loss"]
    assert (tmp_path / "own" / "last.ckpt").exists()


def test_a_trainer_from_a_function_pauses_too(tmp_path: Path) -> None:
    def trainer() -> pl.Trainer:
        return pl.Trainer(
            accelerator="cpu",
            max_epochs=3,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )

    made = LightningEvaluator(Lit, trainer, train_dataloaders=loader(), val_dataloaders=loader())
    _, reports = in_parts(made, replace(candidate(tmp_path), may_pause=True), [0, 99])
    assert sorted(reports) == [0, 1, 2]


@pytest.mark.parametrize(
    ("trainer", "steps"),
    [
        ({"max_epochs": 6}, 6),
        ({"max_epochs": 7, "check_val_every_n_epoch": 2}, 3),
        ({"max_epochs": -1}, None),
        ({}, None),
        ({"max_epochs": 6, "max_steps": 10}, None),
        ({"max_epochs": 6, "val_check_interval": 0.5}, None),
        (pl.Trainer, None),
    ],
)
def test_the_trainers_arguments_tell_how_many_reports_there_are(trainer: Any, steps: int | None) -> None:
    assert LightningEvaluator(Lit, trainer, train_dataloaders=loader()).max_steps == steps


def test_the_supervised_evaluators_tell_it_as_well() -> None:
    assert Classification(train_dataloaders=dataset(), max_epochs=4).max_steps == 4
