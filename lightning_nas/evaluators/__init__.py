"""Evaluators: what says how good a candidate is.

Each name's module is imported when the name is first used (PEP 562): a table needs no torch, a
function no Lightning.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_nas.evaluators.callback import ReportCallback as ReportCallback
    from lightning_nas.evaluators.evaluator import Evaluator as Evaluator
    from lightning_nas.evaluators.functional import FunctionalEvaluator as FunctionalEvaluator
    from lightning_nas.evaluators.lightning import LightningEvaluator as LightningEvaluator
    from lightning_nas.evaluators.supervised import Classification as Classification
    from lightning_nas.evaluators.supervised import Regression as Regression
    from lightning_nas.evaluators.tabular import TabularEvaluator as TabularEvaluator

_NAMES = {
    "Classification": "supervised",
    "Evaluator": "evaluator",
    "FunctionalEvaluator": "functional",
    "LightningEvaluator": "lightning",
    "Regression": "supervised",
    "ReportCallback": "callback",
    "TabularEvaluator": "tabular",
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
