"""Small steps within a domain: which values lie next to one, and a draw near one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lightning_nas.space import Categorical, Domain, Normal, Sample, SearchSpace, Subset, value_key

_STRIDES = tuple(2.0**-k for k in range(1, 7))
"""Steps of a number, as a share of its range: a half, a quarter, ... down to 1/64."""

_FEW = 12
"""A domain of so many values is small enough to step to each of them."""


def steps(space: SearchSpace, sample: Sample) -> Iterator[Sample]:
    """The samples one step away from `sample`, distinct and finitely many, in a fixed order.

    A step changes one active label. A Categorical goes to each other value, and so does any domain of
    at most 12 values; a number goes up or down by half of its range (in the logarithm if it is
    logarithmic), a quarter, ... a 64th, but not beyond its ends; a Subset gains a member, loses one or
    swaps one. Labels that become active take their default.
    """
    for label in space:
        if label in sample:
            for value in _values_near(space[label], sample[label]):
                yield space.complete({**sample, label: value})


def _values_near(domain: Domain, value: Any) -> list[Any]:
    if isinstance(domain, Categorical) or domain.size <= _FEW:
        values = list(domain)
    elif isinstance(domain, Subset):
        values = [members for members in _one_member_apart(domain, value) if members in domain]
    else:
        position = float(domain.encode(value)[0])
        there = [position + sign * stride for stride in _STRIDES for sign in (1.0, -1.0)]
        if isinstance(domain, Normal):  # it has no ends
            there = [p for p in there if 0.0 < p < 1.0]
        values = [domain.decode(np.array([p])) for p in there if 0.0 <= p <= 1.0]
    distinct = {domain.key(found): found for found in values}
    distinct.pop(domain.key(value), None)
    return list(distinct.values())


def _one_member_apart(domain: Subset, members: list[Any]) -> Iterator[list[Any]]:
    taken = set(map(value_key, members))
    others = [member for member in domain.values if value_key(member) not in taken]
    yield from ([*members, other] for other in others)
    for i in range(len(members)):
        rest = [*members[:i], *members[i + 1 :]]
        yield rest
        yield from ([*rest, other] for other in others)


def drawn_near(domain: Domain, value: Any, width: float, rng: np.random.Generator) -> Any:
    """A random value near `value`.

    Args:
        domain: where it must lie.
        value: the middle.
        width: in [0, 1]. A number is drawn uniformly from a window of this share of its range (in the
            logarithm if it is logarithmic), cut off at its ends; any other value is drawn afresh with
            this probability and kept otherwise.
        rng: draws.
    """
    if isinstance(domain, (Categorical, Subset)):
        return domain.sample(rng) if rng.random() < width else value
    middle = float(domain.encode(value)[0])
    low, high = max(middle - width / 2, 0.0), min(middle + width / 2, 1.0)
    return domain.decode(np.array([low + rng.random() * (high - low)]))
