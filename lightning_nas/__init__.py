"""Neural architecture search and hyper-parameter search for PyTorch Lightning.

Every public name stands once, in `_NAMES`; its module is imported when the name is first used, so
that `import lightning_nas` loads neither torch nor Lightning (PEP 562).
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_nas import evaluators as evaluators
    from lightning_nas import hpo as hpo
    from lightning_nas import hub as hub
    from lightning_nas import mutables as mutables
    from lightning_nas import nn as nn
    from lightning_nas import oneshot as oneshot
    from lightning_nas import space as space
    from lightning_nas import stopping as stopping
    from lightning_nas import strategies as strategies
    from lightning_nas.errors import ExperimentError as ExperimentError
    from lightning_nas.errors import ExportError as ExportError
    from lightning_nas.errors import MetricError as MetricError
    from lightning_nas.errors import NASError as NASError
    from lightning_nas.errors import SampleError as SampleError
    from lightning_nas.errors import SearchError as SearchError
    from lightning_nas.errors import SpaceError as SpaceError
    from lightning_nas.errors import StoreError as StoreError
    from lightning_nas.evaluators import Classification as Classification
    from lightning_nas.evaluators import Evaluator as Evaluator
    from lightning_nas.evaluators import FunctionalEvaluator as FunctionalEvaluator
    from lightning_nas.evaluators import LightningEvaluator as LightningEvaluator
    from lightning_nas.evaluators import Regression as Regression
    from lightning_nas.evaluators import ReportCallback as ReportCallback
    from lightning_nas.evaluators import TabularEvaluator as TabularEvaluator
    from lightning_nas.experiment import Experiment as Experiment
    from lightning_nas.experiment import Ray as Ray
    from lightning_nas.mutables import fixed_arch as fixed_arch
    from lightning_nas.mutables import model_wrapper as model_wrapper
    from lightning_nas.oneshot import Darts as Darts
    from lightning_nas.report import current_sample as current_sample
    from lightning_nas.report import output_directory as output_directory
    from lightning_nas.report import report_final_result as report_final_result
    from lightning_nas.report import report_intermediate_result as report_intermediate_result
    from lightning_nas.space import Categorical as Categorical
    from lightning_nas.space import Condition as Condition
    from lightning_nas.space import Float as Float
    from lightning_nas.space import Integer as Integer
    from lightning_nas.space import SearchSpace as SearchSpace
    from lightning_nas.space import Subset as Subset
    from lightning_nas.trial import Candidate as Candidate
    from lightning_nas.trial import Objective as Objective
    from lightning_nas.trial import Status as Status
    from lightning_nas.trial import Trial as Trial
    from lightning_nas.trial import best as best

__version__ = "0.1.0"

_PARTS = ("evaluators", "hpo", "hub", "mutables", "nn", "oneshot", "space", "stopping", "strategies")

_NAMES = {
    "Candidate": "trial",
    "Categorical": "space",
    "Classification": "evaluators",
    "Condition": "space",
    "Darts": "oneshot",
    "Evaluator": "evaluators",
    "Experiment": "experiment",
    "ExperimentError": "errors",
    "ExportError": "errors",
    "Float": "space",
    "FunctionalEvaluator": "evaluators",
    "Integer": "space",
    "LightningEvaluator": "evaluators",
    "MetricError": "errors",
    "NASError": "errors",
    "Objective": "trial",
    "Ray": "experiment",
    "Regression": "evaluators",
    "ReportCallback": "evaluators",
    "SampleError": "errors",
    "SearchError": "errors",
    "SearchSpace": "space",
    "SpaceError": "errors",
    "Status": "trial",
    "StoreError": "errors",
    "Subset": "space",
    "TabularEvaluator": "evaluators",
    "Trial": "trial",
    "best": "trial",
    "current_sample": "report",
    "fixed_arch": "mutables",
    "model_wrapper": "mutables",
    "output_directory": "report",
    "report_final_result": "report",
    "report_intermediate_result": "report",
}

__all__ = ("__version__", *_NAMES, *_PARTS)


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    # With `name` and `obj` Python adds "Did you mean ...?", drawn from `__dir__`.
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__]
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
