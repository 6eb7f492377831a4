"""`SearchSpace`: labels, their domains, and when each is active."""

from __future__ import annotations

import difflib
import heapq
import math
from collections.abc import Hashable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from lightning_nas.errors import SampleError, SpaceError
from lightning_nas.space.condition import Condition
from lightning_nas.space.counting import Literals, count_samples
from lightning_nas.space.domains import Domain, domain_from_json, value_key
from lightning_nas.trial import Sample


class SearchSpace(Mapping[str, Domain]):
    """Labels, their domains, and the conditions under which each is active. Immutable.

    A mapping from label to domain. A *sample* holds a value for each active label and for no other.
    Labels are walked in one order, each after those its condition depends on and otherwise by
    name, whatever order they were given in: so equal spaces draw equal samples.

    Args:
        domains: by label.
        conditions: by label; a label without one is always active.

    Raises:
        SpaceError: if a condition is on a label or value that does not exist, on a continuous label, or
            if conditions go round in circles.

    >>> from lightning_nas.space import Categorical
    >>> space = SearchSpace(
    ...     {"optimizer": Categorical(("adam", "sgd")), "momentum": Categorical((0.0, 0.9))},
    ...     {"momentum": Condition({"optimizer": ["sgd"]})},
    ... )
    >>> space.size
    3
    """

    def __init__(
        self, domains: Mapping[str, Domain], conditions: Mapping[str, Condition] | None = None
    ) -> None:
        for label, domain in domains.items():
            if not isinstance(label, str) or not isinstance(domain, Domain):
                raise SpaceError(f"A search space maps names to domains, but got {label!r}: {domain!r}.")
        given = dict(conditions or {})
        for label, condition in given.items():
            _check_condition(label, condition, domains)
        order = _topological(domains, given)
        self._domains = {label: domains[label] for label in order}
        self.conditions: Mapping[str, Condition] = {label: given[label] for label in order if label in given}
        self._clauses: dict[str, list[Literals]] = {
            label: [{n: frozenset(map(value_key, vs)) for n, vs in c.items()} for c in condition.clauses]
            for label, condition in self.conditions.items()
        }

    # -- as a mapping ----------------------------------------------------------------------------

    def __getitem__(self, label: str) -> Domain:
        return self._domains[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._domains)

    def __len__(self) -> int:
        return len(self._domains)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SearchSpace):
            return NotImplemented
        return self._domains == other._domains and self.conditions == other.conditions

    def __hash__(self) -> int:
        return hash((frozenset(self._domains.items()), frozenset(self.conditions.items())))

    def __repr__(self) -> str:
        lines = [
            f"  {label}: {domain}" + (f"  if {self.conditions[label]}" if label in self.conditions else "")
            for label, domain in self._domains.items()
        ]
        return "\n".join(["SearchSpace(", *lines, ")"])

    def __or__(self, other: Mapping[str, Domain]) -> SearchSpace:
        """Both spaces in one; a label of both must be the same in both.

        Raises:
            SpaceError: if it is not; the message names the label.
        """
        joined = other if isinstance(other, SearchSpace) else SearchSpace(other)
        for label in self.keys() & joined.keys():
            if (self[label], self.conditions.get(label)) != (joined[label], joined.conditions.get(label)):
                raise SpaceError(
                    f"The label {label!r} is in both spaces, but as {self[label]} and as {joined[label]} (or under "
                    "other conditions); rename one of them."
                )
        return SearchSpace({**self, **joined}, {**self.conditions, **joined.conditions})

    def __ror__(self, other: Mapping[str, Domain]) -> SearchSpace:
        return SearchSpace(other) | self

    # -- samples ---------------------------------------------------------------------------------

    def active(self, sample: Mapping[str, Any]) -> list[str]:
        """The labels that are active under `sample`, in the order of the space."""
        if not self._clauses:
            return list(self._domains)
        seen: dict[str, Any] = {}
        for label in self._domains:
            if self._is_active(label, seen):
                seen[label] = sample.get(label)
        return list(seen)

    def sample(self, rng: np.random.Generator) -> Sample:
        """A random sample: each active label on its own, uniform or by its prior."""
        return self.complete({}, rng)

    def default(self) -> Sample:
        """Every active label at the default of its domain."""
        return self.complete({})

    def complete(self, partial: Mapping[str, Any], rng: np.random.Generator | None = None) -> Sample:
        """`partial` with what is missing and without what is not active.

        Args:
            partial: values for some labels; they are taken as they are.
            rng: draws missing values; the domains' defaults if None.
        """
        result: Sample = {}
        for label, domain in self._domains.items():
            if self._is_active(label, result):
                if label in partial:
                    result[label] = partial[label]
                else:
                    result[label] = domain.default if rng is None else domain.sample(rng)
        return result

    def mutate(self, sample: Mapping[str, Any], rng: np.random.Generator) -> Sample:
        """`sample` with another value at one active label, both drawn uniformly.

        Labels that become active are drawn at random, labels that are no longer active are dropped.

        Raises:
            SampleError: if no active label has another value.
        """
        labels = [label for label in sample if self._domains[label].size != 1]
        if not labels:
            raise SampleError("This sample cannot be mutated: no active label has another value.")
        label = sorted(labels)[int(rng.random() * len(labels))]
        return self.complete({**sample, label: self._domains[label].other(sample[label], rng)}, rng)

    def neighbours(
        self, sample: Mapping[str, Any], rng: np.random.Generator | None = None
    ) -> Iterator[Sample]:
        """All samples that differ at one active label, and at those that follow from it.

        Args:
            sample: a sample of this space.
            rng: draws labels that become active; the domains' defaults if None.

        Raises:
            SpaceError: if an active label is continuous.
        """
        for label in self.active(sample):
            key = value_key(sample[label])
            for value in self._domains[label]:
                if value_key(value) != key:
                    yield self.complete({**sample, label: value}, rng)

    def enumerate(self) -> Iterator[Sample]:
        """All samples, the last label of the space changing fastest.

        Raises:
            SpaceError: if a label is continuous.
        """
        labels = list(self._domains)

        def walk(index: int, sample: Sample) -> Iterator[Sample]:
            while index < len(labels) and not self._is_active(labels[index], sample):
                index += 1
            if index == len(labels):
                yield dict(sample)
                return
            for value in self._domains[labels[index]]:
                sample[labels[index]] = value
                yield from walk(index + 1, sample)
            del sample[labels[index]]

        return walk(0, {})

    @cached_property
    def size(self) -> int | float:
        """How many samples there are, exactly; `math.inf` if a label is continuous."""
        return count_samples(self._domains, self._clauses)

    @property
    def is_finite(self) -> bool:
        """Whether `enumerate` ends."""
        return self.size != math.inf

    def contains(self, sample: Mapping[str, Any]) -> bool:
        """Whether `sample` holds a value of its domain for each active label and for no other."""
        return self.why_not(sample) is None

    def why_not(self, sample: Mapping[str, Any]) -> str | None:
        """Why `sample` is none of this space: the label, what it has and what would be right; or None."""
        for label in sample:
            if label not in self._domains:
                return f"The sample has a value for {label!r}, which this space does not have; {self._nearest(label)}"
        seen: Sample = {}
        for label, domain in self._domains.items():
            if not self._is_active(label, seen):
                if label in sample:
                    return (
                        f"The sample has a value for {label!r}, which is only active if {self.conditions[label]}; "
                        "leave it out."
                    )
                continue
            if label not in sample:
                return f"The sample has no value for {label!r}, which must be of {domain}."
            reason = domain.why_not(sample[label])
            if reason is not None:
                return f"The sample's value for {label!r} is wrong: {reason}"
            seen[label] = domain.normalise(sample[label])
        return None

    def check(self, sample: Mapping[str, Any]) -> Sample:
        """`sample` as this space writes it: labels in order, lists as tuples where they belong.

        Raises:
            SampleError: if it is none of this space; the message says why.
        """
        reason = self.why_not(sample)
        if reason is not None:
            raise SampleError(reason)
        return {label: self[label].normalise(sample[label]) for label in self.active(sample)}

    def key(self, sample: Mapping[str, Any]) -> Hashable:
        """A hashable that is equal for equal samples of this space."""
        return tuple([value_key(sample[label]) if label in sample else _ABSENT for label in self._domains])

    def encode(self, sample: Mapping[str, Any]) -> np.ndarray:
        """`sample` as numbers in [0, 1].

        Returns:
            Shape (sum of 1 + width over all labels,): for each label in the order of the space a flag,
            1 if it is active, and its domain's code; all zeros if it is not active.
        """
        parts = []
        for label, domain in self._domains.items():
            code = np.zeros(1 + domain.width)
            if label in sample:
                code[0], code[1:] = 1.0, domain.encode(sample[label])
            parts.append(code)
        return np.concatenate(parts) if parts else np.zeros(0)

    # -- JSON ------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads; JSON can hold it."""
        return {
            "domains": {label: domain.to_json() for label, domain in self._domains.items()},
            "conditions": {label: condition.to_json() for label, condition in self.conditions.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchSpace:
        """The space that `to_json` wrote.

        Raises:
            SpaceError: if `data` is not of that form.
        """
        if not isinstance(data, Mapping) or "domains" not in data:
            raise SpaceError("A search space in JSON is an object with 'domains' and 'conditions'.")
        domains = {label: domain_from_json(domain) for label, domain in data["domains"].items()}
        conditions = {n: Condition.from_json(c) for n, c in data.get("conditions", {}).items()}
        return cls(domains, conditions)

    # -- within ----------------------------------------------------------------------------------

    def _is_active(self, label: str, seen: Mapping[str, Any]) -> bool:
        """Whether `label` is active, given the values of the active labels before it."""
        clauses = self._clauses.get(label)
        if clauses is None:
            return True
        return any(
            all(name in seen and value_key(seen[name]) in keys for name, keys in clause.items())
            for clause in clauses
        )

    def _nearest(self, label: str) -> str:
        close = difflib.get_close_matches(label, self._domains, n=3)
        if close:
            return f"did you mean {' or '.join(map(repr, close))}?"
        shown = list(self._domains)[:20]
        more = f" and {len(self) - 20} more" if len(self) > 20 else ""
        return f"it has {', '.join(map(repr, shown)) or 'no labels'}{more}."


_ABSENT = ("absent",)


def _check_condition(label: str, condition: Condition, domains: Mapping[str, Domain]) -> None:
    if label not in domains:
        raise SpaceError(f"There is a condition for {label!r}, which is no label of this space.")
    for clause in condition.clauses:
        for name, values in clause.items():
            if name not in domains:
                raise SpaceError(
                    f"The condition of {label!r} is on {name!r}, which is no label of this space."
                )
            if domains[name].size == math.inf:
                raise SpaceError(
                    f"The condition of {label!r} is on {name!r}, which is continuous; give it a step."
                )
            for value in values:
                reason = domains[name].why_not(value)
                if reason is not None:
                    raise SpaceError(f"The condition of {label!r} on {name!r} cannot hold: {reason}")


def _topological(domains: Mapping[str, Domain], conditions: Mapping[str, Condition]) -> list[str]:
    """Labels, each after those its condition depends on, otherwise by name."""
    waiting = {label: set(conditions[label].labels) if label in conditions else set() for label in domains}
    followers: dict[str, list[str]] = {}
    for label, needed in waiting.items():
        for name in needed:
            followers.setdefault(name, []).append(label)
    ready = [label for label, needed in waiting.items() if not needed]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        label = heapq.heappop(ready)
        order.append(label)
        for follower in followers.get(label, ()):
            waiting[follower].discard(label)
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    if len(order) < len(domains):
        circle = sorted(set(domains) - set(order))
        raise SpaceError(f"The conditions of {circle} go round in circles: each waits for another of them.")
    return order
