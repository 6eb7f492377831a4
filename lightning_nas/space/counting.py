"""How many samples a search space has, exactly."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping

_Clause = frozenset[tuple[str, frozenset[Hashable]]]
_Conditions = Mapping[str, frozenset[_Clause]]
"""By label, for those that are not always active: the clauses, of which any must hold."""

_Weights = dict[Hashable, int]
"""By value: in how many ways it can be taken, with all that hangs on that label alone."""

_ANY_OTHER = ("any other",)
"""Stands for all values of a label that no condition mentions."""


def count_samples(
    sizes: Mapping[str, int | float], clauses: Mapping[str, Iterable[Mapping[str, frozenset[Hashable]]]]
) -> int | float:
    """The number of samples; `math.inf` if a label with infinitely many values can be active.

    What does not depend on each other is counted apart and multiplied. A label on which nothing
    depends, and that depends on one other alone, is a factor of that other's values: chains and trees
    of conditions vanish this way. What is left is split at the label on which most depend, its values
    grouped by the conditions they meet; equal remainders are counted once. The time is linear for
    trees, exponential only in how many labels are tied to each other by conditions on several labels.

    Args:
        sizes: by label, the number of its values; each label after those its condition depends on.
        clauses: by label, for those that have a condition: `{label: keys of values}`, of which any must
            hold.
    """
    if math.inf in sizes.values():
        # The number changes with the size of the continuous labels only if one can be active.
        as_one, as_two = (
            count_samples({label: n if size == math.inf else size for label, size in sizes.items()}, clauses)
            for n in (1, 2)
        )
        return math.inf if as_one != as_two else as_one
    counter = _Counter({label: int(size) for label, size in sizes.items()}, _sets(clauses))
    return counter.total()


def _sets(clauses: Mapping[str, Iterable[Mapping[str, frozenset[Hashable]]]]) -> _Conditions:
    return {label: frozenset(frozenset(c.items()) for c in found) for label, found in clauses.items()}


class _Counter:
    def __init__(self, sizes: Mapping[str, int], conditions: _Conditions) -> None:
        mentioned: dict[str, set[Hashable]] = defaultdict(set)
        for found in conditions.values():
            for clause in found:
                for name, keys in clause:
                    mentioned[name] |= keys
        weights: dict[str, _Weights] = {}
        for label, size in sizes.items():
            weights[label] = dict.fromkeys(mentioned[label], 1)
            if size > len(mentioned[label]):
                weights[label][_ANY_OTHER] = size - len(mentioned[label])
        labels, conditions = _left(tuple(sizes), _without_implied(tuple(sizes), conditions))
        self._labels, self._weights = _folded(labels, conditions, weights)
        self._conditions = {label: conditions[label] for label in self._labels if label in conditions}
        self._known: dict[Hashable, int] = {}

    def total(self) -> int:
        return self._count(self._labels, self._conditions)

    def _count(self, labels: tuple[str, ...], conditions: _Conditions) -> int:
        total = 1
        for part in _parts(labels, conditions):
            if len(part) == 1:
                total *= sum(self._weights[part[0]].values())
                continue
            inside = {label: conditions[label] for label in part if label in conditions}
            key = (part, frozenset(inside.items()))
            if key not in self._known:
                self._known[key] = self._count_part(part, inside)
            total *= self._known[key]
        return total

    def _count_part(self, labels: tuple[str, ...], conditions: _Conditions) -> int:
        """Of labels that hang together."""
        rest, weights = _folded(labels, conditions, self._weights)
        if len(rest) == 1:
            return sum(weights[rest[0]].values())
        split = _most_wanted(rest, conditions)
        asked = {
            keys for found in conditions.values() for clause in found for n, keys in clause if n == split
        }
        groups: dict[frozenset[frozenset[Hashable]], tuple[Hashable, int]] = {}
        for value, weight in self._weights[split].items():
            met = frozenset(keys for keys in asked if value in keys)
            groups[met] = (value, groups.get(met, (value, 0))[1] + weight)
        others = tuple(label for label in labels if label != split)
        return sum(
            weight * self._count(*_left(others, conditions, split, value))
            for value, weight in groups.values()
        )


def _left(
    labels: tuple[str, ...], conditions: _Conditions, settled: str | None = None, value: Hashable = None
) -> tuple[tuple[str, ...], dict[str, frozenset[_Clause]]]:
    """The labels that can still be active, and their conditions, once `settled` has this value."""
    gone: set[str] = set()
    rest, left = [], {}
    for label in labels:  # in order, so what a label depends on was dealt with before it
        if label not in conditions:
            rest.append(label)
            continue
        clauses = frozenset(
            frozenset(literal for literal in clause if literal[0] != settled)
            for clause in conditions[label]
            if not any(name in gone or (name == settled and value not in keys) for name, keys in clause)
        )
        if not clauses:
            gone.add(label)
            continue
        rest.append(label)
        if frozenset() not in clauses:
            left[label] = clauses
    return tuple(rest), left


def _folded(
    labels: tuple[str, ...], conditions: _Conditions, weights: Mapping[str, _Weights]
) -> tuple[tuple[str, ...], dict[str, _Weights]]:
    """Labels without those that are but a factor of another one's values; and all weights."""
    needed = {label: {name for clause in conditions.get(label, ()) for name, _ in clause} for label in labels}
    dependants = Counter(name for names in needed.values() for name in names)
    result = {label: weights[label] for label in labels}
    kept = []
    for label in reversed(labels):  # a label comes after those it depends on: its own factors are in
        if dependants[label] or len(needed[label]) != 1:
            kept.append(label)
            continue
        (parent,) = needed[label]
        allowed = {key for clause in conditions[label] for _, keys in clause for key in keys}
        factor = sum(result[label].values())
        result[parent] = {v: w * factor if v in allowed else w for v, w in result[parent].items()}
        dependants[parent] -= 1
    return tuple(reversed(kept)), result


