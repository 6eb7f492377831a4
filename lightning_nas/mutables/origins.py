"""Which label put a module of a built model there."""

from __future__ import annotations

import weakref

from torch import nn

_labels: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


def note_origin(module: nn.Module, label: str) -> None:
    """Remembers, as long as `module` lives, that it is there because of the value of `label`."""
    _labels[module] = label


def origin_of(module: nn.Module) -> str | None:
    """The label whose value put `module` itself, not only what it stands in, into its model; else None.

    Copies of a module have no origin.
    """
    return _labels.get(module)
