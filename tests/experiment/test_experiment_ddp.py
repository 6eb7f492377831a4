"""Trials that train with several processes: one result, one fate, and nobody left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from other_processes import has_ended, run_script
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_nas import Classification, Darts, LightningEvaluator, hpo, model_wrapper
from lightning_nas import nn as choices
from lightning_nas.errors import ExperimentError
from lightning_nas.evaluators.ranks import ranks_in
from lightning_nas.experiment import Experiment
from lightning_nas.experiment import experiment as experiment_module
from lightning_nas.experiment.runners import Outcome, ProcessRunner, Work
from lightning_nas.space import Categorical
from lightning_nas.stopping import ASHA
from lightning_nas.strategies import GridSearch
from lightning_nas.testing.runners import Evaluates, job, run
from lightning_nas.trial import Status, Trial

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_server")]

EPOCHS = 4


@pytest.fixture(autouse=True)
def _without_advice() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@model_wrapper
class Net(choices.Module):
    """Has no batch normalisation: with it, half batches are not whole ones."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = choices.LayerChoice([choices.Linear(4, 8), choices.Linear(4, 8, bias=False)], label="a")
        self.drop = choices.Dropout(dropout)
        self.head = choices.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(torch.relu(self.layer(x))))


def data(batch_size: int, shuffle: bool = False) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 4, generator=generator)
    return DataLoader(TensorDataset(x, (x[:, 0] > x[:, 1]).long()), batch_size, shuffle)


def classification(ranks: int = 2, batch: int = 16, shuffle: bool = False, **trainer: Any) -> Classification:
    """Trains on batches of `batch` in all."""
    trainer = {"accelerator": "cpu", "max_epochs": EPOCHS, "devices": ranks, **trainer}
    batch_size = batch // ranks
    return Classification(
        learning_rate=0.05,
        train_dataloaders=data(batch_size, shuffle),
        val_dataloaders=data(batch_size),
        **trainer,
    )


def searched(directory: Path, evaluator: Any, model: Any = None, **settings: Any) -> list[Trial]:
    settings = {
        "strategy": GridSearch(),
        "max_trials": 1,
        "concurrency": 1,
        "objective": "val_loss",
        **settings,
    }
    settings = {"export": False, "progress": False, "max_consecutive_failures": None, **settings}
    experiment = Experiment(model or Net(), evaluator, directory=directory, **settings)
    return experiment.run().trials


def weights(directory: Path) -> dict[str, Tensor]:
    return torch.load(directory / "trials" / "0" / "weights.pt", weights_only=True)


@dataclass(frozen=True)
class StopAt:
    step: int

    def decide(self, trial: Trial, trials: Any) -> str:
        return "stop" if trial.steps > self.step else "go"


def test_a_trial_on_two_processes_is_pruned_at_epoch_two_and_has_one_result(tmp_path: Path) -> None:
    (trial,) = searched(tmp_path, classification(strategy="ddp"), stopping=StopAt(2))
    assert trial.status is Status.STOPPED
    assert [report.step for report in trial.intermediate] == [0, 1, 2]
    assert trial.metrics["val_loss"] == trial.intermediate[-1].metrics["val_loss"]
    assert {path.name for path in (tmp_path / "trials" / "0").iterdir()} == {
        *("architecture.json", "usage.json", "net.py", "inputs.pt", "output-rank1.log", "output.log", "pid")
    }
    assert "GLOBAL_RANK: 0" in (tmp_path / "trials" / "0" / "output.log").read_text()
    assert "GLOBAL_RANK: 1" in (tmp_path / "trials" / "0" / "output-rank1.log").read_text()


def test_two_processes_on_half_batches_train_as_one_on_whole_batches(tmp_path: Path) -> None:
    # All data are one batch, since Lightning shuffles what several processes train on.
    (two,) = searched(tmp_path / "two", classification(2, batch=32))
    (one,) = searched(tmp_path / "one", classification(1, batch=32))
    assert two.metrics == pytest.approx(one.metrics, rel=1e-5)
    assert len(two.intermediate) == len(one.intermediate) == EPOCHS
    torch.testing.assert_close(weights(tmp_path / "two"), weights(tmp_path / "one"))


