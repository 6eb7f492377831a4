"""Undoes what Lightning leaves on PyTorch's loaders when making the data fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch.utils.data import BatchSampler, DataLoader, Sampler

_METHODS = ("__init__", "__setattr__", "__delattr__")


@contextlib.contextmanager
def loaders_restored() -> Iterator[None]:
    """Gives `DataLoader`, samplers and their subclasses their own methods back if the block raises.

    While Lightning asks for loaders, its methods stand in place of theirs, and it puts them back only if nothing
    is raised (lightning_fabric/utilities/data.py, `_replace_dunder_methods`, Lightning 2.6). Later trials of the
    process would then fail in ways that nobody understands.
    """
    before = {cls: _own(cls) for cls in _loader_classes()}
    try:
        yield
    except BaseException:
        for cls in _loader_classes():
            for name in _METHODS:
                old = f"__old{name}"
                if old in cls.__dict__ and old not in before.get(cls, ()):
                    setattr(cls, name, cls.__dict__[old])
                    delattr(cls, old)
        raise


def _own(cls: type) -> set[str]:
    return {name for name in cls.__dict__ if name.startswith("__old")}


def _loader_classes() -> list[type]:
    found: list[type] = []
    left: list[type] = [DataLoader, BatchSampler, Sampler]
    while left:
        cls = left.pop()
        if cls not in found:
            found.append(cls)
            left += cls.__subclasses__()
    return found