def _most_wanted(labels: tuple[str, ...], conditions: _Conditions) -> str:
    """The always active label on which most others depend; the middle one of several such."""
    wanted = Counter(
        name
        for label in labels
        for name in {name for clause in conditions.get(label, ()) for name, _ in clause}
        if name not in conditions
    )
    most = max(wanted.values())
    # The middle one cuts a long row of labels in halves, which keeps the recursion shallow.
    alike = [label for label in labels if wanted[label] == most]
    return alike[len(alike) // 2]


def _without_implied(labels: tuple[str, ...], conditions: _Conditions) -> _Conditions:
    """Conditions without what follows from the rest of the same clause.

    A label nested in another often names both: `{a: [0], b: [1]}`, where `b` is active only if `a`
    is 0. Then `{b: [1]}` says the same.
    """
    if all(len(clause) <= 1 for found in conditions.values() for clause in found):
        return conditions
    # By label: which values other labels are sure to have where it is active.
    implied: dict[str, dict[str, frozenset[Hashable]]] = {}
    result = {}
    for label in labels:
        surely: dict[str, frozenset[Hashable]] | None = None
        clauses = set()
        for clause in conditions.get(label, ()):
            here = dict(clause)
            clauses.add(
                frozenset(
                    (name, keys)
                    for name, keys in clause
                    if not any(name in implied[n] and implied[n][name] <= keys for n, _ in clause)
                )
            )
            for name, _ in clause:
                for other, keys in implied[name].items():
                    here[other] = here[other] & keys if other in here else keys
            surely = here if surely is None else {n: surely[n] | here[n] for n in surely.keys() & here.keys()}
        implied[label] = surely or {}
        if label in conditions:
            result[label] = frozenset(clauses)
    return result


def _parts(labels: tuple[str, ...], conditions: _Conditions) -> Iterator[tuple[str, ...]]:
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
