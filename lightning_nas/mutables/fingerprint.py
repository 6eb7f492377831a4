"""Texts that tell operations apart: equal only for modules, functions and values that compute alike.

What cannot be told from the outside gets a number of its own, so that it equals nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import hashlib
import itertools
import sys
import types
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional
from torch import nn

_MODULE_STATE = frozenset(vars(nn.Module()))
_SCALARS = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
)
# torch's functions do not all say where they can be imported from.
_NAMES = {
    id(thing): f"{namespace.__name__}.{name}"
    for namespace in (torch.nn.functional, torch)
    for name, thing in vars(namespace).items()
    if callable(thing) and not name.startswith("_")
}

_counter = itertools.count(1)
_numbers: dict[int, tuple[weakref.ref[Any], int]] = {}


def describe(value: Any) -> str:
    """A text for a module, function or plain value; equal texts mean equal behaviour.

    A module is its class, its attributes, the shapes of its weights and its children, by name. Weights
    are numbered, so that a weight used twice is not taken for two. They count by shape, as training
    changes them; but a buffer of a class outside torch, and a weight that is not trained, may be a
    constant of the architecture and counts by content.

    >>> describe(nn.ReLU()) == describe(nn.ReLU()) != describe(nn.ReLU(inplace=True))
    True
    >>> describe([1, 2.0, "a"])
    "[1, 2.0, 'a']"
    """
    return _Writer().text(value)


class _Writer:
    """Writes one text; knows the modules it is inside of and the tensors it has met."""

    def __init__(self) -> None:
        self._inside: list[int] = []
        self._tensors: dict[int, int] = {}

    def text(self, value: Any) -> str:
        kind = type(value)
        if value is None or value is Ellipsis or kind in _SCALARS or isinstance(value, np.generic):
            return repr(value)
        if isinstance(value, nn.Module):
            return self._module(value)
        if kind in (list, tuple, torch.Size):
            items = ", ".join(map(self.text, value))
            return f"[{items}]" if kind is list else f"({items},)"
        if kind is slice:
            return f"slice{self.text((value.start, value.stop, value.step))}"
        if kind in (set, frozenset):
            return f"{kind.__name__}{sorted(map(self.text, value))}"
        if isinstance(value, Mapping) and kind.__module__ in ("builtins", "collections"):
            return f"{kind.__name__}{{{self._items(value)}}}"
        if isinstance(value, torch.Tensor):
            is_trained = isinstance(value, nn.Parameter) and value.requires_grad
            return self._tensor(value, counts_by_content=not is_trained)
        if isinstance(value, weakref.ref):
            return f"weakref({self.text(value())})"
        if isinstance(value, enum.Enum):
            return f"{name_of(kind)}.{value.name}"
        if isinstance(value, functools.partial):
            return f"partial{self.text((value.func, value.args, value.keywords))}"
        if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
            return name_of(value)
        if dataclasses.is_dataclass(value) and hasattr(value, "__dict__"):
            return f"{name_of(kind)}({self._items(vars(value))})"
        return _unlike_all_others(value)

    def _items(self, values: Mapping[Any, Any]) -> str:
        return ", ".join(f"{k if type(k) is str else self.text(k)}={self.text(v)}" for k, v in values.items())

    def _module(self, module: nn.Module) -> str:
        if id(module) in self._inside:
            return f"<module {len(self._inside) - self._inside.index(id(module))} levels up>"
        self._inside.append(id(module))
        attributes = {
            name: value
            for name, value in vars(module).items()
            if name not in _MODULE_STATE or (name.endswith("hooks") and value)
        }
        tensors: list[tuple[str, torch.Tensor | None, bool]]
        tensors = [(n, t, t is not None and not t.requires_grad) for n, t in module._parameters.items()]
        tensors += [(n, t, not is_of_torch(module)) for n, t in module._buffers.items()]
        parts = [self._items(attributes)] if attributes else []
        parts += [f"{n}: {None if t is None else self._tensor(t, counts)}" for n, t, counts in tensors]
        parts += [f"{n}: {None if m is None else self._module(m)}" for n, m in module._modules.items()]
        self._inside.pop()
        return f"{name_of(type(module))}({'; '.join(parts)})"

    def _tensor(self, tensor: torch.Tensor, counts_by_content: bool) -> str:
        number = self._tensors.setdefault(id(tensor), len(self._tensors))
        look = f"#{number} {'x'.join(map(str, tensor.shape)) or 'scalar'} {tensor.dtype}"
        if not counts_by_content:
            return look
        if tensor.is_meta or tensor.layout is not torch.strided:
            return f"{look} {_unlike_all_others(tensor)}"
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return f"{look} {hashlib.sha256(content).hexdigest()}"


def name_of(thing: Any) -> str:
    """The importable name of a class or function; a number if its name does not lead back to it."""
    if id(thing) in _NAMES:
        return _NAMES[id(thing)]
    path = getattr(thing, "__qualname__", "")
    found: Any = sys.modules.get(getattr(thing, "__module__", None) or "")
    for part in path.split("."):
        found = getattr(found, part, None)
    return f"{thing.__module__}.{path}" if found is thing else _unlike_all_others(thing)


def _unlike_all_others(thing: Any) -> str:
    """A number that belongs to this very object."""
    key = id(thing)
    reference, number = _numbers.get(key, (None, 0))
    if reference is None or reference() is not thing:
        number = next(_counter)
        # What cannot be referred to weakly is unlike even itself.
        with contextlib.suppress(TypeError):
            _numbers[key] = weakref.ref(thing, lambda _: _numbers.pop(key, None)), number
    return f"<{type(thing).__name__} {number}>"


def is_of_torch(module: nn.Module) -> bool:
    """Whether the class is one of torch's layers, so that its buffers are known to be statistics."""
    return type(module).__module__.startswith("torch.nn.")


def holds_constants(model: nn.Module) -> bool:
    """Whether `describe` reads numbers in `model`, which the meta device does not have."""
    return any(
        any(not p.requires_grad for p in m.parameters(recurse=False))
        or (not is_of_torch(m) and any(True for _ in m.buffers(recurse=False)))
        for m in model.modules()
    )
