"""NNI's tuners by name, over our strategies, and tuners of the user's own."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nas.errors import ExperimentError
from lightning_nas.hpo import shim
from lightning_nas.hpo.space_file import NNISpace, write_space
from lightning_nas.space import Sample, SearchSpace
from lightning_nas.strategies import TPE, Anneal, GridSearch, Random, RegularizedEvolution, Strategy
from lightning_nas.trial import Mode, Status, Trial

MODES: dict[Any, Mode] = {"maximize": "max", "minimize": "min"}

_WITHOUT_COUNTERPART = {
    "smac", "metistuner", "metis", "gptuner", "gp", "pbttuner", "pbt", "dngotuner", "dngo", "ppotuner", "ppo",
    "networkmorphism", "hyperband", "bohb", "regularizedevolutiontuner",
}  # fmt: skip


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
    """

    strategy: Strategy
    mode: Mode | None = None
    default_mode: Mode = "max"
    is_batch: bool = False


def make_strategy(name: str, class_args: Mapping[str, Any] | None = None) -> Tuned:
    """The strategy that does what NNI's tuner of this name does.

    Args:
        name: TPE, Random, GridSearch, Anneal, Evolution or BatchTuner, in any case.
        class_args: as in NNI's experiment files: `optimize_mode`, `seed`, and for TPE `tpe_args` with
            `n_startup_jobs` and `n_ei_candidates`, for Evolution `population_size`.

    Raises:
        TunerError: for another tuner, or an argument that it does not have or that has no counterpart.

    Evolution is regularized evolution with tournaments of two, as NNI's compares two individuals and
    mutates the better one.

    >>> make_strategy("random", {"seed": 3}).strategy
    Random(dedup=True, seed=3)
    """
    key = name.lower().removesuffix("tuner") if name.lower() == "batchtuner" else name.lower()
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
        elif value not in _TPE_DEFAULTS[name]:
            raise ValueError(
                f"{name}={value!r} has no counterpart here, where the density estimates are Optuna's; leave it out."
            )
    return Tuned(TPE(seed=seed, **settings), default_mode="min")


_TPE_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "constant_liar_type": ("best", "worst"),  # ours: running trials count among the bad ones
    "linear_forgetting": (25,),
    "prior_weight": (1.0,),
    "gamma": (0.25,),
}


def _evolution(population_size: int = 32) -> Tuned:
    return Tuned(RegularizedEvolution(population_size, sample_size=min(2, population_size)))


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
}
_NAMES = ("TPE", "Random", "GridSearch", "Anneal", "Evolution", "BatchTuner")


def _unknown(name: str) -> str:
    have = ", ".join(_NAMES)
    if name.lower() in _WITHOUT_COUNTERPART:
        return f"the tuner {name} has no counterpart here; there are {have}, and tuners of your own."
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
        self.told: set[int] = set()

    def __reduce__(self) -> tuple[object, ...]:
        return _Memo, ()


@dataclass(frozen=True)
class CustomTuner:
    """A strategy that asks a tuner written for NNI.

    The tuner is given `update_search_space`, then `generate_parameters` for each trial,
    `receive_trial_result` with what was reported, and `trial_end`. When a search is resumed, a new
    one is made and told of all trials so far.

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
            found: type = getattr(importlib.import_module(module), name)
        except Exception as error:
            raise TunerError(
                f"the tuner {self.class_name} cannot be imported from {self.directory} "
                f"({type(error).__name__}: {error})."
            ) from error
        return found

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """The sample the tuner generates, or None if it has no more."""
        tuner = self._told(space, trials)
        try:
            parameters = tuner.generate_parameters(len(trials))
        except Exception as error:
            if type(error).__name__ == "NoMoreTrialError":
                return None
            raise
        return dict(parameters) if self.space is None else self.space.sample(parameters)

    def _told(self, space: SearchSpace, trials: Sequence[Trial]) -> Any:
        """The tuner, told of all trials that have ended."""
        memo = self._memo
        if memo.tuner is None:
            memo.tuner = self.load()(**self.class_args)
            memo.tuner.update_search_space(write_space(space))
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
        return memo.tuner
