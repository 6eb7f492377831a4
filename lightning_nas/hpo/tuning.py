"""`tune`: the hyper-parameters of a LightningModule, its data and its Trainer, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lightning_nas.evaluators import LightningEvaluator
from lightning_nas.experiment import Experiment
from lightning_nas.hpo.receivers import (
    Receiver,
    receiver_of_data,
    receiver_of_module,
    receiver_of_trainer,
    routes,
    with_arguments,
)
from lightning_nas.space import Domain, Sample, SearchSpace
from lightning_nas.strategies import TPE
from lightning_nas.trial import Candidate, Metrics, Report

if TYPE_CHECKING:
    from lightning_nas.stopping import StoppingRule
    from lightning_nas.strategies import Strategy

LENGTHS = {
    "max_epochs",
    "max_steps",
    "max_time",
    "check_val_every_n_epoch",
    "val_check_interval",
    "fast_dev_run",
}
"""Arguments of the Trainer that decide how many reports a training makes."""

COUNTS = {"devices", "num_nodes"}
"""Arguments of the Trainer that decide how many processes train."""

PLACES = COUNTS | {"accelerator", "strategy"}
"""Those that decide it where there are several."""


def tune(
    module: Callable[..., Any],
    space: Mapping[str, Domain],
    *,
    model: Any = None,
    datamodule: Any = None,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    trainer: Mapping[str, Any] | None = None,
    strategy: Strategy | None = None,
    stopping: StoppingRule | None = None,
    objective: str = "val_loss",
    max_trials: int | None = 50,
    **settings: Any,
) -> Experiment:
    """Searches the best arguments of a LightningModule, its data and its Trainer, and returns the search, run.

    Each label of the space is an argument, by its name, of exactly one of these: the constructor of the
    module, that of the data, the Trainer. Where two of them have an argument of this name, write
    `module.NAME`, `datamodule.NAME` or `trainer.NAME` as the label. What a sample does not say (a label that
    is not active) keeps its default.

    Args:
        module: makes the LightningModule: its class, a function, or a `functools.partial` with what stays
            fixed. With `model`, its first argument is the network.
        space: labels and domains. With `model`, the model's own labels may be among them.
        model: a model space, searched in the same experiment: an instance of a class under `@model_wrapper`.
        datamodule: a LightningDataModule: its class, a function or a `functools.partial` that makes one; or an
            instance, which is made anew where the space has arguments of it. That needs
            `save_hyperparameters()` in its constructor.
        train_dataloaders, val_dataloaders: instead of it: loaders, or functions that make them. Labels may
            be arguments of these functions, one label of both.
        trainer: the Trainer's fixed arguments, such as `max_epochs`; see `LightningEvaluator` for defaults.
        strategy: proposes samples; None for `TPE()`.
        stopping: ends or pauses trials early. The schedules of a paused trial see all epochs.
        objective: the metric that counts, as the module logs it.
        max_trials: how many trials in all.
        settings: of the `Experiment`: `directory`, `concurrency`, `seed`, `max_duration`, ...

    Returns:
        The experiment, after its `run`. The best arguments are `experiment.best.sample`.

    Raises:
        ValueError: if a label is no argument of any, or of several; the message says of which.
        TypeError: if an argument without a default is missing, or something of the wrong kind is given.

    Example::

        experiment = tune(
            LitModel,
            {"lr": Float(1e-4, 1e-1, log=True), "batch_size": Categorical([32, 64, 128])},
            datamodule=MyData,
            trainer=dict(max_epochs=5),
            stopping=ASHA(),
            objective="val_acc",
        )
    """
    network = None
    searched = space if isinstance(space, SearchSpace) else SearchSpace(space)
    own = frozenset[str]()
    if model is not None:
        from lightning_nas.mutables import Blueprint, blueprint

        network = model if isinstance(model, Blueprint) else blueprint(model)
        own = frozenset(network.space)
    evaluator = TuningEvaluator(
        module,
        dict(trainer or {}),
        datamodule,
        train_dataloaders,
        val_dataloaders,
        has_model=network is not None,
        labels=tuple(label for label in searched if label not in own),
    )
    return Experiment(
        searched if network is None else network,
        evaluator,
        strategy or TPE(),
        space=None if network is None else searched,
        stopping=stopping,
        objective=objective,
        max_trials=max_trials,
        **settings,
    ).run()


@dataclass(frozen=True)
class TuningEvaluator:
    """Trains with the arguments that a sample gives; see `tune`.

    Args:
        module, trainer, datamodule, train_dataloaders, val_dataloaders: as in `tune`.
        has_model: whether the module is given a network.
        labels: those that are arguments.
    """

    module: Callable[..., Any]
    trainer: Mapping[str, Any]
    datamodule: Any
    train_dataloaders: Any
    val_dataloaders: Any
    has_model: bool
    labels: tuple[str, ...]
    _routes: Mapping[str, tuple[str, str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        receivers: list[Receiver] = [receiver_of_module(self.module, self.has_model)]
        for data in (self.datamodule, self.train_dataloaders, self.val_dataloaders):
            receivers += receiver_of_data(data)
        found = routes(self.labels, [*receivers, receiver_of_trainer()])
        object.__setattr__(self, "_routes", found)
        for receiver in receivers:
            given = {name for role, name in found.values() if role == receiver.role}
            receiver.check_complete(given)
        self._evaluator({})  # which checks the rest

    @property
    def max_steps(self) -> int | None:
        """See `LightningEvaluator.max_steps`; None if the Trainer's arguments that decide it are searched."""
        return None if self._searched() & LENGTHS else self._evaluator({}).max_steps

    @property
    def ranks(self) -> int:
        """See `LightningEvaluator.ranks`.

        Raises:
            ValueError: if arguments that decide it are searched.
        """
        ranks = self._evaluator({}).ranks
        for name in sorted(self._searched() & (COUNTS if ranks == 1 else PLACES)):
            raise ValueError(
                f"`{name}` of the Trainer cannot be searched: a trial has its processes and GPUs before its sample "
                "is looked at. Give it in `trainer`."
            )
        return ranks

    @property
    def runs_on_cpu(self) -> bool:
        """See `LightningEvaluator.runs_on_cpu`."""
        return self._evaluator({}).runs_on_cpu

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """See `LightningEvaluator.evaluate`."""
        if not self.has_model:
            build = partial(self.module, **self._arguments(candidate.sample, "module"))
            candidate = replace(candidate, build=build)
        return self._evaluator(candidate.sample).evaluate(candidate, report)

    def _evaluator(self, sample: Sample) -> LightningEvaluator:
        data = self._arguments(sample, "datamodule")
        return LightningEvaluator(
            partial(_called, self.module, self._arguments(sample, "module")) if self.has_model else _itself,
            {**self.trainer, **self._arguments(sample, "trainer")},
            train_dataloaders=with_arguments(self.train_dataloaders, data),
            val_dataloaders=with_arguments(self.val_dataloaders, data),
            datamodule=with_arguments(self.datamodule, data),
        )

    def _searched(self) -> set[str]:
        """The arguments of the Trainer that are."""
        return {name for role, name in self._routes.values() if role == "trainer"}

    def _arguments(self, sample: Sample, role: str) -> dict[str, Any]:
        found = {label: route for label, route in self._routes.items() if route[0] == role}
        return {name: sample[label] for label, (_, name) in found.items() if label in sample}


def _called(module: Callable[..., Any], arguments: Mapping[str, Any], model: Any) -> Any:
    return module(model, **arguments)


def _itself(model: Any) -> Any:
    return model
