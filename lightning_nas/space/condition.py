"""Conditions: when a label of a search space is active."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from types import MappingProxyType
from typing import Any

from lightning_nas.errors import SpaceError
from lightning_nas.space.values import json_value, plain_value, value_key

Clause = Mapping[str, tuple[Any, ...]]
"""`{label: values}`: all of these labels are active and have one of their values."""


class Condition:
    """A label is active if, in any one clause, all labels are active and have one of their values.

    `one & other` holds if both hold, `one | other` if either does. An empty clause always holds; a
    condition without any clause never does. Immutable; equal if the clauses are, in any order.

    Args:
        clauses: mappings `{label: values}`.

    Raises:
        SpaceError: if a clause does not give each of its labels a list of at least one value.

    >>> Condition({"optimizer": ["sgd"]}) & Condition({"depth": [3, 4]})
    Condition({'depth': [3, 4], 'optimizer': ['sgd']})
    """

    __slots__ = ("_clauses", "_key")

    def __init__(self, *clauses: Mapping[str, Iterable[Any]]) -> None:
        found: dict[Hashable, Clause] = {}
        for given in clauses:
            if not isinstance(given, Mapping):
                raise SpaceError(f"A clause of a condition is a dict {{label: values}}, but got {given!r}.")
            clause = {label: _distinct(label, given[label]) for label in sorted(given)}
            found.setdefault(_key_of(clause), MappingProxyType(clause))
        self._key = frozenset(found)
        self._clauses = tuple(sorted(found.values(), key=lambda clause: repr(dict(clause))))

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """The clauses, each a read-only mapping, in an order of their own."""
        return self._clauses

    @property
    def labels(self) -> frozenset[str]:
        """The labels it depends on."""
        return frozenset(label for clause in self._clauses for label in clause)

    def __and__(self, other: Condition) -> Condition:
        joined = (_joined(one, two) for one in self._clauses for two in other._clauses)
        return Condition(*(clause for clause in joined if clause is not None))

    def __or__(self, other: Condition) -> Condition:
        return Condition(*self._clauses, *other._clauses)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[Any, ...]:
        return Condition, tuple(map(dict, self._clauses))

    def __repr__(self) -> str:
        clauses = ({label: list(values) for label, values in clause.items()} for clause in self._clauses)
        return f"Condition({', '.join(map(repr, clauses))})"

    def __str__(self) -> str:
        """The condition in words: `depth is 3 or 4 and optimizer is 'sgd'`."""
        return ", or ".join(map(described, self._clauses)) or "never"

    def to_json(self) -> list[dict[str, list[Any]]]:
        """What `from_json` reads: a list of clauses."""
        return [
            {n: list(map(json_value, values)) for n, values in clause.items()} for clause in self._clauses
        ]

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Sequence[Any]]]) -> Condition:
        """The condition that `to_json` wrote.

        Raises:
            SpaceError: if `data` is not a list of clauses.
        """
        if isinstance(data, (str, Mapping)) or not isinstance(data, Sequence):
            raise SpaceError(f"A condition in JSON is a list of clauses {{label: values}}, but got {data!r}.")
        return cls(*data)


def described(clause: Clause) -> str:
    """A clause in words."""
    parts = (f"{label} is {' or '.join(map(repr, values))}" for label, values in clause.items())
    return " and ".join(parts) or "always"


def _distinct(label: Any, values: Any) -> tuple[Any, ...]:
    """`values` without repeats; those of a set in an order of their own."""
    if not isinstance(label, str):
        raise SpaceError(f"A condition is on labels, which are strings, but got {label!r}.")
    if isinstance(values, (str, Mapping)) or not isinstance(values, (Sequence, Set)) or not values:
        raise SpaceError(f"A condition gives {label!r} a list of at least one value, but got {values!r}.")
    plain = {value_key(value): plain_value(value) for value in values}
    return tuple(sorted(plain.values(), key=repr) if isinstance(values, Set) else plain.values())


def _key_of(clause: Clause) -> Hashable:
    return frozenset((label, frozenset(map(value_key, values))) for label, values in clause.items())


def _joined(one: Clause, other: Clause) -> Clause | None:
    """Both clauses at once; None if they contradict each other."""
    result = dict(one)
    for label, values in other.items():
        if label in result:
            keys = set(map(value_key, values))
            result[label] = tuple(value for value in result[label] if value_key(value) in keys)
            if not result[label]:
                return None
        else:
            result[label] = values
    return result
