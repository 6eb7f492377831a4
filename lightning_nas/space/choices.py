"""Domains of listed values: `Categorical` takes one of them, `Subset` several."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from lightning_nas.errors import SampleError, SpaceError
from lightning_nas.space.domain import Domain
from lightning_nas.space.values import (
    checked_values,
    draw_below,
    is_real,
    is_whole,
    json_value,
    plain_value,
    value_key,
)


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Categorical(Domain):
    """One of several values without order.

    Args:
        values: numbers, strings, bools, None, or tuples of these; distinct in type and value
            (`1`, `1.0` and `True` are three).
        prior: probabilities for random sampling, one per value; uniform if None. A mutation does not
            heed it.

    Raises:
        SpaceError: if there are no values, two are the same, JSON cannot hold one, or `prior` does not
            have one number >= 0 per value with sum 1 (within 1e-6).

    >>> Categorical(["conv", "pool"], prior=[0.9, 0.1]).size
    2
    """

    values: tuple[Any, ...]
    prior: tuple[float, ...] | None
    _index: Mapping[Hashable, int] = field(repr=False)
    _cumulative: tuple[float, ...] | None = field(repr=False)

    def __init__(self, values: Sequence[Any], prior: Sequence[float] | None = None) -> None:
        plain, index = checked_values("Categorical", values)
        object.__setattr__(self, "values", plain)
        object.__setattr__(self, "_index", index)
        weights = None if prior is None else _checked_prior(prior, plain)
        object.__setattr__(self, "prior", weights)
        cumulative = None if weights is None else list(itertools.accumulate(weights))
        object.__setattr__(
            self, "_cumulative", None if cumulative is None else tuple(c / cumulative[-1] for c in cumulative)
        )

    @property
    def size(self) -> int:
        return len(self.values)

    @property
    def default(self) -> Any:
        return self.values[0]

    @property
    def width(self) -> int:
        return len(self.values)

    @property
    def has_tuples(self) -> bool:
        return any(isinstance(value, tuple) for value in self.values)

    def at(self, index: int) -> Any:
        return self.values[index]

    def index(self, value: Any) -> int:
        try:
            return self._index[value_key(value)]
        except (KeyError, TypeError):
            raise SampleError(self.why_not(value)) from None

    def sample(self, rng: np.random.Generator) -> Any:
        """A random value, by the prior."""
        if self._cumulative is None:
            return self.values[draw_below(len(self.values), rng)]
        return self.values[bisect_right(self._cumulative, rng.random())]

    def why_not(self, value: Any) -> str | None:
        try:
            if value_key(value) in self._index:
                return None
        except TypeError:  # unhashable: a dict, say
            pass
        alike = [
            v for v in self.values if str(v) == str(value) or (is_real(v) and is_real(value) and v == value)
        ]
        hint = f"; {alike[0]!r} there is of type {type(alike[0]).__name__}" if alike else ""
        return f"{value!r} ({type(value).__name__}) is not among {list(self.values)}{hint}."

    def encode(self, value: Any) -> np.ndarray:
        """One-hot."""
        code = np.zeros(len(self.values))
        code[self.index(value)] = 1.0
        return code

    def decode(self, code: np.ndarray) -> Any:
        """The value with the largest number."""
        return self.values[int(np.argmax(code))]

    def to_json(self) -> dict[str, Any]:
        prior = {} if self.prior is None else {"prior": list(self.prior)}
        return {"type": "categorical", "values": list(map(json_value, self.values)), **prior}

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __repr__(self) -> str:
        return (
            f"Categorical({list(self.values)}{'' if self.prior is None else f', prior={list(self.prior)}'})"
        )


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Subset(Domain):
    """Several of several values: a list without repeats, in the order of `values`.

    All allowed subsets are equally likely, so that those of middle size come up most where `size` leaves
    it open. They are listed by size, then in lexicographic order.

    Args:
        values: as of `Categorical`.
        size: how many are taken: a number, `(low, high)` with both included, or None for any number,
            also none. Kept as the pair `counts`; the property `size` is the number of subsets.

    Raises:
        SpaceError: as of `Categorical`, and unless `0 <= low <= high <= len(values)`.

    >>> list(Subset(["a", "b", "c"], size=2))
    [['a', 'b'], ['a', 'c'], ['b', 'c']]
    """

    values: tuple[Any, ...]
    counts: tuple[int, int]
    _index: Mapping[Hashable, int] = field(repr=False)

    def __init__(self, values: Sequence[Any], size: int | tuple[int, int] | None = None) -> None:
        plain, index = checked_values("Subset", values)
        object.__setattr__(self, "values", plain)
        object.__setattr__(self, "_index", index)
        wanted = (0, len(plain)) if size is None else plain_value(size)
        low, high = wanted if isinstance(wanted, tuple) and len(wanted) == 2 else (wanted, wanted)
        if not (is_whole(low) and is_whole(high) and 0 <= low <= high <= len(plain)):
            raise SpaceError(
                f"The `size` of a Subset of {len(plain)} values must be a number from 0 to {len(plain)}, a pair "
                f"(low, high) of them or None, but got {size!r}."
            )
        object.__setattr__(self, "counts", (low, high))

    @cached_property
    def size(self) -> int:
        """How many subsets there are."""
        return sum(math.comb(len(self.values), count) for count in self._counts())

    @property
    def default(self) -> list[Any]:
        """The first values, as few as allowed, but one if that may be."""
        low, high = self.counts
        return list(self.values[: max(low, min(1, high))])

    @property
    def width(self) -> int:
        return len(self.values)

    @property
    def has_tuples(self) -> bool:
        return any(isinstance(value, tuple) for value in self.values)

    def at(self, index: int) -> list[Any]:
        n, chosen = len(self.values), []
        for count in self._counts():
            if index < math.comb(n, count):
                break
            index -= math.comb(n, count)
        for i, value in enumerate(self.values):
            if count == 0:
                break
            with_value = math.comb(n - i - 1, count - 1)
            if index < with_value:
                chosen.append(value)
                count -= 1
            else:
                index -= with_value
        return chosen

    def index(self, value: Any) -> int:
        members = self._members(value)
        n, left = len(self.values), len(members)
        index = sum(math.comb(n, count) for count in range(self.counts[0], left))
        start = 0
        for member in members:
            index += sum(math.comb(n - i - 1, left - 1) for i in range(start, member))
            start, left = member + 1, left - 1
        return index

    def why_not(self, value: Any) -> str | None:
        low, high = self.counts
        if isinstance(value, (list, tuple)) and low <= len(value) <= high:
            try:
                keys = {value_key(item) for item in value}
                if keys <= self._index.keys() and len(keys) == len(value):
                    return None
            except TypeError:  # unhashable: a dict, say
                pass
        number = f"{low}" if low == high else f"{low} to {high}"
        return f"{value!r} is not a list of {number} different values among {list(self.values)}."

    def normalise(self, value: Any) -> list[Any]:
        return [self.values[i] for i in self._members(value)]

    def key(self, value: Any) -> Hashable:
        return frozenset(map(value_key, value))

    def encode(self, value: Any) -> np.ndarray:
        """A one for each member."""
        code = np.zeros(len(self.values))
        code[self._members(value)] = 1.0
        return code

    def decode(self, code: np.ndarray) -> list[Any]:
        """The values above one half; as many of the largest as `counts` allows."""
        low, high = self.counts
        count = min(max(int(np.sum(np.asarray(code) > 0.5)), low), high)
        largest = np.argsort(-np.asarray(code), kind="stable")[:count]
        return [self.values[i] for i in sorted(largest.tolist())]

    def to_json(self) -> dict[str, Any]:
        return {"type": "subset", "values": list(map(json_value, self.values)), "size": list(self.counts)}

    def __iter__(self) -> Iterator[list[Any]]:
        for count in self._counts():
            yield from map(list, itertools.combinations(self.values, count))

    def __repr__(self) -> str:
        low, high = self.counts
        return f"Subset({list(self.values)}, size={low if low == high else (low, high)})"

    def _counts(self) -> range:
        return range(self.counts[0], self.counts[1] + 1)

    def _members(self, value: Any) -> list[int]:
        """The positions of the members of `value`, ascending. Raises SampleError if it is no value."""
        return sorted(self._index[value_key(item)] for item in self._checked(value))


def _checked_prior(prior: Sequence[float], values: tuple[Any, ...]) -> tuple[float, ...]:
    weights = tuple(map(plain_value, prior))
    if len(weights) != len(values) or not all(is_real(weight) and weight >= 0 for weight in weights):
        raise SpaceError(
            f"`prior` must hold {len(values)} numbers >= 0, one per value of {list(values)}, but got {list(prior)}."
        )
    if abs(sum(weights) - 1) > 1e-6:
        raise SpaceError(f"`prior` must sum to 1, but {list(prior)} sums to {sum(weights):g}.")
    return tuple(map(float, weights))
