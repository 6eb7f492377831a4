"""NNI's tuners by name, over our strategies, and tuners of the user's own."""

from __future__ import annotations

import difflib
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nas.errors import ExperimentError
from lightning_nas.hpo import shim
from lightning_nas.hpo.space_file import NNISpace, write_space
from lightning_nas.loading import load
from lightning_nas.space import Sample, SearchSpace
from lightning_nas.stopping import Hyperband
from lightning_nas.strategies import (
    CMAES,
    GP,
    TPE,
    Anneal,
    GridSearch,
    Random,
    RegularizedEvolution,
    Strategy,
)
from lightning_nas.trial import Mode, Status, Trial

MODES: dict[Any, Mode] = {"maximize": "max", "minimize": "min"}

# Tuners that are not here, and what comes nearest.
_NEAREST = {
    "smac": "TPE, which also models the trials so far and knows conditions",
    "metis": "GP, which is a Gaussian process too",
    "pbt": "Hyperband or BOHB, which also give the better trials more training",
    "dngo": "GP, which needs no network for its model",
    "ppo": "Evolution, or lightning_nas.strategies.RegularizedEvolution in Python",
    "networkmorphism": "lightning_nas.Experiment with a model space",
    "regularizedevolution": "lightning_nas.strategies.RegularizedEvolution in Python, or Evolution",
}


class TunerError(ExperimentError):
    """A tuner is not known, or not with these arguments; the message is one line."""


@dataclass(frozen=True)
class Tuned:
    """What a tuner's name and arguments stand for.

    Args:
        strategy: proposes samples.
        mode: which way the result is better; None if the arguments leave it open.
        default_mode: NNI's own for this tuner.
        is_batch: whether the search space is a list of whole parameter sets.
        stopping: the rule that belongs to it, None for none. Trials are then told their budget.
    """

    strategy: Strategy
    mode: Mode | None = None
    default_mode: Mode = "max"
    is_batch: bool = False
    stopping: Hyperband | None = None


def make_strategy(name: str, class_args: Mapping[str, Any] | None = None) -> Tuned:
    """The strategy that does what NNI's tuner of this name does.

    Args:
        name: TPE, Random, GridSearch, Anneal, Evolution, BatchTuner, GP, CMAES, Hyperband or BOHB, in any case.
        class_args: as in NNI's experiment files: `optimize_mode`, `seed`, and for TPE `tpe_args` with
            `n_startup_jobs` and `n_ei_candidates`, for Evolution `population_size`, for GP `cold_start_num`,
            for Hyperband `R` and `eta`, for BOHB `min_budget`, `max_budget`, `eta`, `min_points_in_model`
            and `num_samples`. CMAES, which NNI has not, takes `population_size`.

    Raises:
        TunerError: for another tuner, or an argument that it does not have or that has no counterpart.

    Evolution is regularized evolution with tournaments of two, as NNI's compares two individuals and
    mutates the better one. Hyperband and BOHB are `stopping.Hyperband` with Random and with TPE: a trial that is
    to go on runs again with a larger budget under its old number, where NNI would begin another trial.

    >>> make_strategy("random", {"seed": 3}).strategy
    Random(dedup=True, seed=3)
    """
    key = name.lower().removesuffix("tuner").replace("-", "")
    if key not in _MAKERS:
        raise TunerError(_unknown(name))
    given = dict(class_args or {})
    mode = given.pop("optimize_mode", None)
    if mode is not None and mode not in MODES:
        raise TunerError(f"'optimize_mode' must be maximize or minimize, but is {mode!r}.")
    make, known = _MAKERS[key]
    for argument in given:
        if argument not in known:
            raise TunerError(
                f"the tuner {name} has no argument {argument!r} here; it may have "
                f"{', '.join(['optimize_mode', *known])}."
            )
    try:
        made = make(**given)
    except ImportError as error:
        raise TunerError(str(error)) from None
    except (TypeError, ValueError) as error:
        raise TunerError(f"the tuner {name} cannot be made of {given}: {error}") from None
    return replace(made, mode=None if mode is None else MODES[mode])


