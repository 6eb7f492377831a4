"""Stopping rules: whether a running trial goes on, is paused or is stopped.

Every public name stands once, in `_NAMES`; its module is imported when the name is first used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_nas.stopping.asha import ASHA as ASHA
    from lightning_nas.stopping.curve_fitting import CurveFitting as CurveFitting
    from lightning_nas.stopping.hyperband import Hyperband as Hyperband
    from lightning_nas.stopping.median import MedianStop as MedianStop
    from lightning_nas.stopping.rule import Decision as Decision
    from lightning_nas.stopping.rule import PausingRule as PausingRule
    from lightning_nas.stopping.rule import StoppingRule as StoppingRule

_NAMES = {
    "ASHA": "asha",
    "CurveFitting": "curve_fitting",
    "Decision": "rule",
    "Hyperband": "hyperband",
    "MedianStop": "median",
    "PausingRule": "rule",
    "StoppingRule": "rule",
}

__all__ = tuple(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
