"""`tune` on the digits: which label goes where, what is refused, and that the winner can be made again."""

from __future__ import annotations

import functools
import importlib
import random
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import lightning_nas.nn as nas
from lightning_nas import Experiment, Status, hpo, model_wrapper
from lightning_nas.digits import digits_loaders, split_digits
from lightning_nas.experiment import trial_seed
from lightning_nas.hpo import tune, tuning
from lightning_nas.space import Categorical, Condition, Float, Integer, SearchSpace
from lightning_nas.stopping import ASHA
from lightning_nas.strategies import GridSearch, Random


class Lit(pl.LightningModule):
    """A perceptron on the digits whose learning rate falls along a cosine over all epochs."""

    def __init__(self, hidden: int = 16, lr: float = 0.01, momentum: float = 0.0) -> None:
        super().__init__()
        self.lr, self.momentum = lr, momentum
        self.net = self.network(hidden)

    def network(self, hidden: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any) -> None:
        logits = self(batch[0])
        right = (logits.argmax(1) == batch[1]).float().mean()
        self.log_dict({"val_acc": right, "val_loss": nn.functional.cross_entropy(logits, batch[1])})
        self.log("lr", self.optimizers().param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=self.momentum)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)]


class LitNet(Lit):
    """The same around a network that is given."""

    def __init__(self, net: nn.Module, lr: float = 0.01) -> None:
        super().__init__(lr=lr, momentum=0.9)
        self.net = net


class Digits(pl.LightningDataModule):
    def __init__(self, batch_size: int = 128, shuffle: bool = True) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> Any:
        return DataLoader(split_digits().train, self.hparams["batch_size"], self.hparams["shuffle"])

    def val_dataloader(self) -> Any:
        return DataLoader(split_digits().val, 300)


@model_wrapper
class Net(nas.Module):
    def __init__(self) -> None:
        super().__init__()
        hidden = nas.ValueChoice([8, 16], label="hidden")
        self.flat = nas.Flatten()
        self.first = nas.Linear(64, hidden)
        self.act = nas.LayerChoice([nas.ReLU(), nas.Tanh()], label="act")
        self.last = nas.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.first(self.flat(x))))


CPU = {"accelerator": "cpu", "max_epochs": 1, "limit_train_batches": 3}


def run(directory: Path, module: Any, space: Any, **settings: Any) -> Experiment:
    settings = {
        "datamodule": Digits,
        "trainer": CPU,
        "strategy": Random(),
        "objective": "val_acc",
        "max_trials": 3,
        "runner": "inprocess",
        "progress": False,
        **settings,
    }
    return tune(module, space, directory=directory, **settings)


class Notes:
    """Makes modules and data, and notes with which arguments."""

    def __init__(self) -> None:
        self.modules: list[Any] = []
        self.data: list[Any] = []

    def module(self, hidden: int = 16, lr: float = 0.01) -> Lit:
        self.modules.append((hidden, lr))
        return Lit(hidden, lr)

    def make_data(self, batch_size: int = 128) -> Digits:
        self.data.append(batch_size)
        return Digits(batch_size)


def test_each_label_goes_where_an_argument_has_its_name(tmp_path: Path) -> None:
    notes = Notes()
    space = {
        "lr": Float(1e-3, 1.0, log=True),
        "hidden": Integer(4, 32),
        "batch_size": Categorical([32, 64]),
        "gradient_clip_val": Categorical([0.5, 1.0]),
    }
    exp = run(tmp_path, notes.module, space, datamodule=notes.make_data)
    samples = [trial.sample for trial in exp.trials]
    assert [trial.reason for trial in exp.trials] == [None] * 3
    assert notes.modules == [(sample["hidden"], sample["lr"]) for sample in samples]
    assert notes.data == [sample["batch_size"] for sample in samples]
    assert exp.best is not None
    assert exp.best.score == max(trial.metrics["val_acc"] for trial in exp.trials)


def test_trainer_arguments_reach_the_trainer(tmp_path: Path) -> None:
    exp = run(tmp_path, Lit, {"max_epochs": Categorical([1, 2])}, strategy=GridSearch())
    assert {t.sample["max_epochs"]: len(t.intermediate) for t in exp.trials} == {1: 1, 2: 2}