def test_a_paused_trial_goes_on_in_all_its_processes_as_if_it_had_not_paused(tmp_path: Path) -> None:
    made = classification(shuffle=True)
    undisturbed = searched(tmp_path / "a", made, Net(dropout=0.3), max_trials=2)
    rule = ASHA(max_steps=EPOCHS, min_steps=2, reduction=2)
    paused = searched(tmp_path / "b", made, Net(dropout=0.3), max_trials=2, stopping=rule)
    assert [trial.status for trial in paused] == [
        Status.COMPLETED,
        Status.PAUSED,
    ]  # the first to come was held
    completed, other = paused[0], undisturbed[0]
    assert [report.score for report in completed.intermediate] == [
        report.score for report in other.intermediate
    ]
    ours, theirs = weights(tmp_path / "b"), weights(tmp_path / "a")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@dataclass
class Does(pl.Callback):
    """Does something on one rank at the start of the second epoch."""

    rank: int
    deed: Callable[[], None]

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_rank == self.rank and trainer.current_epoch == 1:
            self.deed()


def fail() -> None:
    print("the last words")
    raise ZeroDivisionError("a bad number")


def die() -> None:
    print("the last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_exception_of_one_rank_is_the_trials(tmp_path: Path) -> None:
    (trial,) = searched(tmp_path, classification(callbacks=[Does(1, fail)]))
    assert trial.status is Status.FAILED
    assert trial.reason == "On rank 1: ZeroDivisionError: a bad number"
    assert "in fail" in trial.traceback
    assert [report.step for report in trial.intermediate] == [0]


def test_a_rank_that_is_killed_ends_the_trial_as_killed(tmp_path: Path) -> None:
    started = time.monotonic()
    (trial,) = searched(tmp_path, classification(callbacks=[Does(1, die)]))
    assert trial.status is Status.FAILED
    assert "was killed (SIGKILL)" in trial.reason
    assert "Rank 1 ended by signal 9" in trial.traceback
    assert "the last words" in trial.traceback
    assert time.monotonic() - started < 30


def test_ctrl_c_twice_leaves_no_process_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_nas.experiment.runners.processes._TERM_S", 0.5)
    driver = os.getpid()

    @dataclass
    class Presses(pl.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            (tmp_path / f"pid-{trainer.global_rank}").write_text(str(os.getpid()))
            trainer.strategy.barrier()
            if trainer.is_global_zero:
                for _ in range(2):
                    os.kill(driver, signal.SIGINT)
                    time.sleep(0.1)
            time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path / "exp", classification(callbacks=[Presses()]))
    assert all(has_ended(int((tmp_path / f"pid-{rank}").read_text())) for rank in range(2))


# -- the runner, without Lightning -------------------------------------------------------------------


def evaluated(directory: Path, function: Callable[..., Any], ranks: int = 2) -> Outcome:
    runner = ProcessRunner(Work(Evaluates(function)), 1, directory)
    try:
        return run(runner, [replace(job(directory, 0), ranks=ranks)])[0]
    finally:
        runner.close()


def rank() -> int:
    return int(os.environ["RANK"])


def test_ranks_of_a_trial_are_told_apart_and_only_the_first_speaks(tmp_path: Path) -> None:
    def look(candidate: Any, report: Any) -> float:
        names = ["LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR"]
        seen = {name: os.environ[name] for name in names} | {"pid": os.getpid(), "group": os.getpgrp()}
        (candidate.directory / f"{rank()}.json").write_text(json.dumps(seen))
        assert report(rank(), {"x": 1.0})
        return rank()

    assert evaluated(tmp_path, look, ranks=3).metrics == {"default": 0.0}
    seen = [json.loads((tmp_path / "0" / f"{number}.json").read_text()) for number in range(3)]
    assert [int(each["LOCAL_RANK"]) for each in seen] == [0, 1, 2]
    assert {each["group"] for each in seen} == {seen[0]["pid"]}
    same = ("NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    assert {tuple(each[name] for name in same) for each in seen} == {("0", "0", "3", "3", "127.0.0.1")}
    assert all(has_ended(each["pid"]) for each in seen)


def test_what_a_cluster_has_set_for_the_driver_is_not_taken_for_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "3", "TORCHELASTIC_RUN_ID": "7"}
    for name, value in {
        **theirs,
        "RANK": "3",
        "LOCAL_RANK": "3",
        "WORLD_SIZE": "4",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)

    def look(candidate: Any, report: Any) -> dict[str, float]:
        trainer = pl.Trainer(accelerator="cpu", devices=2, logger=False, enable_checkpointing=False)
        torch.distributed.init_process_group("gloo")
        ranks = torch.tensor([trainer.global_rank])
        torch.distributed.all_reduce(ranks)
        return {"sum": int(ranks), "size": trainer.world_size, "rank": trainer.global_rank}

    assert evaluated(tmp_path, look).metrics == {"sum": 1, "size": 2, "rank": 0}


def test_a_rank_that_waits_for_one_that_has_failed_is_ended(tmp_path: Path) -> None:
    def wait(candidate: Any, report: Any) -> None:
        report(0, {"pid": os.getpid()})
        if rank() == 1:
            fail()
        time.sleep(60)

    started = time.monotonic()
    outcome = evaluated(tmp_path, wait)
    assert outcome.reason == "On rank 1: ZeroDivisionError: a bad number"
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("last", [0, 1])
def test_a_failure_after_the_others_have_ended_counts(tmp_path: Path, last: int) -> None:
    def fail_late(candidate: Any, report: Any) -> float:
        if rank() == last:
            time.sleep(0.3)
            fail()
        return 1.0

    outcome = evaluated(tmp_path, fail_late)
    assert outcome.metrics is None
    assert outcome.reason == ("On rank 1: " if last else "") + "ZeroDivisionError: a bad number"


def test_the_failure_that_came_first_is_told_where_it_made_others_fail(tmp_path: Path) -> None:
    def follow(candidate: Any, report: Any) -> None:
        marker = candidate.directory / "failed"
        if rank() == 1:
            marker.touch()
            fail()
        while not marker.exists():
            time.sleep(0.01)
        time.sleep(0.2)
        raise ConnectionError("closed by peer")

    assert evaluated(tmp_path, follow).reason == "On rank 1: ZeroDivisionError: a bad number"


@pytest.mark.parametrize("number", [0, 1])
def test_no_rank_outlives_another_that_was_killed(tmp_path: Path, number: int) -> None:
    def vanish(candidate: Any, report: Any) -> None:
        (candidate.directory / f"pid-{rank()}").write_text(str(os.getpid()))
        while len(list(candidate.directory.glob("pid-*"))) < 2:
            time.sleep(0.01)
        if rank() == number:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    outcome = evaluated(tmp_path, vanish)
    assert "was killed (SIGKILL)" in outcome.reason
    assert all(has_ended(int((tmp_path / "0" / f"pid-{each}").read_text())) for each in range(2))


def test_a_custom_evaluator_says_how_many_processes_it_takes(tmp_path: Path) -> None:
    @dataclass
    class Mine:
        ranks: Any

        def evaluate(self, candidate: Any, report: Any) -> float:
            torch.distributed.init_process_group("gloo")
            total = torch.ones(())
            torch.distributed.all_reduce(total)
            return float(total)

    space, settings = {"x": Categorical([1])}, {"objective": None, "max_trials": 1}
    (trial,) = searched(tmp_path, Mine(2), space, **settings)
    assert trial.metrics == {"default": 2.0}
    with pytest.raises(ValueError, match="`ranks` must be an integer of at least 1, but got 2.5"):
        searched(tmp_path, Mine(2.5), space, **settings)


def test_no_rank_outlives_a_killed_driver(tmp_path: Path) -> None:
    script = """
        import os, signal, sys, time
        from pathlib import Path
        from lightning_nas.experiment.runners import Job, ProcessRunner, Work

        class Sleeper:
            def evaluate(self, candidate, report):
                (candidate.directory / ("pid-" + os.environ["RANK"])).write_text(str(os.getpid()))
                while len(list(candidate.directory.glob("pid-*"))) < 2:
                    time.sleep(0.01)
                report(0, {"x": 1.0})
                time.sleep(60)

        directory = Path(sys.argv[1])
        runner = ProcessRunner(Work(Sleeper()), 1, directory)
        runner.submit(Job(0, {}, directory / "0", 0, ranks=2))
        while True:
            runner.poll(1, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    """
    assert run_script(script, tmp_path).returncode == -signal.SIGKILL
    assert all(has_ended(int((tmp_path / "0" / f"pid-{each}").read_text())) for each in range(2))


# -- one-shot search, tuning, GPUs -------------------------------------------------------------------


def test_darts_searches_with_two_processes_in_an_experiment(tmp_path: Path) -> None:
    search, derived = searched(tmp_path, classification(max_epochs=2), strategy=Darts(), max_trials=2)
    assert search.status is derived.status is Status.COMPLETED, search.traceback
    assert derived.sample == search.sample
    assert len(search.intermediate) == 2


class Lit(pl.LightningModule):
    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Linear(4, 2)

    def training_step(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]), sync_dist=True)
        self.log("ranks", float(self.trainer.world_size))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.lr)


