"""Loggers in the config of a sweep: a trial is one run, also when it goes on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from sweep_project import FIT, SPACE, config_of, run

from lightning_nas import Experiment, Status
from lightning_nas.hpo.sweep_loggers import loggers_of_trial
from lightning_nas.stopping import ASHA
from lightning_nas.trial import Candidate

# A trial is the user's own program, which warns as it always does.
pytestmark = pytest.mark.filterwarnings("ignore")


def sweep_with(logger: Any, project: Path, **settings: Any) -> Experiment:
    (project / "fit.yaml").write_text(
        FIT.replace("logger: false", f"log_every_n_steps: 1\n  logger: {json.dumps(logger)}")
    )
    return run(SPACE, **settings)


def logs(exp: Experiment, number: int) -> Path:
    return exp.directory / "trials" / str(number) / "logs"


@pytest.mark.parametrize("is_list", [False, True])
def test_what_a_trial_logs_is_in_its_own_folder_and_its_config_is_the_users(
    project: Path, is_list: bool
) -> None:
    logger = {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": {"save_dir": "all_logs"}}
    exp = sweep_with([logger] if is_list else logger, project)
    assert [trial.reason for trial in exp.trials] == [None, None]
    for number in (0, 1):
        assert (logs(exp, number) / "metrics.csv").is_file()
        kept = config_of(exp, number)["trainer"]["logger"]
        assert (kept[0] if is_list else kept)["init_args"]["save_dir"] == "all_logs"
    assert not (project / "all_logs").exists()


def test_a_trial_that_goes_on_does_so_in_its_run(project: Path) -> None:
    loggers = [{"class_path": f"pytorch_lightning.loggers.{name}Logger"} for name in ("TensorBoard", "CSV")]
    for each in loggers:
        each["init_args"] = {"save_dir": "all_logs"}  # type: ignore[assignment]
    exp = sweep_with(loggers, project, stopping=ASHA(), max_trials=3)
    (done,) = (trial for trial in exp.trials if trial.status is Status.COMPLETED)
    assert done.number != 2, "it was paused"
    rows = list(csv.DictReader((logs(exp, done.number) / "metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows if row["val_acc"]] == [2, 5, 8]
    assert len(list(logs(exp, done.number).glob("events.out*"))) > 1


def test_the_logger_that_lightning_takes_by_itself_tells_the_sample_and_the_final_metrics(
    project: Path,
) -> None:
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    exp = sweep_with(None, project)
    for trial in exp.trials:
        read = module.EventAccumulator(str(logs(exp, trial.number))).Reload()
        assert read.Scalars("val_acc")[-1].value == pytest.approx(trial.metrics["val_acc"])
        assert set(read.PluginTagToContent("hparams")) >= {"_hparams_/session_start_info"}
        told = yaml.safe_load((logs(exp, trial.number) / "hparams.yaml").read_text())
        assert {label: told[label] for label in trial.sample} == trial.sample


def test_a_service_is_given_the_names_that_the_config_leaves_open(tmp_path: Path) -> None:
    (tmp_path / "loggers.json").write_text('[null, "a1"]')
    candidate = Candidate(4, {}, object, tmp_path, experiment="demo")
    arguments = {"experiment_name": "mine", "run_name": None, "run_id": None, "save_dir": "x"}
    logger = {"class_path": "pytorch_lightning.loggers.MLFlowLogger", "init_args": arguments}
    _, made = loggers_of_trial([logger, logger], candidate, "pytorch_lightning")
    assert made["init_args"] == {
        "experiment_name": "mine",
        "run_name": "demo/trial_4",
        "run_id": "a1",
        "save_dir": str(tmp_path / "logs"),
    }
