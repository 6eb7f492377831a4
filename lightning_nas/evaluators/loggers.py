"""The user's Lightning loggers in a trial: each trial is a run of its own, and goes on in it.

A logger finds the number of its run when it is first used, and trials that share one find the same. So a trial
is not given a logger but one made for it, whose run bears the names of the experiment and of the trial.
"""

from __future__ import annotations

import copy
import csv
import functools
import inspect
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_nas.evaluators.callback import logged_metrics
from lightning_nas.evaluators.roots import is_a, root_of
from lightning_nas.report import current_trial
from lightning_nas.trial import Candidate

LOGS = "logs"
"""The folder of a trial's logs, where they are to be in the trial's own."""

_IN_FILES = ("TensorBoardLogger", "CSVLogger")  # whose runs are `<save_dir>/<name>/<version>`
_RUN_IDS = "loggers.json"  # in a trial's folder
_CSV = "metrics.csv"

Rows = dict[str, list[dict[str, str]]]
"""By the folder of a CSVLogger's run: what an earlier attempt left there."""


def check_loggers(given: Any) -> None:
    """Raises TypeError if `given`, a Trainer's `logger`, is a logger that all trials would write to as one run."""
    for logger in _each(given):
        if isinstance(logger, bool) or _is_recipe(logger) or is_in_files(type(logger)):
            continue
        name = type(logger).__name__
        raise TypeError(
            f"A {name} is one run, and each trial needs one of its own; give what makes it, such as the class or "
            f"functools.partial({name}, ...), which is called in each trial with the names of its run."
            if is_a(logger, "Logger")
            else f"`logger` must be loggers, or what makes them, but got {logger!r}."
        )


def loggers_for(given: Any, candidate: Candidate | None) -> Any:
    """The `logger` of the Trainer of one trial.

    Args:
        given: True, False or None; loggers, classes or functions that make one, or a list of these.
        candidate: the trial; None outside one, where loggers are used as they are.

    Raises:
        TypeError: if what makes a logger makes something else.
    """
    if given is None or isinstance(given, bool):
        return given
    run_ids = [] if candidate is None else read_run_ids(candidate)
    result = []
    for index, logger in enumerate(_each(given)):
        if _is_recipe(logger):
            run_id = run_ids[index] if index < len(run_ids) else None
            result.append(_made(logger, candidate, run_id))
        elif candidate is None:
            result.append(logger)
        else:
            result.append(_without_version(logger))
    return result


def names_of(candidate: Candidate, run_id: str | None = None) -> dict[str, str]:
    """The names of a trial's run, as the constructors of Lightning's loggers call them.

    >>> names_of(Candidate(3, {}, object, Path(), experiment="digits: 1"))["version"]
    'digits-1-trial_3'
    """
    run = f"{candidate.experiment}/trial_{candidate.number}".lstrip("/")
    names = {
        "name": run,
        "run_name": run,
        "experiment_name": candidate.experiment,
        # For WandbLogger the key of the run, which may not have all characters.
        "version": re.sub(r"[^\w.-]+", "-", run),
    }
    given = {**names, "run_id": run_id or ""}
    return {name: value for name, value in given.items() if value}


def begin_run(trainer: Any, candidate: Candidate) -> TrialLogs:
    """Gives the loggers of a Trainer that were left to number their runs the run of this trial.

    Changes `trainer`. A TensorBoardLogger or CSVLogger without a version of its own writes to
    `<save_dir>/<name>/<experiment>/trial_<number>`, in the trial's folder to `logs`.

    Returns:
        The callback that goes with them.
    """
    rows: Rows = {}
    for logger in trainer.loggers:
        if is_in_files(type(logger)) and _is_unnumbered(logger):
            _address(logger, candidate)
            if trainer.is_global_zero and os.path.isdir(logger.log_dir):
                step = steps_in(candidate.resume_from)
                if is_a(logger, "TensorBoardLogger"):
                    # What the earlier attempt logged after its checkpoint is not shown.
                    logger._kwargs = {**logger._kwargs, "purge_step": step}
                else:
                    rows |= kept_rows(logger.log_dir, step)
    return TrialLogs(rows)


def steps_in(checkpoint: Path | None) -> int:
    """The step, as loggers count it, at which a training goes on from `checkpoint`; 0 where there is none."""
    if checkpoint is None or not checkpoint.is_file():
        return 0
    loops = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=False)["loops"]
    return int(loops["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"])


def kept_rows(folder: str, step: int) -> Rows:
    """The rows before `step` of what a CSVLogger wrote to `folder`; it would delete the file when it goes on."""
    path = Path(folder) / _CSV
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    return {folder: [row for row in rows if int(row.get("step", -1)) < step]}


def read_run_ids(candidate: Candidate) -> list[str | None]:
    """The keys that servers gave the runs of an earlier attempt, by the index of the logger."""
    path = candidate.directory / _RUN_IDS
    result: list[str | None] = json.loads(path.read_text()) if path.is_file() else []
    return result