def _tpe(seed: int | None = None, tpe_args: Mapping[str, Any] | None = None, **more: Any) -> Tuned:
    more.pop("parallel_optimize", None)  # running trials always count
    arguments = {**(tpe_args or {}), **more}
    names = {"n_startup_jobs": "startup_trials", "n_ei_candidates": "candidates"}
    settings: dict[str, Any] = {"startup_trials": 20}
    for name, value in arguments.items():
        if name in names:
            settings[names[name]] = value
        elif name not in _TPE_DEFAULTS:
            raise ValueError(f"it has no argument {name!r}.")
        else:
            _refuse_others({name: value}, _TPE_DEFAULTS, "where the density estimates are Optuna's")
    return Tuned(TPE(seed=seed, **settings), default_mode="min")


_TPE_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "constant_liar_type": ("best", "worst"),  # ours: running trials count among the bad ones
    "linear_forgetting": (25,),
    "prior_weight": (1.0,),
    "gamma": (0.25,),
}


def _evolution(population_size: int = 32) -> Tuned:
    return Tuned(RegularizedEvolution(population_size, sample_size=min(2, population_size)))


def _gp(cold_start_num: int = 10, seed: int | None = None, **more: Any) -> Tuned:
    _refuse_others(more, _GP_DEFAULTS, "where the Gaussian process is Optuna's")
    return Tuned(GP(startup_trials=cold_start_num, seed=seed))


def _cmaes(population_size: int | None = None, seed: int | None = None) -> Tuned:
    return Tuned(CMAES(population_size=population_size, seed=seed))


def _hyperband(R: int = 60, eta: int = 3, seed: int | None = None, **more: Any) -> Tuned:  # noqa: N803
    _refuse_others(
        more, {"exec_mode": ("parallelism",)}, "where a worker that would wait begins the next bracket"
    )
    return Tuned(Random(seed=seed), stopping=Hyperband(R, eta))


def _bohb(
    min_budget: int = 1,
    max_budget: int = 3,
    eta: int = 3,
    min_points_in_model: int | None = None,
    num_samples: int = 64,
    seed: int | None = None,
    **more: Any,
) -> Tuned:
    _refuse_others(more, _BOHB_DEFAULTS, "where the density estimates are Optuna's")
    strategy = TPE(min_points_in_model or TPE().startup_trials, candidates=num_samples, seed=seed)
    return Tuned(strategy, stopping=Hyperband(max_budget, eta, min_steps=min_budget))


_GP_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "utility": ("ei",),
    "kappa": (5,),
    "xi": (0,),
    "nu": (2.5,),
    "alpha": (1e-6,),
    "selection_num_warm_up": (100000,),
    "selection_num_starting_points": (250,),
}
_BOHB_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "top_n_percent": (15,),
    "random_fraction": (1 / 3, 0.33, 0.333, 0.3333),
    "bandwidth_factor": (3,),
    "min_bandwidth": (1e-3,),
}


def _refuse_others(given: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]], why: str) -> None:
    """Raises unless each argument has the value that is also ours."""
    for name, value in given.items():
        if value not in allowed[name]:
            raise ValueError(f"{name}={value!r} has no counterpart here, {why}; leave it out.")


_MAKERS: dict[str, tuple[Callable[..., Tuned], tuple[str, ...]]] = {
    "tpe": (
        _tpe,
        ("seed", "tpe_args", "parallel_optimize", "n_startup_jobs", "n_ei_candidates", "constant_liar_type"),
    ),
    "random": (lambda seed=None: Tuned(Random(seed=seed)), ("seed",)),
    "gridsearch": (lambda: Tuned(GridSearch()), ()),
    "anneal": (lambda: Tuned(Anneal(), default_mode="min"), ()),
    "evolution": (_evolution, ("population_size",)),
    "batch": (lambda: Tuned(GridSearch(), is_batch=True), ()),
    "gp": (_gp, ("cold_start_num", "seed", *_GP_DEFAULTS)),
    "cmaes": (_cmaes, ("population_size", "seed")),
    "hyperband": (_hyperband, ("R", "eta", "exec_mode", "seed")),
    "bohb": (
        _bohb,
        ("min_budget", "max_budget", "eta", "min_points_in_model", "num_samples", "seed", *_BOHB_DEFAULTS),
    ),
}
_NAMES = (
    "TPE", "Random", "GridSearch", "Anneal", "Evolution", "BatchTuner", "GP", "CMAES", "Hyperband", "BOHB",
)  # fmt: skip


