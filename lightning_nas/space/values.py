"""Values of domains: told apart by type and value, written as plain Python, drawn by number."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from lightning_nas.errors import SpaceError

_EXACT_BELOW = 2**32


def value_key(value: Any) -> Hashable:
    """A hashable that is equal for two values exactly if they are the same, in type and value.

    Python holds `True == 1 == 1.0`; a search space does not. Lists count as tuples, and numpy's
    scalars and subclasses as the plain types. No key is None.
    """
    kind = type(value)
    if kind is str or kind is int:
        return value  # type: ignore[no-any-return]
    if kind is list or kind is tuple:
        return ("tuple", *map(value_key, value))
    if kind is float or kind is bool or value is None:
        return (kind.__name__, value)
    plain = plain_value(value)
    return (kind.__name__, value) if plain is value else value_key(plain)


def plain_value(value: Any) -> Any:
    """Scalars of numpy and subclasses (an `IntEnum`, say) as Python's own, lists as tuples.

    Anything else is returned as it is.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return tuple(map(plain_value, value))
    if type(value) in (bool, int, float, str):
        return value
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return str.__str__(value) if isinstance(value, str) else value


def json_value(value: Any) -> Any:
    """Tuples as lists, as reading them back from JSON gives."""
    return list(map(json_value, value)) if isinstance(value, tuple) else value


def is_whole(value: Any) -> bool:
    """Whether it is an integer, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Whether it is a finite number, which True is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def draw_below(n: int, rng: np.random.Generator) -> int:
    """A whole number from 0 to `n - 1`, uniformly, however large `n` is."""
    if n <= _EXACT_BELOW:
        # Three times as fast as rng.integers; no number is off by more than one part in 2**21.
        return int(rng.random() * n)
    n_bits = (n - 1).bit_length()
    n_bytes = (n_bits + 7) // 8
    while (drawn := int.from_bytes(rng.bytes(n_bytes), "little") >> (8 * n_bytes - n_bits)) >= n:
        pass
    return drawn


def checked_values(kind: str, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[Hashable, int]]:
    """`values` as a tuple of plain values, and the position of each by its key.

    Raises:
        SpaceError: if it is no sequence, is empty, holds a value twice, or one that JSON cannot hold.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise SpaceError(f"{kind} takes a list of values, but got {values!r}.")
    plain = tuple(map(plain_value, values))
    if not plain:
        raise SpaceError(f"{kind} needs at least one value, but got an empty list.")
    index: dict[Hashable, int] = {}
    for i, value in enumerate(plain):
        _reject_unless_json(kind, value)
        if index.setdefault(value_key(value), i) != i:
            raise SpaceError(f"The values of {kind} must be distinct, but {value!r} is there twice.")
    return plain, index


def _reject_unless_json(kind: str, value: Any) -> None:
    if isinstance(value, tuple):
        for item in value:
            _reject_unless_json(kind, item)
    elif value is not None and not isinstance(value, (str, bool, int, float)):
        raise SpaceError(
            f"A value of {kind} must be a number, a string, a bool, None or a tuple of these, so that JSON can "
            f"hold it, but {value!r} is of type {type(value).__name__}."
        )
    elif isinstance(value, float) and not math.isfinite(value):
        raise SpaceError(f"A value of {kind} must be finite, but got {value}.")
