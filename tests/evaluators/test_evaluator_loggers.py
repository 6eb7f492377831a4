"""Loggers in trials: each trial is one run, named by experiment and trial, and goes on in it when the trial does."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import loggers
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor, nn
from two_points import candidate, go_on, loader

from lightning_nas import Categorical, Classification, Experiment, Float, hpo, strategies
from lightning_nas.evaluators import LightningEvaluator
from lightning_nas.evaluators.loggers import loggers_for
from lightning_nas.trial import Candidate


class Lit(pl.LightningModule):
    def __init__(self, model: nn.Module, rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="model")
        self.model = model

    def training_step(self, batch: Any) -> Tensor:
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=True)
        return loss

    def validation_step(self, batch: Any) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.model(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["rate"])


class Server(Logger):
    """Logs as services do, which number runs themselves; keeps the calls, by run."""

    runs: dict[str, list[tuple[Any, ...]]] = {}  # noqa: RUF012

    def __init__(self, project: str, run_name: str | None = None, run_id: str | None = None) -> None:
        super().__init__()
        self.project = project
        self.run_name = run_name
        self.run_id = run_id or f"run-{len(self.runs)}"
        self.runs.setdefault(self.run_id, []).append(("begin", run_name))

    @property
    def name(self) -> str | None:
        return self.run_name

    @property
    def version(self) -> str:
        return self.run_id

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.runs[self.run_id].append(("params", dict(params)))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.runs[self.run_id].append(("metrics", step))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> type[Server]:
    monkeypatch.setattr(Server, "runs", {})
    return Server


def evaluator(logger: Any, **trainer: Any) -> LightningEvaluator:
    arguments = {"accelerator": "cpu", "max_epochs": 4, "log_every_n_steps": 1, "logger": logger, **trainer}
    return LightningEvaluator(Lit, arguments, train_dataloaders=loader(), val_dataloaders=loader(), seed=1)


def trial(folder: Path, number: int = 0) -> Candidate:
    directory = folder / "demo" / "trials" / str(number)
    directory.mkdir(parents=True, exist_ok=True)
    return replace(candidate(directory, number=number), experiment="demo", may_pause=True)


def in_two_parts(made: LightningEvaluator, given: Candidate, pause: int) -> dict[str, float]:
    made.evaluate(given, lambda step, metrics: step != pause)
    return made.evaluate(replace(given, resume_from=given.directory / "checkpoint"), go_on)


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves of TensorBoard's files as TensorBoard reads them: (step, value) by tag."""
    accumulator = read(run)
    return {
        tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


def read(run: Path) -> Any:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return event_accumulator.EventAccumulator(str(run)).Reload()


def hparams(run: Path) -> tuple[dict[str, Any], set[str]]:
    """The row of a run in the HParams tab: its hyper-parameters, and the names of its metrics."""
    from tensorboard.plugins.hparams import plugin_data_pb2

    content = read(run).PluginTagToContent("hparams")
    data = {name: plugin_data_pb2.HParamsPluginData.FromString(value) for name, value in content.items()}
    values = data["_hparams_/session_start_info"].session_start_info.hparams
    infos = data["_hparams_/experiment"].experiment.metric_infos
    kinds = {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}
    return kinds, {info.name.tag for info in infos}


def rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_each_trial_is_a_run_named_by_experiment_and_trial(tmp_path: Path) -> None:
    made = evaluator([TensorBoardLogger(tmp_path / "tb", name="net"), CSVLogger(tmp_path / "csv")])
    for number in (0, 1, 2):
        made.evaluate(trial(tmp_path, number), go_on)
    runs = [f"demo/trial_{number}" for number in (0, 1, 2)]
    found = {str(p.parent.relative_to(tmp_path)) for p in tmp_path.rglob("events.out*")}
    assert found == {f"tb/net/{run}" for run in runs}
    found = {str(p.parent.relative_to(tmp_path)) for p in tmp_path.rglob("metrics.csv")}
    assert found == {f"csv/lightning_logs/{run}" for run in runs}


@pytest.mark.parametrize(
    "logger", [True, CSVLogger, functools.partial(CSVLogger, name="mine"), [TensorBoardLogger, CSVLogger]]
)
def test_without_a_place_of_their_own_logs_are_in_the_trials_folder(tmp_path: Path, logger: Any) -> None:
    given = trial(tmp_path)
    evaluator(logger).evaluate(given, go_on)
    (folder,) = {path.parent for path in given.directory.rglob("hparams.yaml")}
    assert folder == given.directory / "logs"


def test_a_version_of_the_users_is_a_part_of_the_name(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="net", version=3)
    evaluator(logger).evaluate(trial(tmp_path), go_on)
    assert {p.parent for p in tmp_path.rglob("events.out*")} == {tmp_path / "net/version_3/demo/trial_0"}
    assert logger.version == 3, "the user's own object is as it was"


def test_the_number_of_a_slurm_job_is_not_the_name_of_all_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    made = evaluator(functools.partial(CSVLogger, tmp_path, version=77))
    for number in (0, 1):
        made.evaluate(trial(tmp_path, number), go_on)
    assert len(list(tmp_path.glob("lightning_logs/demo/trial_*/metrics.csv"))) == 2


def test_the_loggers_of_a_trainer_that_a_function_makes_are_runs_of_the_trial_too(tmp_path: Path) -> None:
    def trainer(**logger: Any) -> Callable[[], pl.Trainer]:
        arguments: dict[str, Any] = {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False}
        quiet = {"enable_model_summary": False, "enable_checkpointing": False, "log_every_n_steps": 1}
        return lambda: pl.Trainer(**arguments, **quiet, default_root_dir=tmp_path, **logger)

    for made in (trainer(), trainer(logger=CSVLogger(tmp_path, name="csv", version="one"))):
        LightningEvaluator(Lit, made, train_dataloaders=loader(), val_dataloaders=loader()).evaluate(
            trial(tmp_path), go_on
        )
    assert (tmp_path / "lightning_logs/demo/trial_0/hparams.yaml").is_file()
    assert (tmp_path / "csv/one/metrics.csv").is_file(), "a function may decide it by itself"


def test_a_logger_that_all_trials_would_share_is_refused(server: type[Server]) -> None:
    with pytest.raises(TypeError, match=r"functools\.partial\(Server, \.\.\.\)"):
        Classification(train_dataloaders=loader(), logger=server("p"))
    with pytest.raises(TypeError, match="`logger` must be loggers"):
        evaluator(["csv"])
    with pytest.raises(TypeError, match="must make a Logger"):
        evaluator(lambda: "csv").evaluate(candidate(Path()), go_on)


def test_a_service_is_told_the_names_and_the_sample_and_asked_for_the_same_run_again(
    tmp_path: Path, server: type[Server]
) -> None:
    made = evaluator(functools.partial(server, "project"))
    in_two_parts(made, trial(tmp_path, 7), pause=1)
    made.evaluate(trial(tmp_path, 8), go_on)
    assert [calls[0] for calls in server.runs.values()] == [
        ("begin", "demo/trial_7"),
        ("begin", "demo/trial_8"),
    ]
    calls = server.runs["run-0"]
    assert calls.count(("begin", "demo/trial_7")) == 2
    assert ("params", {"width": 4}) in calls
    assert [step for kind, step in calls if kind == "metrics"] == sorted(
        s for k, s in calls if k == "metrics"
    )


@pytest.mark.parametrize(
    ("cls", "given"),
    [
        (loggers.WandbLogger, {"name": "demo/trial_7", "version": "demo-trial_7", "project": "p"}),
        (loggers.MLFlowLogger, {"run_name": "demo/trial_7", "experiment_name": "demo", "tracking_uri": "u"}),
    ],
)
def test_lightnings_own_loggers_for_services_are_given_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cls: Any, given: dict[str, Any]
) -> None:
    """Their constructors need packages that are not here; their signatures are what matters."""
    seen: list[dict[str, Any]] = []

    @functools.wraps(cls.__init__)
    def note(self: Any, **arguments: Any) -> None:
        seen.append(arguments)

    monkeypatch.setattr(cls, "__init__", note)
    fixed = {name: value for name, value in given.items() if len(value) == 1}
    loggers_for(functools.partial(cls, **fixed), trial(tmp_path, 7))
    assert seen == [given]


