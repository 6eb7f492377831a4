"""Strategies: which sample next.

Every public name stands once, in `_NAMES`; its module is imported when the name is first used, so
that importing this package loads neither Optuna nor torch (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_nas.strategies.anneal import Anneal as Anneal
    from lightning_nas.strategies.cma_es import CMAES as CMAES
    from lightning_nas.strategies.evolution import RegularizedEvolution as RegularizedEvolution
    from lightning_nas.strategies.gp import GP as GP
    from lightning_nas.strategies.grid import GridSearch as GridSearch
    from lightning_nas.strategies.local_search import LocalSearch as LocalSearch
    from lightning_nas.strategies.random_search import Random as Random
    from lightning_nas.strategies.strategy import Strategy as Strategy
    from lightning_nas.strategies.strategy import generator as generator
    from lightning_nas.strategies.tpe import TPE as TPE
    from lightning_nas.strategies.wrappers import Constrained as Constrained
    from lightning_nas.strategies.wrappers import Dedup as Dedup
    from lightning_nas.strategies.wrappers import Enqueue as Enqueue

_NAMES = {
    "CMAES": "cma_es",
    "GP": "gp",
    "TPE": "tpe",
    "Anneal": "anneal",
    "Constrained": "wrappers",
    "Dedup": "wrappers",
    "Enqueue": "wrappers",
    "GridSearch": "grid",
    "LocalSearch": "local_search",
    "Random": "random_search",
    "RegularizedEvolution": "evolution",
    "Strategy": "strategy",
    "generator": "strategy",
}

__all__ = tuple(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
