"""`merge_parameter`: the parameters of a trial in the place of a script's defaults."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T", Namespace, dict[str, Any])


def merge_parameter(base_params: T, override_params: Mapping[str, Any] | None) -> T:
    """Puts the tuned values into the script's own; changes `base_params` and returns it.

    Args:
        base_params: what `parse_args` gave, or a dict.
        override_params: what `get_next_parameter` gave; None for nothing.

    Raises:
        ValueError: if `base_params` has no such key.
        TypeError: if a value is of another type than the script's; an int does for a float, and where the
            script has None any value does.
    """
    if override_params is None:
        return base_params
    values: dict[str, Any] = vars(base_params) if isinstance(base_params, Namespace) else base_params
    for name, value in override_params.items():
        if name not in values:
            raise ValueError(f"The script has no parameter {name!r}; it has {sorted(values)}.")
        have = values[name]
        if isinstance(have, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if have is not None and type(value) is not type(have):
            raise TypeError(
                f"The parameter {name!r} is of type {type(have).__name__} in the script, but {value!r} is of type "
                f"{type(value).__name__}."
            )
        values[name] = value
    return base_params