def is_in_files(cls: Any, *names: str) -> bool:
    """Whether a class is Lightning's TensorBoardLogger or CSVLogger, or that of these names, or comes from it."""
    bases = cls.__mro__ if isinstance(cls, type) else ()
    return any(base.__name__ in (names or _IN_FILES) and root_of(base) is not None for base in bases)


class TrialLogs(Callback):
    """Tells the loggers what is tried: the trial's sample and, when a training has ended, its final metrics.

    TensorBoard's HParams tab has one row for each trial so. It heeds the first word of a run on its hyper-parameters;
    so those that the module saves (`save_hyperparameters`) go there at the end too, with the metrics, and not at the
    start without. Outside a trial, and in a search for a sample, it does nothing.

    Args:
        rows: to be put back into the files of CSVLoggers.
    """

    def __init__(self, rows: Rows | None = None) -> None:
        self._rows = rows or {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        trial = current_trial()
        if stage != "fit" or trial is None or not trainer.is_global_zero:
            return
        _write_run_ids(trial.candidate, trainer.loggers)
        for logger in trainer.loggers:
            if is_a(logger, "TensorBoardLogger"):  # it only takes note of hyper-parameters then
                logger._default_hp_metric = False  # type: ignore[attr-defined]
            if trial.candidate.sample:
                logger.log_hyperparams(dict(trial.candidate.sample))
            if is_a(logger, "CSVLogger") and self._rows.get(logger.log_dir or ""):
                logger.experiment.metrics[:0] = self._rows[logger.log_dir or ""]  # type: ignore[attr-defined]
                logger.save()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        trial = current_trial()
        if stage != "fit" or trial is None or not trial.candidate.sample or not trainer.is_global_zero:
            return
        metrics = {**logged_metrics(trainer), **(trial.final or {})}
        # The step of the last values that Lightning logged, so that curves get no further point.
        step = max(0, trainer.fit_loop.epoch_loop._batches_that_stepped - 1)
        for logger in filter(_takes_metrics, trainer.loggers):
            arguments = {"step": step} if "step" in _parameters(logger.log_hyperparams) else {}
            told = {**getattr(logger, "hparams", {}), **trial.candidate.sample}
            logger.log_hyperparams(told, metrics, **arguments)


def _each(given: Any) -> Sequence[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _is_recipe(logger: Any) -> bool:
    return callable(logger) and not is_a(logger, "Logger")


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def _takes_metrics(logger: Any) -> bool:
    return "metrics" in _parameters(logger.log_hyperparams)


def _made(make: Any, candidate: Candidate | None, run_id: str | None) -> Any:
    """The logger that a class or function makes, given what it has a name for and was not given already."""
    fixed, what = (make.keywords, make.func) if isinstance(make, functools.partial) else ({}, make)
    offered: dict[str, Any] = {}
    if candidate is not None and is_in_files(what):  # its names make a path; see `begin_run`
        offered = {"save_dir": candidate.directory}
    elif candidate is not None:
        offered = dict(names_of(candidate, run_id))
        if not isinstance(what, type):  # to a class `experiment` may mean something else
            place = {"trial": candidate.number, "directory": candidate.directory}
            offered |= {"experiment": candidate.experiment, **place}
    names = [name for name in _parameters(make) if name in offered and name not in fixed]
    logger = make(**{name: offered[name] for name in names})
    if not is_a(logger, "Logger"):
        raise TypeError(f"`logger` must make a Logger of Lightning, but {make!r} made {logger!r}.")
    return logger


def _without_version(logger: Any) -> Any:
    """A copy of a TensorBoardLogger or CSVLogger, unused; a version that it was given becomes a part of its name."""
    result = copy.copy(logger)
    result._experiment = None
    if not _is_unnumbered(logger):
        result._name = os.path.join(logger.name, _folder_of(logger.version))
        result._version = None
    return result


def _is_unnumbered(logger: Any) -> bool:
    """Whether it was left to Lightning to number its runs; in a job of SLURM that gives all the job's number."""
    return logger._version is None or str(logger._version) == os.environ.get("SLURM_JOB_ID")


def _folder_of(version: int | str) -> str:
    return version if isinstance(version, str) else f"version_{version}"


def _address(logger: Any, candidate: Candidate) -> None:
    if Path(logger.save_dir).absolute().is_relative_to(candidate.directory.absolute()):
        logger._name, logger._version = "", LOGS
    else:
        logger._name = os.path.join(logger.name, candidate.experiment)
        logger._version = f"trial_{candidate.number}"


def _write_run_ids(candidate: Candidate, loggers: Sequence[Any]) -> None:
    """Keeps the keys that servers gave the runs (MLflow's `run_id`), for when the trial goes on."""
    found = [getattr(logger, "run_id", None) for logger in loggers]
    if any(isinstance(run_id, str) for run_id in found):
        (candidate.directory / _RUN_IDS).write_text(json.dumps(found))