def test_a_function_is_given_what_it_asks_for(tmp_path: Path) -> None:
    seen = []

    def make(trial: int, experiment: str, directory: Path, name: str, version: str) -> Logger:
        seen.append((trial, experiment, directory, name, version))
        return CSVLogger(directory, name="own", version="chosen")

    given = trial(tmp_path, 5)
    evaluator(make).evaluate(given, go_on)
    assert seen == [(5, "demo", given.directory, "demo/trial_5", "demo-trial_5")]
    assert (given.directory / "own/chosen/metrics.csv").is_file()


def test_a_trial_that_was_paused_goes_on_in_the_same_run(tmp_path: Path) -> None:
    made = evaluator([TensorBoardLogger(tmp_path / "tb"), CSVLogger(tmp_path / "csv")])
    paused, whole = trial(tmp_path, 0), trial(tmp_path, 1)
    assert in_two_parts(made, paused, pause=1) == pytest.approx(made.evaluate(whole, go_on), rel=1)
    runs = [
        sorted(p.name for p in (tmp_path / kind / "lightning_logs/demo").iterdir()) for kind in ("tb", "csv")
    ]
    assert runs == [["trial_0", "trial_1"]] * 2
    for tag, points in scalars(tmp_path / "tb/lightning_logs/demo/trial_0").items():
        steps = [step for step, _ in points]
        assert steps == sorted(steps), tag
    steps = [
        [int(row["step"]) for row in rows(tmp_path / f"csv/lightning_logs/demo/trial_{n}/metrics.csv")]
        for n in (0, 1)
    ]
    assert steps[0] == steps[1]


