"""An evaluator that trains with PyTorch Lightning."""

from __future__ import annotations

import copy
import difflib
import functools
import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from lightning_nas.errors import MetricError
from lightning_nas.evaluators.artifacts import Recorder
from lightning_nas.evaluators.callback import ReportCallback, logged_metrics
from lightning_nas.evaluators.interrupts import ctrl_c_raises
from lightning_nas.evaluators.loaders import loaders_restored
from lightning_nas.evaluators.loggers import begin_run, check_loggers, loggers_for
from lightning_nas.evaluators.pausing import CHECKPOINT, trial_checkpoint
from lightning_nas.evaluators.quiet import quiet
from lightning_nas.evaluators.ranks import check_launch, ranks_in
from lightning_nas.evaluators.roots import common_root, is_a
from lightning_nas.report import current_sample, current_trial, output_directory, resume_checkpoint, running
from lightning_nas.trial import Candidate, Metrics, Report


@dataclass(frozen=True)
class LightningEvaluator:
    """Trains a candidate under a LightningModule of the user's and takes the metrics it logs.

    Everything may come from `pytorch_lightning` or from `lightning.pytorch`; the Trainer is made from
    the package of the module and the data.

    Args:
        module_factory: `module_factory(model)`, a LightningModule around the candidate's model. If it has
            a parameter named `sample`, it is given the sample (a learning rate may be searched with
            the model), and one named `lightning` is given the package to take `LightningModule` from.
        trainer: arguments of a Trainer, or a function without arguments that makes one. With arguments,
            a trial is quiet unless they say otherwise: no logger, progress bar, model summary or
            checkpoints, files in the trial's folder; callbacks are copied for each trial. A function
            decides all this by itself (`lightning_nas.output_directory()` is the trial's folder).
            Each trial is a run of its loggers, in which it goes on after a pause or a crash. A
            TensorBoardLogger or CSVLogger writes to `<save_dir>/<name>/<experiment>/trial_<number>`, or, given as
            `logger=True` or as the class itself, to `logs` in the trial's folder. Of any other logger give what
            makes it: a class, a function or `functools.partial(WandbLogger, project="digits")`. It is called in each
            trial with those of these that it has parameters for: `name` and `run_name` (both
            "<experiment>/trial_<number>"), `version` and `experiment_name`; a function also of `experiment`, `trial`
            and `directory`. The sample and the final metrics are logged too.
        train_dataloaders, val_dataloaders: as in `Trainer.fit`, or functions without arguments that make
            them, so that not every trial has to be sent the data.
        datamodule: instead of the loaders: a LightningDataModule, or a class or function that makes one.
        seed: None trains each trial under the random state that it finds, which an `Experiment` sets from
            its own seed and the trial's number. An integer seeds `random`, numpy and torch from it and
            the trial's number instead.

    Raises:
        TypeError: if `trainer` is neither, or the Trainer has no such argument, or `logger` is one that trials
            cannot share, or `module_factory` cannot be called.
        ValueError: if both loaders and a data module are given.
    """

    module_factory: Callable[..., Any]
    trainer: Mapping[str, Any] | Callable[[], Any] = field(default_factory=dict)
    _: KW_ONLY
    train_dataloaders: Any = None
    val_dataloaders: Any = None
    datamodule: Any = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if not callable(self.module_factory):
            raise TypeError(
                "`module_factory` must make a LightningModule of a model, e.g. a subclass of LightningModule "
                f"that takes the model, but got {self.module_factory!r}."
            )
        if self.datamodule is not None and not (self.train_dataloaders is None is self.val_dataloaders):
            raise ValueError("Give either `datamodule` or dataloaders, but got both.")
        if not callable(self.trainer):
            _check_trainer(self.trainer)

    @property
    def max_steps(self) -> int | None:
        """How many reports a trial makes that is never stopped; None if the Trainer's arguments do not tell."""
        return None if callable(self.trainer) else reports_in(self.trainer)

    @property
    def ranks(self) -> int:
        """How many processes train a candidate together, by the Trainer's arguments; 1 for a function's Trainer.

        Raises:
            ValueError: if the arguments ask for several nodes.
        """
        return 1 if callable(self.trainer) else ranks_in(self.trainer)

    @property
    def runs_on_cpu(self) -> bool:
        """Whether the Trainer's arguments say so."""
        return not callable(self.trainer) and self.trainer.get("accelerator") == "cpu"

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """Trains the candidate's model, from `candidate.resume_from` on if it is given.

        A training that breaks off, or is told to stop where the candidate may be paused, leaves a checkpoint
        in its folder (see `pausing`).

        Returns:
            Every metric the module has logged, at its last value; what it gave `report_final_result` too.

        Raises:
            MetricError: if there is no metric.
            Exception: what building or training raises.
        """
        if self.seed is not None:
            _seed_everything(self.seed, candidate.number)
        with running(candidate, report) as trial, Recorder() as recorder:
            model = candidate.build()
            recorder.watch(model)
            lasting = functools.partial(
                trial_checkpoint, path=candidate.directory / CHECKPOINT, may_pause=candidate.may_pause
            )
            trainer = self._train(model, report, (), candidate.resume_from, lasting)
            if trainer.is_global_zero:
                recorder.save(candidate.directory)
            metrics = {**logged_metrics(trainer), **(trial.final or {})}
        if not metrics:
            raise MetricError(
                f'{type(trainer.lightning_module).__name__} logged no metric; call e.g. self.log("val_acc", accuracy) '
                "in its validation_step, and give the evaluator validation data."
            )
        return metrics

    def fit(self, model: nn.Module, report: Report, callbacks: Sequence[Any] = ()) -> Metrics:
        """Trains `model` in place, with further callbacks of Lightning, from the trial's checkpoint on if it has one.

        Changes `model`.

        Returns:
            Every metric the module has logged, at its last value; empty if it logs nothing.

        Raises:
            Exception: what training raises.
        """
        return logged_metrics(self._train(model, report, callbacks, resume_checkpoint()))

    def _train(
        self,
        model: nn.Module,
        report: Report,
        callbacks: Sequence[Any],
        checkpoint: Any,
        make_last: Callable[[ModuleType], Any] | None = None,
    ) -> Any:
        """Fits `model` and returns the Trainer that did it; `make_last` makes a callback of its Lightning."""
        callbacks = [*callbacks, ReportCallback(report)]
        data = {
            "train_dataloaders": _made(self.train_dataloaders),
            "val_dataloaders": _made(self.val_dataloaders),
            "datamodule": _made(self.datamodule),
        }
        with quiet(), loaders_restored():
            trial = current_trial()
            arguments, trainer = ({}, self.trainer()) if callable(self.trainer) else (self.trainer, None)
            logger = loggers_for(arguments.get("logger", False), None if trial is None else trial.candidate)
            things = [trainer, data["datamodule"]]
            # The user's callbacks and loggers tell which Lightning is in use where nothing else does.
            hints = [*_as_list(arguments.get("callbacks")), *_as_list(logger)]
            module = self._module(model, common_root(things, hints))
            lightning = common_root([module, *things], hints)
            last = [] if make_last is None else [make_last(lightning)]
            if trainer is None:
                trainer = lightning.Trainer(
                    **_with_defaults({**arguments, "logger": logger}, callbacks, lightning)
                )
            else:
                # Before checkpoint callbacks, which Lightning keeps at the end.
                trainer.callbacks[:0] = callbacks
            # Now that the Trainer is made: `enable_checkpointing` is for the user's checkpoints.
            trainer.callbacks += last
            if trial is not None:
                check_launch(trainer)
                trainer.callbacks.insert(0, begin_run(trainer, trial.candidate))
            with ctrl_c_raises():
                trainer.fit(module, ckpt_path=checkpoint, **data)
        return trainer

    def _module(self, model: nn.Module, lightning: ModuleType) -> Any:
        offered = {"sample": current_sample() or {}, "lightning": lightning}
        names = inspect.signature(self.module_factory).parameters
        module = self.module_factory(model, **{name: offered[name] for name in names if name in offered})
        if not is_a(module, "LightningModule"):
            raise TypeError(
                f"`module_factory` must return a LightningModule, but returned a {type(module).__name__}."
            )
        return module


