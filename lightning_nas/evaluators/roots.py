"""The two names of Lightning: `pytorch_lightning` and `lightning.pytorch`.

They hold the same code twice. A module, a data module and the Trainer must come from one of them;
callbacks and loggers mix freely. We depend on the first; the second is never imported here unless the
user has done so already.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from types import ModuleType

DEFAULT = "pytorch_lightning"
ROOTS = (DEFAULT, "lightning.pytorch")


def root_of(thing: object) -> str | None:
    """The root that a Lightning object or class comes from; None for anything else."""
    cls = thing if isinstance(thing, type) else type(thing)
    for base in cls.__mro__:
        for root in ROOTS:
            if base.__module__ == root or base.__module__.startswith(f"{root}."):
                return root
    return None


def is_a(thing: object, name: str) -> bool:
    """Whether `thing` is an instance of Lightning's class called `name`, of either root."""
    return any(base.__name__ == name and root_of(base) is not None for base in type(thing).__mro__)


def common_root(things: Iterable[object], hints: Iterable[object] = ()) -> ModuleType:
    """The root, as a module, that all Lightning objects among `things` come from.

    Args:
        things: those that must agree: a Trainer, a module, a data module. Others are passed over.
        hints: callbacks and loggers; the first one decides if `things` leave it open, else the root
            is `pytorch_lightning`.

    Raises:
        TypeError: if two of `things` come from different roots; the message names both.
    """
    found: dict[str, object] = {}
    for thing in things:
        root = root_of(thing)
        if root is not None:
            found.setdefault(root, thing)
    if len(found) > 1:
        names = " and ".join(f"{type(thing).__name__} from {root}" for root, thing in found.items())
        raise TypeError(f"Lightning needs its Trainer, module and data from one package, but got {names}.")
    hinted = (root for root in map(root_of, hints) if root is not None)
    return importlib.import_module(next(iter(found), None) or next(hinted, DEFAULT))
