"""`sweep`: the best values for any keys of a LightningCLI config."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lightning_nas.errors import ExperimentError, MetricError
from lightning_nas.evaluators.lightning import reports_in
from lightning_nas.evaluators.loggers import LOGS
from lightning_nas.evaluators.pausing import CHECKPOINT
from lightning_nas.experiment import Experiment, trial_seed
from lightning_nas.hpo.documents import ConfigError, read_document
from lightning_nas.hpo.sweep_callback import class_path
from lightning_nas.hpo.sweep_loggers import loggers_of_trial
from lightning_nas.hpo.sweep_program import Program, Resolver, default_cli, has_key, nearest_key
from lightning_nas.hpo.sweep_space import SweepSpace, read_sweep_space
from lightning_nas.hpo.tuning import LENGTHS
from lightning_nas.report import running
from lightning_nas.space import Sample
from lightning_nas.strategies import TPE
from lightning_nas.trial import Candidate, Metrics, Report

if TYPE_CHECKING:
    from lightning_nas.stopping import StoppingRule
    from lightning_nas.strategies import Strategy

CONFIG = "config.yaml"
"""The whole config of a trial, in its folder."""


def sweep(
    config: str | Path,
    space: str | Path | Mapping[str, Any],
    *,
    cli: str | Callable[[], Any] | None = None,
    strategy: Strategy | None = None,
    stopping: StoppingRule | None = None,
    objective: str = "val_loss",
    max_trials: int | None = 50,
    **settings: Any,
) -> Experiment:
    """Searches the best values for keys of a LightningCLI config, and returns the search, run.

    Each trial is a run of the user's own program, as `python main.py fit --config CONFIG` would be, and
    `trials/<number>/config.yaml` is its whole config: with it the same program trains the same again. A
    seed that the config leaves to chance is set by the experiment's seed and the trial's number. What Lightning
    writes in a trial, by `default_root_dir` or a logger's `save_dir`, is in `trials/<number>/logs`; loggers of
    services are given the trial's names where the config leaves theirs null, and all are told its sample.

    Args:
        config: the file for `fit`. Trials read it, so it must stay as it is while the sweep runs.
        space: a file, or a mapping of dotted keys of the config to what is searched; see `read_sweep_space`.
        cli: the program with the LightningCLI: a script ("main.py"), "module:name", or a class or function to
            call without arguments. None for a config that names its classes itself (`class_path`).
        strategy: proposes samples; None for `TPE()`.
        stopping: ends or pauses trials early.
        objective: the metric that counts, as the module logs it.
        max_trials: how many trials in all.
        settings: of the `Experiment`: `directory`, `concurrency`, `seed`, `mode`, `max_duration`, ...

    Returns:
        The experiment, after its `run`.

    Raises:
        ConfigError: in one line with the file and the key, if the config or the space is wrong, or the
            program's parser refuses a value of the space. Nothing has been run or written then.
        ExperimentError: if `directory` holds another experiment, or trials of another config.

    Example::

        experiment = sweep(
            "fit.yaml",
            {"model.lr": Float(1e-4, 1e-1, log=True), "data.batch_size": Categorical([32, 64])},
            cli="main.py",
            objective="val_acc",
        )
    """
    return sweep_experiment(
        config,
        space,
        cli=cli,
        strategy=strategy,
        stopping=stopping,
        objective=objective,
        max_trials=max_trials,
        **settings,
    ).run()


def sweep_experiment(
    config: str | Path,
    space: str | Path | Mapping[str, Any],
    *,
    cli: str | Callable[[], Any] | None = None,
    strategy: Strategy | None = None,
    **settings: Any,
) -> Experiment:
    """The experiment of `sweep`, all checked, before its `run`."""
    path = Path(config)
    read_document(path)  # which says in one line what is no YAML
    searched = read_sweep_space(space)
    program = Program(default_cli(path) if cli is None else cli)
    trainer = _checked(program, path, searched)
    evaluator = SweepEvaluator(
        program,
        path.absolute(),
        path.read_text(),
        searched,
        _max_steps(trainer, searched),
        settings.get("seed", 0),
    )
    experiment = Experiment(searched.space, evaluator, strategy or TPE(), **settings)
    _check_it_goes_on(experiment, evaluator)
    return experiment


@dataclass(frozen=True)
class SweepEvaluator:
    """Trains by running a LightningCLI program on the config that a sample gives; see `sweep`.

    Args:
        program: the user's.
        config: the file that samples change.
        text: what it held when the sweep was made.
        space: how samples change it.
        max_steps: see `LightningEvaluator.max_steps`.
        seed: of the experiment.
    """

    program: Program
    config: Path
    text: str
    space: SweepSpace
    max_steps: int | None = None
    seed: int = 0

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """Writes the trial's config and runs the program on it.

        Returns:
            Every metric that the module has logged, at its last value.

        Raises:
            ExperimentError: if the config has been changed since the sweep was made.
            MetricError: if there is no metric.
            Exception: what the program raises.
        """
        if self.config.read_text() != self.text:
            raise ExperimentError(
                f"{self.config} has changed since the sweep began; put it back or begin another."
            )
        with self.program.surroundings():
            resolver = Resolver(self.program.parser(), self.config)
            whole = self.whole(resolver, candidate.number, candidate.sample)
            path = candidate.directory.absolute() / CONFIG
            path.write_text(f"# trial {candidate.number}\n" + yaml.safe_dump(whole, sort_keys=False))
            with running(candidate, report) as trial:
                self.program.run(_arguments(resolver, path, whole, candidate))
        if not trial.final:
            raise MetricError(
                'The program logged no metric; call e.g. self.log("val_acc", accuracy) in a validation_step.'
            )
        return trial.final

    def whole(self, resolver: Resolver, number: int, sample: Sample) -> dict[str, Any]:
        """The whole config of a trial."""
        result = resolver.resolve(self.space.changes(sample))
        if result.get("seed_everything") is True:
            result["seed_everything"] = trial_seed(self.seed, number)
        return result


def _arguments(resolver: Resolver, path: Path, whole: Mapping[str, Any], candidate: Candidate) -> list[str]:
    """What the program is started with: the trial's config, and what is about the trial alone.

    That does not stand in the config, so that a later run of it is the user's own.
    """
    folder = candidate.directory.absolute()
    lasting = {"checkpoint": str(folder / CHECKPOINT), "may_pause": candidate.may_pause}
    callback = {"class_path": class_path(resolver.root), "init_args": lasting}
    result = [*resolver.subcommand, "--config", str(path), f"--trainer.callbacks+={json.dumps(callback)}"]
    # Logs are the trial's: in one folder two trials would take the same number for theirs.
    trainer = whole["trainer"]
    if "default_root_dir" in trainer:
        # Lightning puts a copy of the config here, and refuses to put a second one.
        (folder / LOGS / CONFIG).unlink(missing_ok=True)
        result.append(f"--trainer.default_root_dir={folder / LOGS}")
    if "logger" in trainer:
        loggers = loggers_of_trial(trainer["logger"], candidate, resolver.root)
        result.append(f"--trainer.logger={json.dumps(loggers)}")
    if candidate.resume_from is not None and resolver.subcommand:
        result.append(f"--ckpt_path={candidate.resume_from}")
    return result


def _checked(program: Program, config: Path, searched: SweepSpace) -> Mapping[str, Any]:
    """Resolves the config alone and with each value once; returns the Trainer's arguments.

    Raises:
        ConfigError: with the file and the key, if one of them is refused.
    """
    with program.surroundings():
        resolver = Resolver(program.parser(), config.absolute())
        try:
            whole = resolver.resolve({})
        except ConfigError as error:
            raise ConfigError(f"{config}: {error}") from None
        for label, sample in searched.probes():
            reason = _why_not(resolver, searched, label, sample, whole)
            if reason is not None:
                raise searched.error(label, reason)
    trainer: Mapping[str, Any] = whole["trainer"]
    return trainer


def _why_not(
    resolver: Resolver, searched: SweepSpace, label: str, sample: Sample, whole: Mapping[str, Any]
) -> str | None:
    """Why a sample cannot be, or None."""
    is_in_option = "/" in label
    try:
        changed = resolver.resolve(searched.changes(sample))
    except ConfigError as error:
        if is_in_option or has_key(whole, label):
            return f"{str(error).rstrip('.')}, for the value {sample[label]!r}."
        close = nearest_key(whole, label)
        hint = f"did you mean {close!r}?" if close is not None else str(error)
        return f"the config has no such key; {hint}"
    if is_in_option or has_key(changed, label):
        return None
    # A linked key may be given, but is then not heeded.
    return "the program links this key to another one (link_arguments), which is the one to search."


def _check_it_goes_on(experiment: Experiment, evaluator: SweepEvaluator) -> None:
    """Raises ExperimentError if the experiment has a trial that this config and program would run otherwise."""
    folder = experiment.directory / "trials"
    trial = next((each for each in experiment.trials if (folder / str(each.number) / CONFIG).is_file()), None)
    if trial is None:
        return
    path = folder / str(trial.number) / CONFIG
    with evaluator.program.surroundings():
        resolver = Resolver(evaluator.program.parser(), evaluator.config)
        whole = evaluator.whole(resolver, trial.number, evaluator.space.space.check(trial.sample))
    if yaml.safe_load(path.read_text()) != yaml.safe_load(yaml.safe_dump(whole)):
        raise ExperimentError(
            f"{experiment.directory} holds trials of another config: {path} is not what {evaluator.config} gives now. "
            "Give another directory, or the config it was made with."
        )


def _max_steps(trainer: Mapping[str, Any], searched: SweepSpace) -> int | None:
    """How many reports a trial makes that is never stopped; None if the config does not tell or it is searched."""
    from pytorch_lightning import Trainer

    if any(f"trainer.{name}" in searched.space for name in LENGTHS):
        return None
    defaults = inspect.signature(Trainer).parameters
    given = {name: trainer.get(name) for name in LENGTHS}
    given = {name: value for name, value in given.items() if value not in (None, defaults[name].default)}
    return reports_in(given)
