"""`Experiment`: a search from its settings to its best models."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from lightning_nas.errors import ExperimentError, StoreError
from lightning_nas.experiment import folder
from lightning_nas.experiment.best import export_best, is_exported
from lightning_nas.experiment.closing import say_how_it_ended
from lightning_nas.experiment.constraints import Limits, Within
from lightning_nas.experiment.description import Description, describe
from lightning_nas.experiment.display import Display, make_display
from lightning_nas.experiment.ending import Ending
from lightning_nas.experiment.environment import environment, visible_gpus
from lightning_nas.experiment.exporting import Formatter, export_trial
from lightning_nas.experiment.failures import common_failure
from lightning_nas.experiment.interrupts import Interrupts
from lightning_nas.experiment.loop import Loop, Plan
from lightning_nas.experiment.model import model_and_space, with_graph_keys
from lightning_nas.experiment.one_shot import Derived, is_one_shot
from lightning_nas.experiment.one_shot import check as check_one_shot
from lightning_nas.experiment.page import start_page
from lightning_nas.experiment.requests import Inbox
from lightning_nas.experiment.runners import InProcessRunner, ProcessRunner, Ray, RayRunner, Runner, Work
from lightning_nas.experiment.runners.gpus import check_per_trial
from lightning_nas.experiment.runners.ranks import check_is_first, ranks_of
from lightning_nas.experiment.settings import check_at_least, fitted_rule, new_directory, seconds
from lightning_nas.experiment.store import DATABASE, SqliteStore, Store
from lightning_nas.space import Domain, SearchSpace
from lightning_nas.stopping import PausingRule
from lightning_nas.strategies import Constrained
from lightning_nas.trial import Mode, Objective, Trial, best

if TYPE_CHECKING:
    from lightning_nas.evaluators import Evaluator
    from lightning_nas.oneshot import OneShot
    from lightning_nas.plots import Plots
    from lightning_nas.stopping import StoppingRule
    from lightning_nas.strategies import Strategy

RunnerName = Literal["processes", "inprocess", "ray"]


class Experiment:
    """A search: a strategy proposes samples, an evaluator scores them, a folder keeps it all.

    The same script run again with the same `directory` goes on where it stopped, however it stopped;
    so does `Experiment.resume(directory).run()`. Budgets are totals: 20 trials are 20 trials in however
    many runs. Trials that were running when a search died are run again with their sample.

    Args:
        model: an instance of a class under `@model_wrapper`, or a search space (a mapping of labels to
            domains will do) for a search without a model.
        evaluator: scores candidates.
        strategy: proposes samples; or a one-shot method such as `Darts()`, which searches in trial 0 with the
            evaluator's `fit`, and what it derives is evaluated as trial 1.
        constraints: what a model may take, such as `{"params_m": (0, 4), "macs_m": (None, 600)}`, each a pair
            (least, most) in the units of `evaluators.cost.Cost`. Networks outside are never trained: the
            strategy proposes again, and they are no trials.
        example_inputs: what the model's `forward` takes, a tensor or a tuple of them with a batch of one;
            only the constraints on operations and activation memory need it.
        space: further labels, joined to the model's: `{"lr": Float(1e-4, 1e-1, log=True)}`. The
            evaluator finds their values in `candidate.sample`.
        directory: where everything is kept; `runs/<date>-<time>` if None.
        max_trials: how many trials in all, failed ones included; None for no limit.
        max_duration: seconds, or text such as "90s", "30m", "1h" or "1h30m": no trial starts after the
            search has run so long in all; those that run then are waited for. None for no limit.
        concurrency: trials at the same time, unless runner="inprocess"; with Ray also None, for as many as
            there is room for.
        objective: the metric that counts. None: "default" if the evaluator gives it, else its only one.
        mode: "max" or "min"; None infers it from the metric's name (see `Objective`).
        seed: decides, with the number of a trial, what the strategy draws for it and what random,
            numpy and torch are seeded with in it.
        runner: "processes" runs each trial in a fresh process; "inprocess" runs one after another
            in this one, for debugging; "ray", the address of a Ray cluster such as "ray://host:10001", or
            `Ray(...)` with what a trial needs runs them on a cluster.
        reuse: whether a process runs one trial after another, for trials of well under a second. Memory that
            leaks and what trials change in modules is then left to the next; see `ProcessRunner`.
        gpus_per_trial: GPUs that a trial has to itself, 2 being two of them; or 0.5, half of one: two trials
            share it, each with half of its memory; or 0, none. There are then no more trials at the same time
            than there is room for. None deals several visible GPUs out in turn, without limits.
        retries: how often a trial is run again, from its last checkpoint, after a crash of the machine: its
            process killed or gone without a result, a worker or node lost. Each attempt is in the store's
            `changes`. What the evaluator raises is no such crash, nor is a process that the system killed
            because memory ran out, since both would happen again. Counted anew in each run.
        stopping: a rule that may end trials early, at a report, or pause them and let them go on later
            (see `lightning_nas.stopping`). A trial that is still paused at the end stays so, with the
            metrics of its last report; it does not compete for `best`.
        lag: hides from the strategy the results of the newest `lag` trials, finished or not, and waits for
            those of all others. The samples then do not depend on how fast trials are: any concurrency up
            to `lag + 1` gives the same, and with `lag = concurrency - 1` hardly a worker waits.
        max_consecutive_failures: ends a hopeless search, as do the first two trials if they lack the
            objective; None never does. Counted anew in each run.
        keep_weights: how many of the best trials keep their weights and checkpoints; those of other trials
            are deleted when they have ended. None keeps all.
        export: whether the best model is also exported as code and ONNX when a search with a model
            ends.
        progress: True for a live table, False for silence; None finds out whether a terminal is there.

    Raises:
        ValueError: if a setting is out of range.
        TypeError: if `model` is neither a model space nor a search space.
        ExperimentError: if `directory` is a file or holds another experiment.

    Example:
        >>> from lightning_nas.space import Float
        >>> from lightning_nas.strategies import Random
        >>> class Parabola:
        ...     def evaluate(self, candidate, report):
        ...         return {"loss": (candidate.sample["x"] - 1) ** 2}
        >>> import tempfile
        >>> exp = Experiment({"x": Float(0, 2)}, Parabola(), Random(), directory=tempfile.mkdtemp(),
        ...                  runner="inprocess", progress=False)
        >>> exp.run().best.score > -0.1
        True
    """

    def __init__(
        self,
        model: Any,
        evaluator: Evaluator,
        strategy: Strategy | OneShot,
        *,
        constraints: Limits | None = None,
        example_inputs: Any = None,
        space: Mapping[str, Domain] | None = None,
        directory: str | Path | None = None,
        max_trials: int | None = 20,
        max_duration: str | float | None = None,
        concurrency: int | None = 2,
        objective: str | None = None,
        mode: Mode | None = None,
        seed: int = 0,
        runner: RunnerName | str | Ray = "processes",
        reuse: bool = False,
        gpus_per_trial: float | None = None,
        retries: int = 1,
        stopping: StoppingRule | None = None,
        lag: int = 0,
        max_consecutive_failures: int | None = 10,
        keep_weights: int | None = 10,
        export: bool = True,
        progress: bool | None = None,
    ) -> None:
        check_at_least(
            1,
            or_none=True,
            concurrency=concurrency,
            max_consecutive_failures=max_consecutive_failures,
            keep_weights=keep_weights,
        )
        check_at_least(0, or_none=True, max_trials=max_trials)
        check_at_least(0, seed=seed, lag=lag, retries=retries)
        check_per_trial(gpus_per_trial)
        cluster = Ray.named(runner)
        if cluster is not None:
            cluster.check_installed()
        elif runner not in ("processes", "inprocess"):
            raise ValueError(
                "`runner` must be 'processes', 'inprocess', 'ray', an address like 'ray://host:10001' or Ray(...), but "
                f"got {runner!r}."
            )
        elif concurrency is None:
            raise ValueError(f"`concurrency` must be a number with runner={runner!r}; None is for Ray.")
        if runner != "processes" and (reuse or gpus_per_trial is not None):
            raise ValueError(
                "`reuse` and `gpus_per_trial` are for runner='processes'; Ray has a `gpus_per_trial` of its own."
            )
        searches = is_one_shot(strategy)
        for role, thing, method in (
            ("evaluator", evaluator, "evaluate"),
            ("strategy", strategy, "search" if searches else "ask"),
        ):
            if isinstance(thing, type) or not callable(getattr(thing, method, None)):
                raise TypeError(f"`{role}` must be an object with a method `{method}`, but got {thing!r}.")
        self._ranks = ranks_of(evaluator, runner)
        self.directory = (new_directory() if directory is None else Path(directory)).absolute()
        self._model, own = model_and_space(model)
        self.space: SearchSpace = own if space is None else own | space
        if searches:
            check_one_shot(strategy, evaluator, self._model is not None, space is not None)
            concurrency, max_trials = 1, 2 if max_trials is None else min(max_trials, 2)
        self._max_duration_s = None if max_duration is None else seconds(max_duration)
        self._objective = Objective(objective, mode)
        self._one_shot: Any = strategy if searches else None
        seeking = strategy
        if constraints:
            if self._model is None or searches:
                raise ValueError("`constraints` needs a model and a strategy that proposes samples of it.")
            inputs = example_inputs if isinstance(example_inputs, (tuple, list)) else [example_inputs]
            within = Within(self._model, constraints, () if example_inputs is None else inputs)
            seeking = Constrained(cast("Strategy", strategy), within)
        stopping = fitted_rule(stopping, evaluator, max_trials)
        if lag and isinstance(stopping, PausingRule):
            raise ValueError(
                f"`lag` waits for trials to end, but {type(stopping).__name__} pauses them; leave one out."
            )
        self._seeking: Any = (
            Derived(describe(strategy)) if searches else with_graph_keys(seeking, self._model, self.space)
        )
        self._settings: dict[str, Any] = {
            "max_trials": max_trials,
            "max_duration": max_duration,
            "concurrency": concurrency,
            "runner": runner,
            "lag": lag,
            "reuse": reuse,
            "gpus_per_trial": gpus_per_trial,
            "retries": retries,
            "max_consecutive_failures": max_consecutive_failures,
            "keep_weights": keep_weights,
            "export": export,
            "progress": progress,
        }
        # What `resume` gives to `__init__`, apart from the directory.
        self._arguments: dict[str, Any] = {
            **self._settings,
            "model": self.space if self._model is None else self._model,
            "evaluator": evaluator,
            "strategy": strategy,
            "constraints": constraints,
            "example_inputs": example_inputs,
            "space": space,
            "objective": objective,
            "mode": mode,
            "seed": seed,
            "stopping": stopping,
        }
        self._description = Description(
            self.space,
            describe(seeking),
            objective,
            mode,
            seed,
            None if self._model is None else self._model.cls.__name__,
        )
        self._trials: list[Trial] | None = None  # once this object has run
        folder.check(self.directory)
        if (self.directory / DATABASE).exists():
            with contextlib.closing(SqliteStore.open(self.directory)) as store:
                self._check_it_is_ours(store)

    @classmethod
    def resume(cls, directory: str | Path, **changes: Any) -> Experiment:
        """The experiment of a folder, ready to `run` on or to export its models.

        Loads `experiment.pkl`, which can run any code: do this only with folders you trust.

        Args:
            directory: the folder.
            changes: arguments of `Experiment` that are to differ, such as `max_trials`.

        Raises:
            ExperimentError: if there is none, or its objects cannot be loaded.
        """
        import cloudpickle

        path = Path(directory) / folder.PICKLE
        if not path.is_file():
            raise ExperimentError(f"There is nothing to resume in {directory}: it has no {folder.PICKLE}.")
        try:
            with path.open("rb") as file:
                arguments = cloudpickle.load(file)
        except Exception as error:
            raise ExperimentError(
                f"{path} cannot be loaded ({type(error).__name__}: {error}); run the script that wrote it again with "
                f"directory={str(directory)!r}, which goes on as well."
            ) from error
        return cls(**{**arguments, **changes, "directory": directory})

    @property
    def trials(self) -> list[Trial]:
        """All trials so far by number, also those of former runs."""
        if self._trials is not None:
            return list(self._trials)
        if not (self.directory / DATABASE).exists():
            return []
        with contextlib.closing(SqliteStore.open(self.directory)) as store:
            return store.trials()

    @property
    def best(self) -> Trial | None:
        """The completed trial with the highest score, None if there is none yet."""
        return next(iter(best(self.trials)), None)

    @property
    def plot(self) -> Plots:
        """Figures of the trials so far, such as `experiment.plot.history()`; matplotlib draws them."""
        from lightning_nas.plots import Plots

        return Plots(self.trials, self.space, self._objective)

    def run(self, ui: bool | int = False) -> Experiment:
        """Runs until the budget is spent or the strategy has no more samples.

        Ctrl-C once: no new trial starts and the running ones are waited for; twice, or SIGTERM: they
        are ended and run again on resume. Then `KeyboardInterrupt` (`SystemExit`) is raised. A request
        (`lightning-nas stop`, see `requests`) does what Ctrl-C does.

        Args:
            ui: True also shows the search as a page, as `lightning-nas ui` does; a number is the port to serve
                it on. It is a process of its own and ends once the search has and no browser looks any more.

        Returns:
            Itself.

        Raises:
            ExperimentError: if the folder cannot be used or written, is in use or holds another experiment;
                with less than 100 MB free on its disk; or after `max_consecutive_failures` failures in a row.
                What has finished is kept. Also if `ui` is given and its port is taken, or NiceGUI is missing.
        """
        check_is_first()
        folder.make(self.directory)
        runs_here = self._settings["runner"] == "inprocess"
        display = make_display(
            self._settings["progress"], self._objective, self._settings["max_trials"], runs_here
        )
        with folder.only_driver(self.directory), contextlib.closing(self._open_store()) as store:
            if ui is not False:
                display.say(
                    f"The search is shown at {start_page(self.directory, None if ui is True else ui)}"
                )
            with Inbox(self.directory, display.say) as inbox, Interrupts(runs_here) as interrupts:
                self._pickle(display)
                ending = self._search(store, display, interrupts, inbox)
            if not ending.is_interrupted and not ending.is_full:
                self._export_best(display)
        say_how_it_ended(
            display, ending, self.directory, self.trials, self._objective, self._settings["keep_weights"]
        )
        if interrupts.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        if ending.is_interrupted:
            raise KeyboardInterrupt
        if ending.is_full:
            raise ExperimentError(
                f"The search stopped, since {ending.text} of {self.directory}. Nothing is lost; make room, and the "
                "same call goes on."
            )
        if ending.is_hopeless:
            raise ExperimentError(
                f"The search was given up, since {ending.text}: {common_failure(self.trials)}; when that is mended, "
                "the same call goes on."
            )
        return self

    def export_top_models(
        self, top_k: int = 1, formatter: Formatter = "dict", directory: str | Path | None = None
    ) -> list[Any]:
        """The best models, best first, each proved to compute what the trained one computes.

        Args:
            top_k: how many; fewer if fewer trials completed.
            formatter: "dict" gives samples; "code" and "onnx" write files and give their paths; "instance"
                gives plain modules with their trained weights.
            directory: for the files, a folder named by the trial's number for each; `DIR/export` if None.

        Raises:
            ExperimentError: if no trial has completed, or there is no model.
            ExportError: if a model cannot be exported, or its export computes something else.
        """
        check_at_least(1, top_k=top_k)
        leaders = best(self.trials, top_k)
        if not leaders:
            failure = common_failure(self.trials)
            raise ExperimentError(
                f"There is nothing to export from {self.directory}: no trial has completed"
                + (f"; {failure}." if failure else ".")
            )
        if formatter == "dict":
            return [dict(trial.sample) for trial in leaders]
        parent = self.directory / "export" if directory is None else Path(directory)
        return [self._export(trial, formatter, parent / str(trial.number)) for trial in leaders]

    def export_trial(
        self, number: int, formatter: Formatter = "dict", directory: str | Path | None = None
    ) -> Any:
        """The model of one trial that has a score, as `export_top_models` gives those of the best.

        Raises:
            ExperimentError, ExportError: as there, or if there is no such trial.
        """
        trial = next((trial for trial in self.trials if trial.number == number), None)
        if trial is None or trial.score is None:
            raise ExperimentError(f"There is no trial {number} with a score in {self.directory}.")
        if formatter == "dict":
            return dict(trial.sample)
        parent = self.directory / "export" if directory is None else Path(directory)
        return self._export(trial, formatter, parent / str(number))

    def _open_store(self) -> Store:
        if not (self.directory / DATABASE).exists():
            return SqliteStore.create(self.directory, self._description)
        store = SqliteStore.open(self.directory, "write")
        self._check_it_is_ours(store)
        return store

    def _check_it_is_ours(self, store: Store) -> None:
        differences = self._description.differences(store.description)
        if differences:
            raise ExperimentError(
                f"{self.directory} holds another experiment: {', '.join(differences)}. Give another directory=, or the "
                "settings it was made with."
            )

    def _pickle(self, display: Display) -> None:
        """Writes what `resume` needs."""
        import cloudpickle

        try:
            folder.replace(self.directory / folder.PICKLE, cloudpickle.dumps(self._arguments))
        except Exception as error:  # whatever the user's objects raise when they are pickled
            display.say(
                f"Experiment.resume will not work here, since {folder.PICKLE} cannot be written "
                f"({type(error).__name__}: {error}); this script run again goes on all the same."
            )

    def _search(self, store: Store, display: Display, interrupts: Interrupts, inbox: Inbox) -> Ending:
        plan = Plan(
            self._seeking,
            self._arguments["stopping"],
            self.directory,
            self._settings["max_trials"],
            self._max_duration_s,
            self._settings["max_consecutive_failures"],
            self._settings["retries"],
            self._one_shot is not None,
            self._settings["lag"],
            bool(self._arguments["constraints"]),
            None if self._one_shot is not None else self._settings["keep_weights"],
            self._ranks,
        )
        runner = self._settings["runner"]
        settings = {**self._settings, "runner": runner if isinstance(runner, str) else describe(runner)}
        store.begin_run(settings, environment())
        loop = Loop(plan, store, display, interrupts, inbox)
        self._trials = loop.trials
        with display:
            ending = loop.run(self._make_runner)
        with contextlib.suppress(*[StoreError] if ending.is_full else []):
            store.end_run(ending.text)
        return ending

    def _make_runner(self) -> Runner:
        work = Work(self._arguments["evaluator"], self._model, self._one_shot, self.directory.name)
        if self._settings["runner"] == "inprocess":
            return InProcessRunner(work)
        cluster = Ray.named(self._settings["runner"])
        if cluster is not None:
            return RayRunner(work, self._settings["concurrency"], self.directory, cluster)
        gpus, gpus_per_trial = visible_gpus(), self._settings["gpus_per_trial"]
        if (
            gpus_per_trial is None
            and self._ranks > 1
            and gpus
            and not getattr(work.evaluator, "runs_on_cpu", False)
        ):
            gpus_per_trial = self._ranks
        return ProcessRunner(
            work,
            self._settings["concurrency"],
            self.directory,
            gpus,
            gpus_per_trial,
            self._settings["reuse"],
        )

    def _export(self, trial: Trial, formatter: Formatter, directory: Path) -> Any:
        keep_weights = self._settings["keep_weights"]
        return export_trial(self.directory, self._model, trial, formatter, directory, keep_weights)

    def _export_best(self, display: Display) -> None:
        leader = self.best
        if (
            not self._settings["export"]
            or self._model is None
            or leader is None
            or is_exported(self.directory)
        ):
            return
        display.say("Exporting the best model as code and ONNX ...")
        best_folder = self.directory / folder.BEST
        for failure in export_best(self.directory, lambda f: self._export(leader, f, best_folder)):
            display.say(f"The best model was not exported as {failure}")
