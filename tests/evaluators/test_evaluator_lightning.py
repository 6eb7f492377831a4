"""Training with Lightning: what is reported, stopped, seeded, kept quiet and refused."""

from __future__ import annotations

import os
import signal
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader
from two_points import build, candidate, go_on, loader

from lightning_nas import MetricError, output_directory, report_final_result
from lightning_nas.evaluators import LightningEvaluator, ReportCallback

CPU = {"accelerator": "cpu", "max_epochs": 3}


class Lit(pl.LightningModule):
    def __init__(self, model: nn.Module, lr: float = 0.1) -> None:
        super().__init__()
        self.model = model
        self.lr = lr

    def training_step(self, batch: Any) -> Tensor:
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch: Any) -> None:
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        self.log("val_loss", loss, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Silent(Lit):
    def training_step(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch: Any) -> None:
        pass


class Pressed(Lit):
    """Ctrl-C in the middle of the training."""

    def training_step(self, batch: Any) -> Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        return super().training_step(batch)


def evaluator(module: Any = Lit, **trainer: Any) -> LightningEvaluator:
    return LightningEvaluator(
        module, {**CPU, **trainer}, train_dataloaders=loader(), val_dataloaders=loader()
    )


@dataclass
class Steps:
    """A report that remembers, and says stop at step `last`."""

    last: int = 1000

    def __post_init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def __call__(self, step: int, metrics: Any) -> bool:
        self.seen.append((step, dict(metrics)))
        return step < self.last

    @property
    def steps(self) -> list[int]:
        return [step for step, _ in self.seen]


def test_every_logged_metric_is_returned(tmp_path: Path) -> None:
    metrics = evaluator().evaluate(candidate(tmp_path), go_on)
    assert metrics.keys() == {"train_loss", "train_loss_step", "train_loss_epoch", "val_loss"}


def test_each_epoch_is_reported_once_and_the_sanity_check_is_not(tmp_path: Path) -> None:
    report = Steps()
    metrics = evaluator(num_sanity_val_steps=2).evaluate(candidate(tmp_path), report)
    assert report.steps == [0, 1, 2]
    assert report.seen[-1][1]["val_loss"] == metrics["val_loss"]
    assert report.seen[0][1]["val_loss"] != metrics["val_loss"]


def test_validation_within_an_epoch_counts_on(tmp_path: Path) -> None:
    report = Steps()
    evaluator(val_check_interval=1, max_epochs=2).evaluate(candidate(tmp_path), report)
    assert report.steps == [0, 1, 2, 3, 4, 5]  # three batches an epoch


def test_a_stop_ends_the_training(tmp_path: Path) -> None:
    report = Steps(last=1)
    metrics = evaluator(max_epochs=50).evaluate(candidate(tmp_path), report)
    assert report.steps == [0, 1]
    assert "val_loss" in metrics


def test_a_stop_within_an_epoch_ends_it_there(tmp_path: Path) -> None:
    report = Steps(last=0)
    evaluator(val_check_interval=1).evaluate(candidate(tmp_path), report)
    assert report.steps == [0]


def test_validation_outside_of_fit_is_not_reported() -> None:
    report, lit = Steps(), Lit(build())
    trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=[ReportCallback(report)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.validate(lit, loader(), verbose=False)
    assert report.steps == []


def test_a_resumed_training_counts_on(tmp_path: Path) -> None:
    saving = [ModelCheckpoint(tmp_path, save_last=True, save_top_k=0)]
    report = Steps()
    evaluator(callbacks=saving, max_epochs=2).evaluate(candidate(tmp_path), report)
    assert report.steps == [0, 1]
    report = Steps()
    again = replace(candidate(tmp_path), resume_from=tmp_path / "last.ckpt")
    evaluator(callbacks=saving, max_epochs=4).evaluate(again, report)
    assert report.steps == [2, 3]


def test_nan_is_passed_on(tmp_path: Path) -> None:
    metrics = evaluator(lambda model: Lit(model, lr=float("inf"))).evaluate(candidate(tmp_path), go_on)
    assert metrics["val_loss"] != metrics["val_loss"]


def test_a_final_result_that_the_module_reports_is_added(tmp_path: Path) -> None:
    class Reporting(Lit):
        def on_fit_end(self) -> None:
            report_final_result({"macs": 12, "val_loss": 0})

    metrics = evaluator(Reporting).evaluate(candidate(tmp_path), go_on)
    assert (metrics["macs"], metrics["val_loss"]) == (12.0, 0.0)
    assert "train_loss" in metrics


def test_a_module_that_logs_nothing_is_told_how(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match=r"Silent logged no metric; call e.g. self.log\(.*validation_step"):
        evaluator(Silent).evaluate(candidate(tmp_path), go_on)


def test_a_fit_may_log_nothing() -> None:
    assert evaluator(Silent).fit(build(), go_on) == {}


def test_the_module_may_depend_on_the_sample(tmp_path: Path) -> None:
    rates = []

    def make(model: nn.Module, sample: Any) -> Lit:
        rates.append(sample["lr"])
        return Lit(model, sample["lr"])

    evaluator(make).evaluate(candidate(tmp_path, lr=0.5), go_on)
    assert rates == [0.5]


def test_a_trainer_of_ones_own_knows_the_trials_folder(tmp_path: Path) -> None:
    def trainer() -> pl.Trainer:
        return pl.Trainer(accelerator="cpu", max_epochs=1, logger=False, default_root_dir=output_directory())

    LightningEvaluator(Lit, trainer, train_dataloaders=loader(), val_dataloaders=loader()).evaluate(
        candidate(tmp_path), go_on
    )
    assert (tmp_path / "checkpoints").is_dir()


def test_callbacks_start_afresh_in_each_trial(tmp_path: Path) -> None:
    stopping = EarlyStopping("val_loss", patience=1, min_delta=1e9)
    chosen = evaluator(callbacks=stopping, max_epochs=10)
    for number in (0, 1):
        report = Steps()
        chosen.evaluate(candidate(tmp_path, number=number), report)
        assert report.steps == [0, 1]
    assert stopping.wait_count == 0


def test_checkpoints_that_the_user_wants_lie_in_the_trials_folder(tmp_path: Path) -> None:
    evaluator(callbacks=[ModelCheckpoint(save_last=True)]).evaluate(candidate(tmp_path), go_on)
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_fit_trains_in_place_with_further_callbacks() -> None:
    class Counter(pl.Callback):
        batches = 0

        def on_train_batch_end(self, *args: Any) -> None:
            self.batches += 1

    counter, model, report = Counter(), build(), Steps()
    before = model[0].weight.detach().clone()
    metrics = evaluator().fit(model, report, [counter])
    assert counter.batches == 9
    assert not torch.equal(model[0].weight, before)
    assert report.seen[-1][1]["val_loss"] == metrics["val_loss"]


def test_a_seed_decides_together_with_the_number(tmp_path: Path) -> None:
    seeded = replace(evaluator(), seed=3)
    metrics = []
    for number in (0, 0, 1):
        torch.rand(number + 1)  # the state that the trial finds does not matter
        metrics.append(seeded.evaluate(candidate(tmp_path, number=number), go_on))
    assert metrics[0] == metrics[1] != metrics[2]


def test_a_trial_prints_nothing_and_warns_of_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evaluator().evaluate(candidate(tmp_path), go_on)
    out, err = capfd.readouterr()
    assert (out, err, [str(each.message) for each in caught]) == ("", "", [])


def test_other_warnings_are_let_through(tmp_path: Path) -> None:
    class Warning(Lit):
        def on_fit_start(self) -> None:
            warnings.warn("the data look odd", UserWarning, stacklevel=2)

    with pytest.warns(UserWarning, match="the data look odd"):
        evaluator(Warning).evaluate(candidate(tmp_path), go_on)


def test_ctrl_c_comes_through_and_leaves_its_handler(tmp_path: Path) -> None:
    # A shell starts its background jobs with SIGINT ignored, and tests may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            evaluator(Pressed).evaluate(candidate(tmp_path), go_on)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_exit_of_the_users_stays_one(tmp_path: Path) -> None:
    class Exiting(Lit):
        def on_fit_start(self) -> None:
            raise SystemExit("no data")

    with pytest.raises(SystemExit, match="no data"):
        evaluator(Exiting).evaluate(candidate(tmp_path), go_on)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_epoch": 3}, "no argument 'max_epoch'; did you mean 'max_epochs'?"),
        ({"zzz": 3}, "no argument 'zzz'; see the documentation"),
    ],
)
def test_a_wrong_argument_of_the_trainer_is_refused_at_once(arguments: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        LightningEvaluator(Lit, arguments)


def test_a_trainer_in_place_of_its_arguments_is_refused() -> None:
    with pytest.raises(TypeError, match="a dict .* or a function that makes a Trainer, .*but got a list"):
        LightningEvaluator(Lit, [1])  # type: ignore[arg-type]


def test_a_module_in_place_of_its_factory_is_refused() -> None:
    with pytest.raises(TypeError, match="`module_factory` must make a LightningModule of a model"):
        LightningEvaluator(3)  # type: ignore[arg-type]


def test_loaders_and_a_data_module_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="either `datamodule` or dataloaders"):
        LightningEvaluator(Lit, val_dataloaders=loader(), datamodule=pl.LightningDataModule())


