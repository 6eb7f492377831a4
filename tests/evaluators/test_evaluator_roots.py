"""Both names of Lightning: what is made comes from the one that the user has."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytorch_lightning
import torch
from torch import Tensor, nn
from two_points import candidate, go_on, loader

from lightning_nas.evaluators import Classification, LightningEvaluator
from lightning_nas.evaluators.roots import common_root, is_a, root_of

CPU = {"accelerator": "cpu", "max_epochs": 2}


@pytest.fixture(params=["pytorch_lightning", "lightning.pytorch"])
def root(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = pytest.importorskip(
        request.param,
        reason=f"the package {request.param} is not installed, which is another name of Lightning",
    )
    return module


def module_class(root: ModuleType) -> Any:
    class Lit(root.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any) -> Tensor:
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch: Any) -> None:
            self.log("val_acc", (self.model(batch[0]).argmax(1) == batch[1]).float().mean())

        def on_fit_start(self) -> None:
            self.log_trainer(root_of(self.trainer))

        def log_trainer(self, name: str | None) -> None:
            trainers.append(name)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.1)

    return Lit


def data_module(root: ModuleType) -> Any:
    class Data(root.LightningDataModule):  # type: ignore[name-defined,misc]
        def train_dataloader(self) -> Any:
            return loader()

        def val_dataloader(self) -> Any:
            return loader()

    return Data()


trainers: list[str | None] = []


@pytest.fixture(autouse=True)
def _no_trainers() -> None:
    trainers.clear()


def test_the_trainer_comes_from_the_modules_package(root: ModuleType, tmp_path: Path) -> None:
    evaluator = LightningEvaluator(module_class(root), CPU, datamodule=data_module(root))
    reports = []

    def report(step: int, metrics: Any) -> bool:
        reports.append(step)
        return step < 0

    assert "val_acc" in evaluator.evaluate(candidate(tmp_path), report)
    assert trainers == [root.__name__]
    assert reports == [0]


def test_a_factory_that_hides_its_package_is_followed(root: ModuleType, tmp_path: Path) -> None:
    lit = module_class(root)
    evaluator = LightningEvaluator(
        lambda model: lit(model), CPU, train_dataloaders=loader(), val_dataloaders=loader()
    )
    evaluator.evaluate(candidate(tmp_path), go_on)
    assert trainers == [root.__name__]


def test_our_own_module_comes_from_the_datas_package(root: ModuleType, tmp_path: Path) -> None:
    evaluator = Classification(datamodule=data_module(root), **CPU)
    assert evaluator.evaluate(candidate(tmp_path), go_on).keys() >= {"val_acc", "val_loss"}


def test_our_own_module_can_be_pickled(root: ModuleType, tmp_path: Path) -> None:
    modules = []

    class Noting(root.Callback):  # type: ignore[name-defined,misc]
        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            pl_module.trainer = None
            modules.append((pl_module, pickle.loads(pickle.dumps(pl_module)), copy.deepcopy(pl_module)))

    evaluator = Classification(datamodule=data_module(root), **CPU)
    evaluator._evaluator.fit(nn.Linear(4, 2), go_on, [Noting()])
    (twins,) = modules
    assert len({type(twin) for twin in twins}) == 1
    assert all(torch.equal(twin.model.weight, twins[0].model.weight) for twin in twins)


def test_the_users_callbacks_tell_the_package_where_nothing_else_does(
    root: ModuleType, tmp_path: Path
) -> None:
    class Noting(root.Callback):  # type: ignore[name-defined,misc]
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            trainers.append(root_of(pl_module))

    evaluator = Classification(
        train_dataloaders=loader(), val_dataloaders=loader(), callbacks=Noting(), **CPU
    )
    evaluator.evaluate(candidate(tmp_path), go_on)
    assert trainers == [root.__name__]


def test_a_trainer_of_ones_own_decides(root: ModuleType, tmp_path: Path) -> None:
    def trainer() -> Any:
        return root.Trainer(
            **CPU,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    evaluator = LightningEvaluator(
        module_class(root), trainer, train_dataloaders=loader(), val_dataloaders=loader()
    )
    assert "val_acc" in evaluator.evaluate(candidate(tmp_path), go_on)


def test_two_packages_at_once_are_refused_by_name(tmp_path: Path) -> None:
    other = pytest.importorskip("lightning.pytorch", reason="the package lightning is not installed")
    evaluator = LightningEvaluator(module_class(other), CPU, datamodule=data_module(pytorch_lightning))
    with pytest.raises(
        TypeError, match=r"one package, but got Lit from lightning\.pytorch and Data from pytorch_lightning"
    ):
        evaluator.evaluate(candidate(tmp_path), go_on)


def test_what_is_not_lightnings_has_no_root() -> None:
    assert [root_of(thing) for thing in (None, 3, nn.Linear, nn.Linear(1, 1), loader())] == [None] * 5
    assert (
        root_of(pytorch_lightning.Trainer)
        == root_of(pytorch_lightning.LightningModule())
        == "pytorch_lightning"
    )


def test_a_class_of_lightning_is_known_by_name() -> None:
    checkpoint = pytorch_lightning.callbacks.ModelCheckpoint()
    assert is_a(checkpoint, "Checkpoint")
    assert not is_a(checkpoint, "ProgressBar")


def test_without_any_hint_it_is_pytorch_lightning() -> None:
    assert common_root([None, loader()], [3]) is pytorch_lightning


@pytest.mark.slow
def test_the_second_package_is_never_imported_for_the_first() -> None:
    program = (
        "import sys, torch; from torch.utils.data import DataLoader, TensorDataset;"
        "from lightning_nas.evaluators import Classification;"
        "data = DataLoader(TensorDataset(torch.zeros(2, 4), torch.zeros(2).long()));"
        "evaluator = Classification(train_dataloaders=data, accelerator='cpu', max_epochs=1);"
        "evaluator.fit(torch.nn.Linear(4, 2), print);"
        "sys.exit('lightning' in sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
