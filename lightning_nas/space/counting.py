"""How many samples a search space has, exactly."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping

from lightning_nas.space.domains import Domain, value_key

Literals = dict[str, frozenset[Hashable]]
"""A clause whose values are keys: `{label: keys}`."""

_Clauses = frozenset[frozenset[tuple[str, frozenset[Hashable]]]]


def count_samples(domains: Mapping[str, Domain], clauses: Mapping[str, Iterable[Literals]]) -> int | float:
    """The number of samples; `math.inf` if a continuous label can be active.

    Independent parts are counted apart and multiplied. Within a part the first label that others
    depend on is settled, its values grouped by which conditions they meet, and the rest counted for
    each group; equal rests are counted once.

    Args:
        domains: by label, each label after those its condition depends on.
        clauses: the conditions of the labels that have one.
    """
    conditions = {label: frozenset(frozenset(c.items()) for c in found) for label, found in clauses.items()}
    return _Counter(domains).count(tuple(domains), conditions)


class _Counter:
    def __init__(self, domains: Mapping[str, Domain]) -> None:
        self._domains = domains
        self._order = {label: i for i, label in enumerate(domains)}
        self._known: dict[Hashable, int | float] = {}

    def count(self, labels: tuple[str, ...], conditions: Mapping[str, _Clauses]) -> int | float:
        total: int | float = 1
        for part in _parts(labels, conditions):
            if len(part) == 1:  # without a condition, as there is nothing left it could depend on
                total *= self._domains[part[0]].size
                continue
            key = (part, frozenset((label, conditions[label]) for label in part if label in conditions))
            if key not in self._known:
                self._known[key] = self._count_part(part, conditions)
            total *= self._known[key]
        return total

    def _count_part(self, labels: tuple[str, ...], conditions: Mapping[str, _Clauses]) -> int | float:
        first = labels[0]
        inside = {label: conditions[label] for label in labels if label in conditions}
        asked = {allowed for found in inside.values() for c in found for n, allowed in c if n == first}
        groups: dict[frozenset[frozenset[Hashable]], tuple[Hashable, int]] = {}
        for value in self._domains[first]:
            key = value_key(value)
            signature = frozenset(allowed for allowed in asked if key in allowed)
            groups[signature] = (key, groups.get(signature, (key, 0))[1] + 1)
        total: int | float = 0
        for key, number in groups.values():
            rest, left = _settle(labels[1:], inside, first, key)
            total += number * self.count(rest, left)
        return total


def _settle(
    labels: tuple[str, ...], conditions: Mapping[str, _Clauses], settled: str, key: Hashable
) -> tuple[tuple[str, ...], dict[str, _Clauses]]:
    """The labels and conditions that are left once `settled` has the value of `key`."""
    gone: set[str] = set()
    rest, left = [], {}
    for label in labels:  # in order, so what a label depends on was dealt with before it
        if label not in conditions:
            rest.append(label)
            continue
        clauses = set()
        for clause in conditions[label]:
            literals = dict(clause)
            if gone & literals.keys() or (settled in literals and key not in literals[settled]):
                continue
            literals.pop(settled, None)
            clauses.add(frozenset(literals.items()))
        if not clauses:
            gone.add(label)
            continue
        rest.append(label)
        if frozenset() not in clauses:
            left[label] = frozenset(clauses)
    return tuple(rest), left


def _parts(labels: tuple[str, ...], conditions: Mapping[str, _Clauses]) -> Iterator[tuple[str, ...]]:
    """Labels that depend on each other, directly or not, together and in order."""
    root = {label: label for label in labels}

    def find(label: str) -> str:
        while root[label] != label:
            root[label] = root[root[label]]
            label = root[label]
        return label

    for label in labels:
        for clause in conditions.get(label, ()):
            for other, _ in clause:
                root[find(label)] = find(other)
    parts: dict[str, list[str]] = {}
    for label in labels:
        parts.setdefault(find(label), []).append(label)
    return map(tuple, parts.values())
