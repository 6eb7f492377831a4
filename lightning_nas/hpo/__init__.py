"""Hyper-parameter search: NNI's search spaces, experiment files, tuners and trial scripts."""

from lightning_nas.hpo.command import CommandEvaluator
from lightning_nas.hpo.config_file import load_experiment, read_config
from lightning_nas.hpo.documents import ConfigError
from lightning_nas.hpo.space_file import NNISpace, read_space, write_space
from lightning_nas.hpo.trial_api import (
    get_current_parameter,
    get_experiment_id,
    get_next_parameter,
    get_sequence_id,
    get_trial_id,
    merge_parameter,
    report_final_result,
    report_intermediate_result,
)
from lightning_nas.hpo.tuners import make_strategy

__all__ = [
    "CommandEvaluator",
    "ConfigError",
    "NNISpace",
    "get_current_parameter",
    "get_experiment_id",
    "get_next_parameter",
    "get_sequence_id",
    "get_trial_id",
    "load_experiment",
    "make_strategy",
    "merge_parameter",
    "read_config",
    "read_space",
    "report_final_result",
    "report_intermediate_result",
    "write_space",
]
