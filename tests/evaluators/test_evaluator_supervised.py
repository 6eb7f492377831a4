"""Classification and regression: what is measured, and that it is right."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from two_points import accuracy, build, candidate, dataset, go_on, loader, numbers

from lightning_nas.evaluators import Classification, Regression

QUICK: dict[str, Any] = {"accelerator": "cpu", "max_epochs": 1}


def test_a_classifier_learns(tmp_path: Path) -> None:
    evaluator = Classification(
        learning_rate=0.1,
        train_dataloaders=loader(shuffle=True),
        val_dataloaders=loader(),
        num_classes=2,
        accelerator="cpu",
        max_epochs=5,
    )
    metrics = evaluator.evaluate(candidate(tmp_path), go_on)
    assert metrics.keys() == {"train_loss", "train_acc", "val_loss", "val_acc"}
    assert metrics["val_acc"] == 1.0


def test_a_regression_learns(tmp_path: Path) -> None:
    data = loader(numbers())
    evaluator = Regression(
        learning_rate=0.1, train_dataloaders=data, val_dataloaders=data, accelerator="cpu", max_epochs=40
    )
    metrics = evaluator.evaluate(candidate(tmp_path, lambda: build(16, 1)), go_on)
    assert metrics.keys() == {"train_loss", "train_mse", "train_mae", "val_loss", "val_mse", "val_mae"}
    assert metrics["val_mse"] < 0.05 * numbers().tensors[1].var()


def test_figures_are_means_over_examples_not_over_batches() -> None:
    # 20 examples in batches of 8, 8 and 4.
    torch.manual_seed(1)
    model = build()
    evaluator = Classification(
        learning_rate=0.0, train_dataloaders=loader(), val_dataloaders=loader(), **QUICK
    )
    metrics = evaluator.fit(model, go_on)
    inputs, labels = dataset().tensors
    loss = nn.functional.cross_entropy(model(inputs), labels).item()
    for stage in ("train", "val"):
        assert metrics[f"{stage}_loss"] == pytest.approx(loss)
        assert metrics[f"{stage}_acc"] == pytest.approx(accuracy(model))


def test_regression_figures_are_what_they_are_called() -> None:
    torch.manual_seed(1)
    model, data = build(outputs=1), loader(numbers())
    evaluator = Regression(
        nn.L1Loss, learning_rate=0.0, train_dataloaders=data, val_dataloaders=data, **QUICK
    )
    metrics = evaluator.fit(model, go_on)
    inputs, targets = numbers().tensors
    error = (model(inputs) - targets).detach()
    assert metrics["val_mse"] == pytest.approx(error.square().mean().item())
    assert metrics["val_mae"] == metrics["val_loss"] == pytest.approx(error.abs().mean().item())


class Answers(nn.Module):
    """Gives the same outputs whatever it is asked; has one weight for the optimizer."""

    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self.outputs = torch.as_tensor(outputs, dtype=torch.float)
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.outputs + self.weight


@pytest.mark.parametrize(
    ("criterion", "outputs", "targets", "right"),
    [
        (nn.CrossEntropyLoss, [[0, 1], [1, 0], [0, 1]], torch.tensor([1, 1, 1]), 2 / 3),
        (nn.CrossEntropyLoss, [[0, 1], [1, 0], [0, 1]], torch.tensor([[0.4, 0.6], [0.9, 0.1], [1, 0]]), 2 / 3),
        (nn.BCEWithLogitsLoss, [2, -1, -3], torch.tensor([1.0, 1.0, 0.0]), 2 / 3),
        (nn.BCEWithLogitsLoss, [[2], [-1], [-3]], torch.tensor([[1.0], [1.0], [0.0]]), 2 / 3),
        (nn.CrossEntropyLoss, [[[1, 0], [0, 1]]] * 3, torch.tensor([[0, 1], [0, 0], [1, 1]]), 4 / 6),
    ],
    ids=["classes", "probabilities", "one logit", "one logit in a column", "one class per position"],
)  # fmt: skip
def test_accuracy_fits_the_form_of_the_targets(
    criterion: Any, outputs: Any, targets: Tensor, right: float
) -> None:
    data = DataLoader(TensorDataset(torch.zeros(3, 1), targets), batch_size=3)
    evaluator = Classification(criterion, 0.0, train_dataloaders=data, val_dataloaders=data, **QUICK)
    assert evaluator.fit(Answers(outputs), go_on)["val_acc"] == pytest.approx(right)


def test_loss_and_optimizer_are_the_users(tmp_path: Path) -> None:
    made = []

    class Noted(torch.optim.SGD):
        def __init__(self, parameters: Any, **settings: Any) -> None:
            made.append(settings)
            super().__init__(parameters, **settings)

    evaluator = Classification(
        functools.partial(nn.CrossEntropyLoss, label_smoothing=0.1),
        learning_rate=0.25,
        weight_decay=0.5,
        optimizer=Noted,
        train_dataloaders=loader,
        val_dataloaders=loader,
        **QUICK,
    )
    evaluator.evaluate(candidate(tmp_path), go_on)
    assert made == [{"lr": 0.25, "weight_decay": 0.5}]


def test_the_weights_kept_are_those_of_the_plain_model(tmp_path: Path) -> None:
    evaluator = Classification(train_dataloaders=loader(), val_dataloaders=loader(), **QUICK)
    evaluator.evaluate(candidate(tmp_path), go_on)
    assert list(torch.load(tmp_path / "weights.pt", weights_only=True)) == list(build().state_dict())


@pytest.mark.parametrize("kind", [Classification, Regression])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"train_dataloaders": None}, ValueError, "no training data; give `train_dataloaders` or"),
        ({"datamodule": pl.LightningDataModule}, ValueError, "got both"),
        ({"criterion": nn.CrossEntropyLoss()}, TypeError, r"must make the loss, .*got CrossEntropyLoss\(\)"),
        ({"learning_rate": -1}, ValueError, "`learning_rate` must be at least 0, but got -1"),
        ({"weight_decay": float("nan")}, ValueError, "`weight_decay` must be at least 0, but got nan"),
        ({"max_epoch": 1}, TypeError, "'max_epoch'; did you mean 'max_epochs'?"),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    kind: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        kind(**{"train_dataloaders": loader(), **arguments})


def test_a_wrong_number_of_classes_is_found_at_the_first_batch(tmp_path: Path) -> None:
    evaluator = Classification(train_dataloaders=loader(), val_dataloaders=loader(), num_classes=10, **QUICK)
    with pytest.raises(ValueError, match="The model tells 2 classes apart, but num_classes=10 was given"):
        evaluator.evaluate(candidate(tmp_path), go_on)


def test_outputs_that_would_be_broadcast_are_refused(tmp_path: Path) -> None:
    inputs, targets = numbers().tensors
    data = loader(TensorDataset(inputs, targets[:, 0]))
    evaluator = Regression(train_dataloaders=data, val_dataloaders=data, **QUICK)
    with pytest.raises(ValueError, match=r"outputs have shape \(8, 1\), the targets \(8,\)"):
        evaluator.evaluate(candidate(tmp_path, lambda: build(outputs=1)), go_on)


def test_a_batch_that_is_no_pair_is_named(tmp_path: Path) -> None:
    data = loader(TensorDataset(*dataset().tensors, torch.zeros(20)))
    evaluator = Classification(train_dataloaders=data, val_dataloaders=data, **QUICK)
    with pytest.raises(
        TypeError, match="a pair of inputs and targets, but is a list of 3; .*LightningEvaluator"
    ):
        evaluator.evaluate(candidate(tmp_path), go_on)