def test_what_is_not_active_keeps_its_default(tmp_path: Path) -> None:
    notes = Notes()
    space = SearchSpace(
        {"batch_size": Categorical([64, 128]), "hidden": Categorical([8])},
        {"hidden": Condition({"batch_size": [64]})},
    )
    run(tmp_path, notes.module, space, datamodule=notes.make_data, strategy=GridSearch())
    assert sorted(zip(notes.data, notes.modules)) == [(64, (8, 0.01)), (128, (16, 0.01))]


def test_a_partial_holds_what_stays_fixed_and_loaders_may_be_functions(tmp_path: Path) -> None:
    notes = Notes()
    sizes = []

    def train(batch_size: int) -> Any:
        sizes.append(batch_size)
        return digits_loaders(batch_size)[0]

    exp = run(
        tmp_path,
        functools.partial(notes.module, hidden=5),
        {"lr": Categorical([0.1]), "batch_size": Categorical([16, 32])},
        datamodule=None,
        train_dataloaders=train,
        val_dataloaders=digits_loaders()[1],
        strategy=GridSearch(),
    )
    assert [trial.status for trial in exp.trials] == [Status.COMPLETED] * 2
    assert sorted(sizes) == [16, 32]
    assert notes.modules == [(5, 0.1)] * 2


def test_a_data_module_that_saved_its_arguments_is_made_anew(tmp_path: Path) -> None:
    class Noted(Digits):
        def __init__(self, batch_size: int = 128, shuffle: bool = True) -> None:
            super().__init__(batch_size, shuffle)
            self.save_hyperparameters()
            made.append((batch_size, shuffle))

    made: list[Any] = []
    given = Noted(shuffle=False)
    run(tmp_path, Lit, {"batch_size": Categorical([32, 64])}, datamodule=given, strategy=GridSearch())
    assert sorted(made[1:]) == [(32, False), (64, False)]
    assert given.hparams["batch_size"] == 128


# -- the winner again --------------------------------------------------------------------------------


