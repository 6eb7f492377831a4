"""Values as source."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch

_DISPLAYS: dict[Any, str] = {list: "[{}]", tuple: "({})", set: "{{{}}}"}


def quoted(value: Any) -> str:
    """A literal with the double quotes that most people write."""
    text = repr(value)
    return text.replace("'", '"') if '"' not in text and "\\" not in text else text


def is_literal(value: Any) -> bool:
    """Whether `value` is a number, a string, or a list, tuple, set or dict of these, and no subclass of them."""
    if type(value) in _DISPLAYS:
        return all(map(is_literal, value)) and value != set()
    if type(value) is dict:
        return all(is_literal(k) and is_literal(v) for k, v in value.items())
    return type(value) in (int, float, complex, str, bytes, bool, type(None), type(...))


def source_of_value(value: Any, name_of: Callable[[Any], str]) -> str:
    """`value` as source.

    Args:
        value: literals, classes, functions, and partial functions, members of an `Enum`, data classes,
            dtypes and devices, and what lists, tuples, sets and dicts make of them.
        name_of: writes whatever else there is: classes, functions and modules, or raises.
    """

    def write(value: Any) -> str:
        if type(value) in _DISPLAYS and value != set():
            return _DISPLAYS[type(value)].format(_items(value, write))
        if type(value) is dict:
            return "{" + ", ".join(f"{write(k)}: {write(v)}" for k, v in value.items()) + "}"
        if type(value) is float and value - value != 0:
            return f'float("{value}")'
        if is_literal(value):
            return quoted(value)
        if isinstance(value, enum.Enum):
            return f"{write(type(value))}.{value.name}"
        if isinstance(value, torch.dtype):
            return f"{name_of(torch)}.{str(value).rpartition('.')[2]}"
        if isinstance(value, torch.device):
            return f'{name_of(torch)}.device("{value}")'
        if isinstance(value, functools.partial):
            named = [f"{name}={write(each)}" for name, each in value.keywords.items()]
            return _call(name_of(functools.partial), [*map(write, (value.func, *value.args)), *named])
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = (field.name for field in dataclasses.fields(value) if field.init)
            return _call(write(type(value)), [f"{name}={write(getattr(value, name))}" for name in fields])
        return name_of(value)

    return write(value)


def literal(value: Any) -> str:
    """A literal (see `is_literal`) as source."""
    return source_of_value(value, repr)


def _items(values: Any, write: Callable[[Any], str]) -> str:
    comma = "," if type(values) is tuple and len(values) == 1 else ""
    return ", ".join(map(write, values)) + comma


def _call(function: str, arguments: Iterable[str]) -> str:
    return f"{function}({', '.join(arguments)})"