def tuned(directory: Path, space: Any, **trainer: Any) -> list[Trial]:
    settings = {"directory": directory, "max_trials": 1, "concurrency": 1, "progress": False}
    trainer = {"accelerator": "cpu", "max_epochs": 1, **trainer}
    loaders = {"train_dataloaders": data(8), "val_dataloaders": data(8)}
    return hpo.tune(Lit, space, trainer=trainer, **loaders, **settings).trials


def test_tune_takes_the_trainers_devices(tmp_path: Path) -> None:
    (trial,) = tuned(tmp_path, {"lr": Categorical([0.1])}, devices=2, strategy="ddp")
    assert trial.metrics["ranks"] == 2


@pytest.mark.parametrize(
    ("label", "trainer"),
    [("devices", {}), ("strategy", {"devices": 2})],
)
def test_the_number_of_processes_cannot_be_searched(tmp_path: Path, label: str, trainer: Any) -> None:
    space = {"lr": Categorical([0.1]), label: Categorical(["auto"])}
    with pytest.raises(ValueError, match=f"`{label}` of the Trainer cannot be searched"):
        tuned(tmp_path, space, **trainer)


def test_one_process_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 devices needs 2 processes, but runner='inprocess'"):
        searched(tmp_path, classification(), runner="inprocess")


