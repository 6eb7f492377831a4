"""Experiments: the loop, the store that survives it, and the runners."""

from lightning_nas.experiment.description import Description
from lightning_nas.experiment.experiment import Experiment
from lightning_nas.experiment.runners import Ray
from lightning_nas.experiment.runners.attempt import trial_seed
from lightning_nas.experiment.store import Change, SqliteStore, Store

__all__ = ["Change", "Description", "Experiment", "Ray", "SqliteStore", "Store", "trial_seed"]