def again(trial: Any, seed: int, make: Any) -> dict[str, float]:
    """A plain script: the winner's arguments, its seed, Lightning."""
    state = trial_seed(seed, trial.number)
    random.seed(state)
    np.random.seed(state)  # noqa: NPY002
    torch.manual_seed(state)
    module = make()
    data = Digits(trial.sample["batch_size"])
    trainer = pl.Trainer(
        **{**CPU, "max_epochs": 3},
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.filterwarnings("ignore:The .*dataloader.* does not have many workers")
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.* is deprecated")
@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_a_winner_that_was_paused_on_the_way_has_the_score_of_a_plain_script(tmp_path: Path) -> None:
    space = {"lr": Float(0.01, 1.0, log=True), "batch_size": Categorical([32, 64])}
    settings = {"trainer": {**CPU, "max_epochs": 3}, "stopping": ASHA(), "max_trials": 6, "seed": 5}
    exp = run(tmp_path, Lit, space, **settings)
    paused = [trial for trial in exp.trials if trial.status is Status.PAUSED]
    assert {trial.steps for trial in paused} == {1}, "the rungs are 1 (and 3, which is the end)"
    assert exp.best is not None
    assert again(exp.best, 5, lambda: Lit(lr=exp.best.sample["lr"])) == exp.best.metrics
    rates = [report.metrics["lr"] for report in exp.best.intermediate]
    cosine = [exp.best.sample["lr"] * (1 + np.cos(np.pi * epoch / 3)) / 2 for epoch in (1, 2, 3)]
    assert rates == pytest.approx(cosine, abs=1e-6), "the schedule saw another horizon"


@pytest.mark.filterwarnings("ignore:The .*dataloader.* does not have many workers")
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.* is deprecated")
@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.slow
def test_network_and_hyper_parameters_are_searched_together_exported_and_made_again(tmp_path: Path) -> None:
    net = Net()
    space = net.search_space | {"lr": Float(0.01, 1.0, log=True), "batch_size": Categorical([32, 64])}
    settings = {"trainer": {**CPU, "max_epochs": 3}, "max_trials": 4, "seed": 7, "export": False}
    exp = run(tmp_path, LitNet, space, model=net, **settings)
    best = exp.best
    assert best is not None
    assert best.sample.keys() == {"act", "hidden", "lr", "batch_size"}
    own = {label: best.sample[label] for label in net.search_space}
    assert again(best, 7, lambda: LitNet(net.build(own), best.sample["lr"])) == best.metrics
    # What is handed over, by itself: the code, which knows torch alone, with the trained weights.
    (path,) = exp.export_top_models(formatter="code")
    network = runpy.run_path(str(path))["Net"]()
    network.load_state_dict(torch.load(exp.directory / "best" / "weights.pt", weights_only=True))
    images, labels = split_digits().val.tensors
    with torch.no_grad():
        accuracy = (network.eval()(images).argmax(1) == labels).float().mean().item()
    assert accuracy == pytest.approx(best.metrics["val_acc"], abs=1e-6)


def test_the_same_call_goes_on(tmp_path: Path) -> None:
    space = {"lr": Float(0.01, 1.0, log=True)}
    run(tmp_path, Lit, space, max_trials=1)
    longer = run(tmp_path, Lit, space, max_trials=2)
    assert [trial.number for trial in longer.trials] == [0, 1]


# -- what is refused ---------------------------------------------------------------------------------


class Twice(Lit):
    def __init__(self, batch_size: int = 1) -> None:
        super().__init__()


class Needs(Lit):
    def __init__(self, hidden: int, depth: int) -> None:
        super().__init__(hidden)


class Forgets(pl.LightningDataModule):
    def __init__(self, batch_size: int = 1) -> None:
        super().__init__()


ONE = Categorical([1])


@pytest.mark.parametrize(
    ("module", "labels", "settings", "error", "message"),
    [
        (
            Lit,
            "learnig_rate",
            {},
            ValueError,
            "The label 'learnig_rate' is no argument of Lit, Digits, Trainer",
        ),
        (Lit, "hiden", {}, ValueError, "'hiden' is no argument of .*; did you mean 'hidden' of Lit?"),
        (Lit, "max_epoch", {}, ValueError, "did you mean 'max_epochs' of Trainer?"),
        (Lit, "module.batch_size", {}, ValueError, "did you mean 'batch_size' of Digits?"),
        (
            Twice,
            "batch_size",
            {},
            ValueError,
            "'batch_size' is an argument of Twice and Digits; write 'module.batch_size' or 'datamodule.batch_size'",
        ),
        (
            Needs,
            "hidden",
            {},
            TypeError,
            r"Needs needs 'depth', which .* functools.partial\(Needs, depth=...\)",
        ),
        (
            Lit,
            "batch_size",
            {"datamodule": Forgets()},
            ValueError,
            "this Forgets has not kept; call self.save_hyper",
        ),
        (Lit(), "lr", {}, TypeError, "`module` must make a LightningModule, .* but got a Lit"),
        (
            Lit,
            "lr",
            {"trainer": {"max_epoch": 3}},
            TypeError,
            "no argument 'max_epoch'; did you mean 'max_epochs'",
        ),
        (Lit, "lr", {"train_dataloaders": []}, ValueError, "either `datamodule` or dataloaders"),
        (Lit, "max_epochs", {"stopping": ASHA()}, ValueError, "Give ASHA `max_steps`"),
        (lambda: Lit(), "lr", {"model": Net()}, TypeError, "must take the network as its first argument"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    tmp_path: Path, module: Any, labels: str, settings: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(tmp_path / "exp", module, {labels: ONE}, **settings)
    assert not (tmp_path / "exp").exists()


def test_tune_is_the_function_however_its_module_was_loaded() -> None:
    """As when a pickle of its evaluator is read first: a module named `tune` would take the name."""
    importlib.import_module("lightning_nas.hpo.tuning")
    assert hpo.tune is tuning.tune
    assert callable(hpo.tune)


def test_a_prefix_says_which_argument_is_meant(tmp_path: Path) -> None:
    space = {"datamodule.batch_size": Categorical([64]), "module.batch_size": Categorical([7])}
    exp = run(tmp_path, Twice, space, max_trials=1)
    assert exp.trials[0].status is Status.COMPLETED
    assert exp.trials[0].sample == {"datamodule.batch_size": 64, "module.batch_size": 7}
