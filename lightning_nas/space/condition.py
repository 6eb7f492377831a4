"""Conditions: when a label of a search space is active."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from lightning_nas.errors import SpaceError
from lightning_nas.space.domains import value_key

Clause = dict[str, tuple[Any, ...]]


class Condition:
    """A label is active if, in any one clause, all labels are active and have one of their values.

    Args:
        clauses: mappings `{label: values}`.

    Raises:
        SpaceError: if a clause gives a label no values.

    Immutable; equal if the clauses are, in any order. `a & b` and `a | b` combine two.

    >>> Condition({"optimizer": ["sgd"]}) & Condition({"depth": [3, 4]})
    Condition(depth in [3, 4] and optimizer in ['sgd'])
    """

    __slots__ = ("_key", "clauses")

    clauses: tuple[Clause, ...]

    def __init__(self, *clauses: Mapping[str, Sequence[Any]]) -> None:
        found: dict[Hashable, Clause] = {}
        for given in clauses:
            clause = {label: _distinct(label, given[label]) for label in sorted(given)}
            found.setdefault(_key_of(clause), clause)
        self._key = frozenset(found)
        self.clauses = tuple(found[key] for key in sorted(found, key=repr))

    @property
    def labels(self) -> set[str]:
        """The labels it depends on."""
        return {label for clause in self.clauses for label in clause}

    def __and__(self, other: Condition) -> Condition:
        joined = (_joined(one, two) for one in self.clauses for two in other.clauses)
        return Condition(*(clause for clause in joined if clause is not None))

    def __or__(self, other: Condition) -> Condition:
        return Condition(*self.clauses, *other.clauses)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Condition({self})"

    def __str__(self) -> str:
        return " or ".join(map(_described, self.clauses)) or "never"

    def to_json(self) -> list[dict[str, list[Any]]]:
        """What `from_json` reads: a list of clauses."""
        return [{label: list(values) for label, values in clause.items()} for clause in self.clauses]

    @classmethod
    def from_json(cls, data: Iterable[Mapping[str, Sequence[Any]]]) -> Condition:
        """The condition that `to_json` wrote."""
        return cls(*data)


def _distinct(label: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, (Sequence, set, frozenset)) or not values:
        raise SpaceError(f"A condition gives {label!r} a list of at least one value, but got {values!r}.")
    plain = {value_key(v): tuple(v) if isinstance(v, list) else v for v in values}
    return tuple(plain.values())


def _key_of(clause: Clause) -> Hashable:
    return frozenset((label, frozenset(map(value_key, values))) for label, values in clause.items())


def _joined(one: Clause, other: Clause) -> Clause | None:
    result = dict(one)
    for label, values in other.items():
        if label in result:
            keys = set(map(value_key, values))
            result[label] = tuple(v for v in result[label] if value_key(v) in keys)
            if not result[label]:
                return None
        else:
            result[label] = values
    return result


def _described(clause: Clause) -> str:
    return " and ".join(f"{label} in {list(values)}" for label, values in clause.items()) or "always"
