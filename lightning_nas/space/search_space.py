"""`SearchSpace`: labels, their domains, and when each is active."""

from __future__ import annotations

import difflib
import math
from collections.abc import Hashable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from lightning_nas.errors import SampleError, SpaceError
from lightning_nas.space.condition import Condition
from lightning_nas.space.counting import count_samples
from lightning_nas.space.domain import Domain
from lightning_nas.space.domains import domain_from_json
from lightning_nas.space.structure import checked_conditions, topological_order

Sample = dict[str, Any]
"""`{label: value}` for the active labels of a space; JSON can hold it."""

_Clauses = tuple[tuple[tuple[str, frozenset[Hashable]], ...], ...]
"""A condition whose values are keys."""


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
    ...     {"optimizer": Categorical(["adam", "sgd"]), "momentum": Categorical([0.0, 0.9])},
    ...     {"momentum": Condition({"optimizer": ["sgd"]})},
    ... )
    >>> space.size
    3
    >>> space
    SearchSpace(
      optimizer  Categorical(['adam', 'sgd'])
      momentum   Categorical([0.0, 0.9])       if optimizer is 'sgd'
    )
    >>> space.why_not({"optimizer": "adam", "momentum": 0.9})
    "The label 'momentum' is active only if optimizer is 'sgd', but 'optimizer' is 'adam'; leave it out."
    """

    def __init__(
        self, domains: Mapping[str, Domain], conditions: Mapping[str, Condition] | None = None
    ) -> None:
        for label, domain in domains.items():
            if not isinstance(label, str) or not isinstance(domain, Domain):
                raise SpaceError(f"A search space maps labels to domains, but got {label!r}: {domain!r}.")
        given = checked_conditions(domains, conditions or {})
        order = topological_order(domains, given)
        self._domains = {label: domains[label] for label in order}
        self._conditions = MappingProxyType({label: given[label] for label in order if label in given})
        clauses: dict[str, _Clauses] = {
            label: tuple(
                tuple((n, frozenset(map(domains[n].key, values))) for n, values in clause.items())
                for clause in condition.clauses
            )
            for label, condition in self._conditions.items()
        }
        asked = {name for condition in given.values() for name in condition.labels}
        self._steps = tuple((n, domain, clauses.get(n), n in asked) for n, domain in self._domains.items())
        self._changeable = tuple(label for label, domain in self._domains.items() if domain.size != 1)
        self._with_tuples = tuple(label for label, domain in self._domains.items() if domain.has_tuples)

    @property
    def conditions(self) -> Mapping[str, Condition]:
        """By label, for the labels that are not always active; read-only."""
        return self._conditions

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
        return self._domains == other._domains and self._conditions == other._conditions

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((frozenset(self._domains.items()), frozenset(self._conditions.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        return SearchSpace, (self._domains, dict(self._conditions))

    def __repr__(self) -> str:
        rows = [(label, repr(domain)) for label, domain in self._domains.items()]
        widths = [min(max((len(row[i]) for row in rows), default=0), 60) for i in (0, 1)]
        lines = [
            f"  {label:{widths[0]}}  {domain:{widths[1]}}  {self._reason(label)}".rstrip()
            for label, domain in rows
        ]
        return "\n".join(["SearchSpace(", *lines, ")"]) if lines else "SearchSpace()"

    def __or__(self, other: Mapping[str, Domain]) -> SearchSpace:
        """Both spaces in one; a label of both must be the same in both.

        Raises:
            SpaceError: if it is not; the message names the label.
        """
        if not isinstance(other, Mapping):
            return NotImplemented
        joined = other if isinstance(other, SearchSpace) else SearchSpace(other)
        for label in sorted(self.keys() & joined.keys()):
            one, two = (f"{space[label]} {space._reason(label)}".rstrip() for space in (self, joined))
            if self[label] != joined[label] or self.conditions.get(label) != joined.conditions.get(label):
                raise SpaceError(
                    f"The label {label!r} is in both spaces, but not the same: {one} and {two}. Rename one of them."
                )
        return SearchSpace({**self, **joined}, {**self.conditions, **joined.conditions})

    def __ror__(self, other: Mapping[str, Domain]) -> SearchSpace:
        return SearchSpace(other) | self if isinstance(other, Mapping) else NotImplemented

    # -- samples ---------------------------------------------------------------------------------

    def active(self, sample: Mapping[str, Any]) -> list[str]:
        """The labels that are active under `sample`, in the order of the space.

        They follow from the values that others depend on; where one of these is missing, what depends
        on it is not active.
        """
        keys: dict[str, Hashable] = {}
        result = []
        for label, domain, clauses, is_asked in self._steps:
            if clauses is None or _holds(clauses, keys):
                result.append(label)
                if is_asked and label in sample:
                    keys[label] = domain.key(sample[label])
        return result

    def sample(self, rng: np.random.Generator) -> Sample:
        """A random sample: each active label on its own, uniform or by its prior."""
        return self._walked({}, rng)

    def default(self) -> Sample:
        """Every active label at the default of its domain."""
        return self._walked({}, None)

    def complete(self, partial: Mapping[str, Any], rng: np.random.Generator | None = None) -> Sample:
        """`partial` with what is missing and without what is not active.

        Args:
            partial: values for some labels.
            rng: draws the missing values; the domains' defaults if None.

        Raises:
            SampleError: if a label is not of this space, or its value not of its domain.
        """
        given = {}
        for label, value in partial.items():
            reason = self._why_not_value(label, value)
            if reason is not None:
                raise SampleError(reason)
            given[label] = self._domains[label].normalise(value)
        return self._walked(given, rng)

    def mutate(self, sample: Mapping[str, Any], rng: np.random.Generator) -> Sample:
        """`sample` with another value at one active label.

        The label is drawn uniformly among the active ones that have another value, the value
        uniformly among the others (afresh in a continuous domain; no prior counts). Labels that
        become active are drawn as by `sample`, labels no longer active are dropped.

        Args:
            sample: a sample of this space, also as read from JSON; left as it is.
            rng: draws.

        Raises:
            SampleError: if no active label has another value.
        """
        labels = [label for label in self._changeable if label in sample]
        if not labels:
            raise SampleError("This sample cannot be mutated: none of its labels has another value.")
        label = labels[int(rng.random() * len(labels))]
        value = self._domains[label].other(sample[label], rng)
        return self._walked({**self._with_tuples_restored(sample), label: value}, rng)

    def neighbours(
        self, sample: Mapping[str, Any], rng: np.random.Generator | None = None
    ) -> Iterator[Sample]:
        """All samples that differ at one active label, and at those that follow from it.

        Args:
            sample: a sample of this space, also as read from JSON.
            rng: draws labels that become active; the domains' defaults if None.

        Raises:
            SpaceError: at once, if an active label is continuous.
        """
        given = self._with_tuples_restored(sample)
        labels = self.active(sample)
        for label in labels:
            if self._domains[label].size == math.inf:
                raise SpaceError(
                    f"The label {label!r} is continuous ({self._domains[label]}), so its neighbours cannot be "
                    "listed; give it a step."
                )
        return (
            self._walked({**given, label: value}, rng)
            for label in labels
            for key in [self._domains[label].key(sample[label])]
            for value in self._domains[label]
            if self._domains[label].key(value) != key
        )

    def enumerate(self) -> Iterator[Sample]:
        """All samples in lexicographic order, the last label of the space changing fastest.

        Raises:
            SpaceError: at once, if a continuous label can be active.
        """
        if not self.is_finite:
            label = next(label for label, domain in self.items() if domain.size == math.inf)
            raise SpaceError(
                f"The label {label!r} is continuous ({self[label]}), so the samples cannot be listed; give it a step."
            )
        return self._enumerated()

    @cached_property
    def size(self) -> int | float:
        """How many samples there are, exactly; `math.inf` if a continuous label can be active."""
        clauses = {label: [dict(c) for c in found] for label, _, found, _ in self._steps if found is not None}
        return count_samples({label: domain.size for label, domain in self._domains.items()}, clauses)

    @property
    def is_finite(self) -> bool:
        """Whether `enumerate` ends."""
        return all(domain.size != math.inf for domain in self._domains.values()) or self.size != math.inf

    def contains(self, sample: Mapping[str, Any]) -> bool:
        """Whether `sample` holds a value of its domain for each active label and for no other."""
        return self.why_not(sample) is None

    def why_not(self, sample: Mapping[str, Any]) -> str | None:
        """Why `sample` is none of this space: the label, what it has and what would be right; or None."""
        if not isinstance(sample, Mapping):
            return f"A sample is a dict {{label: value}}, but got {sample!r}."
        for label, value in sample.items():
            reason = self._why_not_value(label, value)
            if reason is not None:
                return reason
        active = set(self.active(sample))
        for label, domain in self._domains.items():
            if label in active and label not in sample:
                reason = f" (it is active as {self._conditions[label]})" if label in self._conditions else ""
                return f"The sample has no value for {label!r}{reason}; it takes a value of {domain}."
            if label in sample and label not in active:
                return self._why_not_active(label, sample, active)
        return None

    def check(self, sample: Mapping[str, Any]) -> Sample:
        """`sample` as this space writes it: labels in order, lists as tuples where the domain has tuples.

        Raises:
            SampleError: if it is none of this space; the message says why.
        """
        reason = self.why_not(sample)
        if reason is not None:
            raise SampleError(reason)
        return {label: d.normalise(sample[label]) for label, d in self._domains.items() if label in sample}

    def key(self, sample: Mapping[str, Any]) -> Hashable:
        """A hashable that is equal for equal samples of this space, however their values are written."""
        return tuple(
            [d.key(sample[label]) if label in sample else None for label, d in self._domains.items()]
        )

    # -- as numbers ------------------------------------------------------------------------------

    @property
    def width(self) -> int:
        """Length of `encode(sample)`."""
        return sum(1 + domain.width for domain in self._domains.values())

    def encode(self, sample: Mapping[str, Any]) -> np.ndarray:
        """`sample` as numbers in [0, 1].

        Returns:
            Shape (width,): for each label in the order of the space a flag, 1 if it is active, and its
            domain's code (one-hot, one per member of a Subset, or the position between the ends);
            all zeros where it is not active.
        """
        result = np.zeros(self.width)
        start = 0
        for label, domain in self._domains.items():
            if label in sample:
                result[start] = 1.0
                result[start + 1 : start + 1 + domain.width] = domain.encode(sample[label])
            start += 1 + domain.width
        return result

    def decode(self, code: np.ndarray) -> Sample:
        """The sample whose values have the nearest codes; `decode(encode(sample))` is `sample`.

        Continuous values come back up to rounding. The flags are not read: which labels are active
        follows from the values.

        Args:
            code: shape (width,), any real numbers.

        Raises:
            ValueError: if it has another shape.
        """
        code = np.asarray(code)
        if code.shape != (self.width,):
            raise ValueError(f"`code` must have shape ({self.width},), but has {code.shape}.")
        values, start = {}, 0
        for label, domain in self._domains.items():
            values[label] = domain.decode(code[start + 1 : start + 1 + domain.width])
            start += 1 + domain.width
        return self._walked(values, None)

    # -- JSON ------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads; the same for equal spaces up to the order of conditions' values."""
        return {
            "domains": {label: domain.to_json() for label, domain in self._domains.items()},
            "conditions": {label: condition.to_json() for label, condition in self._conditions.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchSpace:
        """The space that `to_json` wrote.

        Raises:
            SpaceError: if `data` is not of that form; the message names the label.
        """
        is_space = isinstance(data, Mapping) and {"domains"} <= data.keys() <= {"domains", "conditions"}
        if not is_space or not all(isinstance(part, Mapping) for part in data.values()):
            raise SpaceError(
                "A search space in JSON is an object with the objects 'domains' and, if any, 'conditions', but got "
                f"{data!r}."
            )
        domains = {}
        for label, domain in data["domains"].items():
            try:
                domains[label] = domain_from_json(domain)
            except SpaceError as error:
                raise SpaceError(f"The domain of {label!r} cannot be read: {error}") from None
        return cls(domains, {n: Condition.from_json(c) for n, c in data.get("conditions", {}).items()})

    # -- within ----------------------------------------------------------------------------------

    def _walked(self, given: Mapping[str, Any], rng: np.random.Generator | None) -> Sample:
        """The active labels in order: as given, else drawn, else their default."""
        keys: dict[str, Hashable] = {}
        result: Sample = {}
        for label, domain, clauses, is_asked in self._steps:
            if clauses is not None and not _holds(clauses, keys):
                continue
            if label in given:
                value = given[label]
            else:
                value = domain.default if rng is None else domain.sample(rng)
            result[label] = value
            if is_asked:
                keys[label] = domain.key(value)
        return result

    def _with_tuples_restored(self, sample: Mapping[str, Any]) -> Mapping[str, Any]:
        """`sample` with tuples where it was read from JSON, so that a resumed search draws the same."""
        labels = [label for label in self._with_tuples if label in sample]
        return {**sample, **{label: self._domains[label].normalise(sample[label]) for label in labels}}

    def _enumerated(self) -> Iterator[Sample]:
        labels = list(self._domains)
        sample: Sample = {}
        keys: dict[str, Hashable] = {}
        rest: list[Iterator[Any]] = []  # of the labels up to the current one, the values still to come
        while True:
            for label, domain, clauses, _ in self._steps[len(rest) :]:
                if clauses is None or _holds(clauses, keys):
                    rest.append(iter(domain))
                    sample[label] = next(rest[-1])
                    keys[label] = domain.key(sample[label])
                else:
                    rest.append(iter(()))
            yield dict(sample)
            while rest:
                label = labels[len(rest) - 1]
                if label in sample:
                    try:
                        sample[label] = next(rest[-1])
                    except StopIteration:
                        del sample[label], keys[label]
                    else:
                        keys[label] = self._domains[label].key(sample[label])
                        break
                rest.pop()
            if not rest:
                return

    def _reason(self, label: str) -> str:
        """When `label` is active, in words; empty if always."""
        return f"if {self._conditions[label]}" if label in self._conditions else ""

    def _why_not_value(self, label: Any, value: Any) -> str | None:
        if label not in self._domains:
            return f"The label {label!r} is not in this space; {self._nearest(label)}"
        reason = self._domains[label].why_not(value)
        return None if reason is None else f"The value of {label!r} is wrong: {reason}"

    def _why_not_active(self, label: str, sample: Mapping[str, Any], active: set[str]) -> str:
        condition = self._conditions[label]
        facts = [
            f"{name!r} is {sample[name]!r}" if name in active else f"{name!r} is not active"
            for name in sorted(condition.labels)
        ]
        but = f", but {' and '.join(facts)}" if facts else ""
        return f"The label {label!r} is active only if {condition}{but}; leave it out."

    def _nearest(self, label: Any) -> str:
        close = difflib.get_close_matches(str(label), self._domains, n=3)
        if close:
            return f"did you mean {' or '.join(map(repr, close))}?"
        shown = list(map(repr, self._domains))[:20]
        more = f" and {len(self) - 20} more" if len(self) > 20 else ""
        return f"it has {', '.join(shown) or 'no labels'}{more}."


def _holds(clauses: _Clauses, keys: Mapping[str, Hashable]) -> bool:
    """Whether any clause holds, given the keys of the values of the active labels."""
    for clause in clauses:
        for name, allowed in clause:
            if keys.get(name) not in allowed:  # None is no key
                break
        else:
            return True
    return False
