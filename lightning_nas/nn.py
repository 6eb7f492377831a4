"""torch.nn's names, and the choices: `import lightning_nas.nn as nn` in a model space.

Everything from `torch.nn` is torch's own; nothing is wrapped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn as _torch_nn

from lightning_nas.mutables.cell import Cell as Cell
from lightning_nas.mutables.choice import ValueChoice as ValueChoice
from lightning_nas.mutables.layers import InputChoice as InputChoice
from lightning_nas.mutables.layers import LayerChoice as LayerChoice
from lightning_nas.mutables.layers import Repeat as Repeat
from lightning_nas.mutables.layers import Zero as Zero

if TYPE_CHECKING:
    from torch.nn import *

_CHOICES = ["Cell", "InputChoice", "LayerChoice", "Repeat", "ValueChoice", "Zero"]

__all__ = [*_CHOICES, *(name for name in dir(_torch_nn) if not name.startswith("_"))]


def __getattr__(name: str) -> Any:
    try:
        return getattr(_torch_nn, name)
    except AttributeError:
        raise AttributeError(
            f"Neither torch.nn nor lightning_nas.nn has {name!r}; the choices are {', '.join(_CHOICES)}."
        ) from None


def __dir__() -> list[str]:
    return sorted(__all__)