def reports_in(arguments: Mapping[str, Any]) -> int | None:
    """How often a Trainer with these arguments validates at the end of an epoch; None if they do not tell.

    They tell if they have `max_epochs`, and no other limit, and the Trainer validates at ends of epochs.

    >>> reports_in({"max_epochs": 7, "check_val_every_n_epoch": 2}), reports_in({"max_epochs": 7, "max_steps": 10})
    (3, None)
    """
    epochs, every = arguments.get("max_epochs"), arguments.get("check_val_every_n_epoch", 1)
    others = ("max_steps", "max_time", "val_check_interval", "fast_dev_run")
    if not (isinstance(epochs, int) and isinstance(every, int)) or any(n in arguments for n in others):
        return None
    return epochs // every if epochs >= every >= 1 else None


def _made(data: Any) -> Any:
    """Data as given, or as the given function or class makes it."""
    return data() if callable(data) else data


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _check_trainer(arguments: Any) -> None:
    """Raises TypeError unless a Trainer can be made of `arguments`."""
    from pytorch_lightning import Trainer  # both Trainers have the same arguments

    if not isinstance(arguments, Mapping):
        raise TypeError(
            "`trainer` must be a dict of a Trainer's arguments or a function that makes a Trainer, since each trial "
            f"needs one of its own, but got a {type(arguments).__name__}."
        )
    known = list(inspect.signature(Trainer).parameters)
    for name in arguments:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see the documentation of lightning.Trainer."
            raise TypeError(f"The Trainer has no argument {name!r}; {hint}")
    check_loggers(arguments.get("logger"))


def _with_defaults(
    arguments: Mapping[str, Any], callbacks: Sequence[Any], lightning: ModuleType
) -> dict[str, Any]:
    """The arguments of a trial's Trainer: the user's, and quiet ones where the user says nothing."""
    own = copy.deepcopy(_as_list(arguments.get("callbacks")))  # EarlyStopping and others keep a state
    given = [*callbacks, *own]
    directory = output_directory()
    return {
        "enable_model_summary": False,
        # Lightning refuses False beside a callback that does just this.
        "enable_progress_bar": any(is_a(each, "ProgressBar") for each in own),
        # It does not know those of its other root, and would add one of its own.
        "enable_checkpointing": any(isinstance(each, lightning.callbacks.Checkpoint) for each in given),
        "default_root_dir": None if directory is None else str(directory),
        **arguments,
        "callbacks": sorted(
            given, key=lambda each: is_a(each, "Checkpoint")
        ),  # last, as Lightning has its own
    }


def _seed_everything(seed: int, number: int) -> None:
    """Seeds random, numpy and torch for one trial."""
    state = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)  # noqa: NPY002  users' code may draw from the global generator
    torch.manual_seed(state)
