"""Every evaluator passes the published suite."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from two_points import SAMPLE, build, dataset, loader, numbers, train

from lightning_nas import report_final_result, report_intermediate_result
from lightning_nas.evaluators import (
    Classification,
    FunctionalEvaluator,
    LightningEvaluator,
    Regression,
    TabularEvaluator,
)
from lightning_nas.testing.evaluators import EvaluatorSuite


def returning(model_cls: Any) -> dict[str, float]:
    return {"acc": train(model_cls())}


def reporting(model_cls: Any, epochs: int) -> None:
    model = model_cls()
    for _ in range(epochs):
        report_intermediate_result(train(model))
    report_final_result(train(model))


class LitTwoPoints(pl.LightningModule):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch: Any) -> None:
        self.log("val_acc", (self.model(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


class TwoPoints(pl.LightningDataModule):
    def train_dataloader(self) -> Any:
        return loader(shuffle=True)

    def val_dataloader(self) -> Any:
        return loader()


def quiet_trainer() -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class Trained(EvaluatorSuite):
    sample = SAMPLE

    def build(self, sample: Any) -> nn.Module:
        return build(sample["width"])


class TestAFunctionThatReturns(Trained):
    reports = False

    def make(self) -> FunctionalEvaluator:
        return FunctionalEvaluator(returning)


class TestAFunctionThatReports(Trained):
    def make(self) -> FunctionalEvaluator:
        return FunctionalEvaluator(reporting, epochs=2)


class TestLightningWithTrainerArguments(Trained):
    def make(self) -> LightningEvaluator:
        arguments = {"max_epochs": 2, "accelerator": "cpu"}
        return LightningEvaluator(LitTwoPoints, arguments, datamodule=TwoPoints)


class TestLightningWithATrainerOfOnesOwn(Trained):
    def make(self) -> LightningEvaluator:
        return LightningEvaluator(
            LitTwoPoints, quiet_trainer, train_dataloaders=loader(shuffle=True), val_dataloaders=loader()
        )


class TestClassification(Trained):
    def make(self) -> Classification:
        return Classification(
            train_dataloaders=loader(shuffle=True), val_dataloaders=loader(), max_epochs=2, accelerator="cpu"
        )


class TestRegression(Trained):
    def build(self, sample: Any) -> nn.Module:
        return build(sample["width"], outputs=1)

    def make(self) -> Regression:
        data = loader(numbers())
        return Regression(train_dataloaders=data, val_dataloaders=data, max_epochs=2, accelerator="cpu")


class TestATable(EvaluatorSuite):
    sample = SAMPLE
    trains = False
    reports = False

    def make(self) -> TabularEvaluator:
        return TabularEvaluator({4: {"acc": 0.5, "loss": float("nan")}}, key=lambda sample: sample["width"])


def test_the_task_can_be_learnt() -> None:
    torch.manual_seed(0)
    assert train(build(), epochs=5) == 1.0
    assert len(dataset()) == 20