def test_a_trainer_that_would_start_the_script_again_is_refused(tmp_path: Path) -> None:
    def trainer() -> pl.Trainer:
        return pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, max_epochs=1)

    evaluator = LightningEvaluator(lambda model: Lit(0.1), trainer, train_dataloaders=data(8))
    (trial,) = searched(tmp_path, evaluator)
    assert "needs 2 processes, and would start the script again" in trial.reason


def test_a_script_that_was_started_as_another_rank_runs_no_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ExperimentError, match=r"one of several processes \(LOCAL_RANK=1\)"):
        searched(tmp_path / "exp", classification())
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(
    ("arguments", "ranks"),
    [
        ({}, 1),
        ({"devices": "3"}, 3),
        ({"devices": "0,2"}, 2),
        ({"devices": "1,"}, 1),
        ({"devices": -1}, 1),
        ({"devices": 2, "strategy": "ddp_find_unused_parameters_true"}, 2),
        ({"devices": 2, "strategy": pl.strategies.DDPStrategy(start_method="spawn")}, 1),
        ({"devices": 2, "strategy": pl.strategies.DDPStrategy()}, 2),
    ],
)
def test_the_trainers_arguments_tell_the_number_of_processes(arguments: Any, ranks: int) -> None:
    assert ranks_in(arguments) == ranks


def test_trials_run_on_one_machine() -> None:
    with pytest.raises(ValueError, match="one machine, but the Trainer was given num_nodes=2"):
        ranks_in({"num_nodes": 2})


def test_each_rank_has_a_gpu_and_fewer_trials_run_where_there_are_too_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shares(gpus: list[str], accelerator: str) -> list[str | None]:
        monkeypatch.setattr(experiment_module, "visible_gpus", lambda: gpus)
        evaluator = classification(accelerator=accelerator)
        exp = Experiment(Net(), evaluator, GridSearch(), directory=tmp_path, concurrency=2)
        with contextlib.closing(exp._make_runner()) as runner:
            return [share.visible for share in runner._shares]

    assert shares(["0", "1", "2", "3", "4"], "auto") == ["0,1", "2,3"]
    assert shares(["0", "1", "2"], "auto") == ["0,1"]
    assert shares([], "auto") == [None, None]
    assert shares(["0"], "cpu") == [None, None]
    with pytest.raises(ExperimentError, match="gpus_per_trial=2 needs more GPUs than are visible here"):
        shares(["0"], "auto")


@pytest.mark.gpu
def test_a_trial_trains_on_two_gpus_with_nccl(tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is only one CUDA device")
    (trial,) = searched(tmp_path, classification(accelerator="gpu", strategy="ddp"), stopping=StopAt(2))
    assert trial.status is Status.STOPPED, trial.traceback
    assert len(trial.intermediate) == 3
    assert "distributed_backend=nccl" in (tmp_path / "trials" / "0" / "output.log").read_text()