class Crashes(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 5:
            raise ConnectionError("the machine is gone")


@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_what_a_crashed_attempt_logged_after_its_checkpoint_is_not_there_twice(
    tmp_path: Path, has_checkpoint: bool
) -> None:
    both = [TensorBoardLogger(tmp_path / "tb"), CSVLogger(tmp_path / "csv", flush_logs_every_n_steps=1)]
    given = trial(tmp_path)
    with pytest.raises(ConnectionError):
        evaluator(both, callbacks=[Crashes()]).evaluate(given, go_on)
    checkpoint = given.directory / "checkpoint" if has_checkpoint else None
    evaluator(both).evaluate(replace(given, resume_from=checkpoint), go_on)
    steps = [step for step, _ in scalars(tmp_path / "tb/lightning_logs/demo/trial_0")["train_loss"]]
    assert steps == [*range(12), 11], "the last is the final metric"
    there = rows(tmp_path / "csv/lightning_logs/demo/trial_0/metrics.csv")
    assert [int(row["step"]) for row in there if row["train_loss"]] == list(range(12))


def test_the_hparams_tab_has_one_row_for_a_trial_with_its_sample_and_final_metrics(tmp_path: Path) -> None:
    made = evaluator(TensorBoardLogger(tmp_path, name="tb"))
    metrics = made.evaluate(trial(tmp_path), go_on)
    run = tmp_path / "tb/demo/trial_0"
    assert hparams(run) == ({"width": 4.0, "rate": 0.1}, set(metrics))
    curve = scalars(run)["val_loss"]
    assert curve[-1] == (11, pytest.approx(metrics["val_loss"]))
    assert "hp_metric" not in scalars(run)


def test_a_search_for_a_sample_has_no_row_there(tmp_path: Path) -> None:
    evaluator(TensorBoardLogger(tmp_path, name="tb")).evaluate(replace(trial(tmp_path), sample={}), go_on)
    tags = set(scalars(tmp_path / "tb/demo/trial_0"))
    assert "val_loss" in tags
    assert "hp_metric" not in tags


def test_tune_gives_each_trial_its_run(tmp_path: Path) -> None:
    def module(rate: float = 0.1, width: int = 4) -> Lit:
        return Lit(nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2)), rate)

    experiment = hpo.tune(
        module,
        {"rate": Float(0.01, 0.1, log=True), "width": Categorical([2, 4])},
        train_dataloaders=loader,
        val_dataloaders=loader,
        trainer={
            "max_epochs": 1,
            "accelerator": "cpu",
            "logger": TensorBoardLogger(tmp_path),
            "log_every_n_steps": 1,
        },
        strategy=strategies.Random(),
        max_trials=2,
        directory=tmp_path / "tuned",
        runner="inprocess",
        progress=False,
    )
    for done in experiment.trials:
        row, metrics = hparams(tmp_path / f"lightning_logs/tuned/trial_{done.number}")
        assert row == pytest.approx(done.sample)
        assert metrics == set(done.metrics)


@pytest.mark.slow
def test_trials_in_processes_do_not_share_a_run(tmp_path: Path) -> None:
    made = evaluator(TensorBoardLogger(tmp_path / "tb"), max_epochs=1)
    experiment = Experiment(
        {"width": Categorical([1, 2, 3, 4])},
        Built(made),
        strategies.GridSearch(),
        max_trials=4,
        concurrency=2,
        objective="val_loss",
        directory=tmp_path / "demo",
        progress=False,
    ).run()
    assert [done.reason for done in experiment.trials] == [None] * 4
    for done in experiment.trials:
        row, _ = hparams(tmp_path / f"tb/lightning_logs/demo/trial_{done.number}")
        assert row == {**done.sample, "rate": 0.1}


class Built:
    """An evaluator of candidates without a model."""

    def __init__(self, inner: LightningEvaluator) -> None:
        self.inner = inner

    def evaluate(self, candidate: Candidate, report: Any) -> Any:
        width = candidate.sample["width"]
        net = nn.Sequential(nn.Linear(4, width), nn.Linear(width, 2))
        return self.inner.evaluate(replace(candidate, build=lambda: net), report)
