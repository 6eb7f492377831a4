"""The six domains, and how each is read back from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_nas.errors import SpaceError
from lightning_nas.space.choices import Categorical, Subset
from lightning_nas.space.domain import Domain
from lightning_nas.space.numeric import Float, Integer
from lightning_nas.space.rounded import Normal, Quantized

_KINDS: dict[str, tuple[type[Domain], frozenset[str], frozenset[str]]] = {
    "categorical": (Categorical, frozenset({"values"}), frozenset({"prior"})),
    "subset": (Subset, frozenset({"values"}), frozenset({"size"})),
    "integer": (Integer, frozenset({"low", "high"}), frozenset({"step", "log"})),
    "float": (Float, frozenset({"low", "high"}), frozenset({"log", "step"})),
    "quantized": (Quantized, frozenset({"low", "high", "step"}), frozenset({"log"})),
    "normal": (Normal, frozenset({"mean", "deviation"}), frozenset({"log", "step"})),
}
"""Type name -> class, fields it needs, fields it may have."""


def domain_from_json(data: Mapping[str, Any]) -> Domain:
    """The domain that `to_json` wrote.

    Raises:
        SpaceError: if it is of no known type, or a field is missing, unknown or wrong.

    >>> domain_from_json({"type": "integer", "low": 1, "high": 3})
    Integer(low=1, high=3, step=1, log=False)
    """
    kind = data.get("type") if isinstance(data, Mapping) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise SpaceError(
            f"A domain in JSON is an object with a 'type' among {sorted(_KINDS)}, but got {data!r}."
        )
    make, needed, optional = _KINDS[kind]
    fields = {name: value for name, value in data.items() if name != "type"}
    if not needed <= fields.keys() <= needed | optional:
        raise SpaceError(
            f"A domain of type {kind!r} has the fields {sorted(needed)} and may have {sorted(optional)}, but got "
            f"{sorted(fields)}."
        )
    return make(**fields)
