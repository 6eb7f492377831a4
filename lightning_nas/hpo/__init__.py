"""Hyper-parameter search: for people who train LightningModules, and for the files and trial scripts of NNI.

Each name's module is imported when the name is first used (PEP 562): a trial's script needs no Lightning.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_nas.hpo.command import CommandEvaluator as CommandEvaluator
    from lightning_nas.hpo.config_experiment import load_experiment as load_experiment
    from lightning_nas.hpo.config_file import read_config as read_config
    from lightning_nas.hpo.documents import ConfigError as ConfigError
    from lightning_nas.hpo.space_file import NNISpace as NNISpace
    from lightning_nas.hpo.space_file import read_space as read_space
    from lightning_nas.hpo.space_file import write_space as write_space
    from lightning_nas.hpo.sweep_space import read_sweep_space as read_sweep_space
    from lightning_nas.hpo.sweeping import sweep as sweep
    from lightning_nas.hpo.trial_api import get_current_parameter as get_current_parameter
    from lightning_nas.hpo.trial_api import get_experiment_id as get_experiment_id
    from lightning_nas.hpo.trial_api import get_next_parameter as get_next_parameter
    from lightning_nas.hpo.trial_api import get_sequence_id as get_sequence_id
    from lightning_nas.hpo.trial_api import get_trial_id as get_trial_id
    from lightning_nas.hpo.trial_api import merge_parameter as merge_parameter
    from lightning_nas.hpo.trial_api import report_final_result as report_final_result
    from lightning_nas.hpo.trial_api import report_intermediate_result as report_intermediate_result
    from lightning_nas.hpo.tuners import make_strategy as make_strategy
    from lightning_nas.hpo.tuning import tune as tune

_NAMES = {
    "CommandEvaluator": "command",
    "ConfigError": "documents",
    "NNISpace": "space_file",
    "get_current_parameter": "trial_api",
    "get_experiment_id": "trial_api",
    "get_next_parameter": "trial_api",
    "get_sequence_id": "trial_api",
    "get_trial_id": "trial_api",
    "load_experiment": "config_experiment",
    "make_strategy": "tuners",
    "merge_parameter": "trial_api",
    "read_config": "config_file",
    "read_space": "space_file",
    "read_sweep_space": "sweep_space",
    "report_final_result": "trial_api",
    "report_intermediate_result": "trial_api",
    "sweep": "sweeping",
    "tune": "tuning",
    "write_space": "space_file",
}

__all__ = tuple(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        # With `name` and `obj` Python adds "Did you mean ...?", drawn from `__dir__`.
        module = sys.modules[__name__]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=module)
    value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
