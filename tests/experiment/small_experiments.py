"""Experiments of milliseconds: the number closest to a half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_nas.experiment import Experiment
from lightning_nas.space import Categorical, Float, SearchSpace
from lightning_nas.strategies import Random
from lightning_nas.testing.runners import Evaluates
from lightning_nas.trial import Candidate, Report

SPACE = SearchSpace({"x": Float(0, 1), "kind": Categorical(["a", "b"])})


def distance(candidate: Candidate, report: Report) -> dict[str, float]:
    return {"loss": (candidate.sample["x"] - 0.5) ** 2}


def make(directory: Path, function: Any = distance, strategy: Any = None, **settings: Any) -> Experiment:
    """An experiment in this process, which says nothing."""
    settings = {"runner": "inprocess", "progress": False, "max_trials": 5, **settings}
    model = settings.pop("model", SPACE)
    return Experiment(
        model, Evaluates(function), strategy or Random(), directory=directory / "exp", **settings
    )


def samples(experiment: Experiment) -> list[Any]:
    return [trial.sample for trial in experiment.trials]