def _unknown(name: str) -> str:
    have = ", ".join(_NAMES)
    nearest = _NEAREST.get(name.lower().removesuffix("tuner"))
    if nearest is not None:
        return f"the tuner {name} has no counterpart here; the nearest is {nearest}."
    close = difflib.get_close_matches(name.lower(), [each.lower() for each in _NAMES], n=1)
    hint = (
        f"; did you mean {next(n for n in _NAMES if n.lower() == close[0])}?"
        if close
        else f"; there are {have}."
    )
    return f"there is no tuner {name!r}{hint}"


# ---------------------------------------------------------------- tuners of the user's own


class _Memo:
    """The user's tuner, once it is made, and what it has been told; made anew in another process."""

    def __init__(self) -> None:
        self.tuner: Any = None
        self.asked = 0
        self.told: set[int] = set()

    def __reduce__(self) -> tuple[object, ...]:
        return _Memo, ()


@dataclass(frozen=True)
class CustomTuner:
    """A strategy that asks a tuner written for NNI.

    The tuner is given `update_search_space`, then `generate_parameters` for each trial,
    `receive_trial_result` with what was reported, and `trial_end`. When a search is resumed, a new
    one is asked and told again what the former one was, in the order of those times: one that draws as it did
    (a list, a seed of its own) goes on where it was, and any other knows the numbers and results of all trials.

    Args:
        directory: of its code, put on the path.
        class_name: `module.Class`.
        class_args: of the class.
        space: in which it searches.
        seed: not used: the tuner draws for itself.
    """

    directory: Path
    class_name: str
    class_args: Mapping[str, Any] = field(default_factory=dict)
    space: NNISpace | None = field(default=None, repr=False)
    seed: int | None = None
    _memo: _Memo = field(default_factory=_Memo, init=False, repr=False, compare=False)

    def load(self) -> type:
        """The class.

        Raises:
            TunerError: if it cannot be imported.
        """
        module, _, name = self.class_name.rpartition(".")
        with_shim = [str(self.directory)]
        if importlib.util.find_spec("nni") is None:
            with_shim.append(str(Path(shim.__file__).parent))
        sys.path += [path for path in with_shim if path not in sys.path]
        try:
            found: type = load(f"{module}:{name}")
        except Exception as error:
            raise TunerError(
                f"the tuner {self.class_name} cannot be imported from {self.directory} "
                f"({type(error).__name__}: {error})."
            ) from error
        return found

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """The sample the tuner generates, or None if it has no more."""
        tuner = self._caught_up(space, trials)
        try:
            parameters = tuner.generate_parameters(len(trials))
        except Exception as error:
            if _says_no_more(error):
                return None
            raise
        self._memo.asked = len(trials) + 1
        return dict(parameters) if self.space is None else self.space.sample(parameters)

    def _caught_up(self, space: SearchSpace, trials: Sequence[Trial]) -> Any:
        """The tuner, asked for all trials so far and told of those that have ended."""
        memo = self._memo
        if memo.tuner is None:
            memo.tuner = self.load()(**self.class_args)
            memo.tuner.update_search_space(write_space(space))
        for trial in trials[memo.asked :]:
            began = trial.started or math.inf
            self._tell([other for other in trials if other.finished is not None and other.finished <= began])
            try:
                memo.tuner.generate_parameters(trial.number)
            except Exception as error:
                if not _says_no_more(error):
                    raise
        memo.asked = max(memo.asked, len(trials))
        self._tell(trials)
        return memo.tuner

    def _tell(self, trials: Sequence[Trial]) -> None:
        memo = self._memo
        for trial in trials:
            if trial.status.is_final and trial.number not in memo.told:
                memo.told.add(trial.number)
                parameters = trial.sample if self.space is None else self.space.parameters(trial.sample)
                is_complete = trial.status is Status.COMPLETED
                if is_complete:
                    metrics = dict(trial.metrics)
                    value = metrics["default"] if set(metrics) == {"default"} else metrics
                    memo.tuner.receive_trial_result(trial.number, parameters, value)
                if hasattr(memo.tuner, "trial_end"):
                    memo.tuner.trial_end(trial.number, is_complete)


def _says_no_more(error: Exception) -> bool:
    """Whether a tuner has no more parameters; the error is the real NNI's or the shim's."""
    return type(error).__name__ == "NoMoreTrialError"