def test_a_factory_that_makes_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must return a LightningModule, but returned a Sequential"):
        evaluator(lambda model: model).evaluate(candidate(tmp_path), go_on)


@dataclass
class FromProcesses:
    """A report that says which rank called it, in a file."""

    path: Path

    def __call__(self, step: int, metrics: Any) -> bool:
        with self.path.open("a") as file:
            file.write(f"rank {torch.distributed.get_rank()} step {step}\n")
        return step < 1


@pytest.mark.slow
def test_rank_zero_alone_reports_and_all_ranks_stop(tmp_path: Path) -> None:
    # Lightning leaves MASTER_PORT and the like behind.
    with mock.patch.dict(os.environ), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = evaluator(strategy="ddp_spawn", devices=2, max_epochs=20)
        metrics = chosen.evaluate(candidate(tmp_path), FromProcesses(tmp_path / "reports.txt"))
    assert (tmp_path / "reports.txt").read_text().splitlines() == ["rank 0 step 0", "rank 0 step 1"]
    assert "val_loss" in metrics
    assert (tmp_path / "weights.pt").exists()


class DataThatCannotBeMade(pl.LightningDataModule):
    def train_dataloader(self) -> Any:
        raise FileNotFoundError("no data here")

    def val_dataloader(self) -> Any:
        return loader()


def test_a_failure_while_data_are_made_leaves_torchs_loaders_as_they_were(tmp_path: Path) -> None:
    methods = [
        (cls, name, getattr(cls, name))
        for cls in (DataLoader, BatchSampler)
        for name in ("__init__", "__setattr__", "__delattr__")
    ]
    failing = LightningEvaluator(
        Lit, {"accelerator": "cpu", "max_epochs": 1}, datamodule=DataThatCannotBeMade()
    )
    with pytest.raises(FileNotFoundError, match="no data here"):
        failing.evaluate(candidate(tmp_path), lambda *_: True)
    assert [(cls, name, getattr(cls, name)) for cls, name, _ in methods] == methods
    assert not [
        name for cls in (DataLoader, BatchSampler) for name in cls.__dict__ if name.startswith("__old")
    ]
