"""Domains: the values that one label may have."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from lightning_nas.errors import SampleError, SpaceError


def value_key(value: Any) -> Hashable:
    """A hashable that is equal for two values exactly if they are the same, in type and value.

    Python holds `True == 1 == 1.0`; a search space does not. Lists count as tuples.
    """
    kind = type(value)
    if kind is str or kind is int:
        return cast(Hashable, value)
    if kind is list or kind is tuple:
        return ("tuple", *map(value_key, value))
    return (kind.__name__, value)


def _plain(value: Any) -> Any:
    """Scalars of numpy as Python's, lists as tuples."""
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def _is_number(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


class Domain(ABC):
    """The values one label may have. Frozen; equal by content."""

    @property
    @abstractmethod
    def size(self) -> int | float:
        """How many values there are; `math.inf` for a continuous domain."""

    @property
    @abstractmethod
    def default(self) -> Any:
        """The value a model space has before any choice: the first, or the lower end."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Length of `encode(value)`."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Any:
        """A random value."""

    @abstractmethod
    def why_not(self, value: Any) -> str | None:
        """Why `value` is none of this domain, with what would be right; None if it is one."""

    @abstractmethod
    def encode(self, value: Any) -> np.ndarray:
        """`value` as numbers in [0, 1], shape (width,)."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What `domain_from_json` reads."""

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """All values in order. Raises SpaceError if there are infinitely many."""

    def normalise(self, value: Any) -> Any:
        """`value` as this domain writes it: numpy's scalars plain, lists where they belong.

        Raises:
            SampleError: if it is none of this domain.
        """
        reason = self.why_not(value)
        if reason is not None:
            raise SampleError(reason)
        return _plain(value)

    def other(self, value: Any, rng: np.random.Generator) -> Any:
        """A random value other than `value`, uniformly among them.

        Raises:
            SampleError: if there is no other.
        """
        if self.size == 1:
            raise SampleError(f"{self} has no value besides {value!r}.")
        if self.size == math.inf:
            return self._other_of_infinitely_many(value, rng)
        key = value_key(value)
        others = [v for v in self if value_key(v) != key]
        return others[int(rng.random() * len(others))]

    def _other_of_infinitely_many(self, value: Any, rng: np.random.Generator) -> Any:
        while (drawn := self.sample(rng)) == value:
            pass
        return drawn

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key == other._key  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> Hashable:
        """All that makes the domain; type and value count."""
        return (type(self).__name__, *((k, value_key(v)) for k, v in sorted(self.to_json().items())))


def _checked_values(kind: str, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[Hashable, int]]:
    """Values with lists as tuples, and the index of each."""
    if isinstance(values, str) or not isinstance(values, (Sequence, range)):
        raise SpaceError(f"{kind} takes a list of values, but got {values!r}.")
    plain = tuple(map(_plain, values))
    if not plain:
        raise SpaceError(f"{kind} needs at least one value, but got none.")
    index: dict[Hashable, int] = {}
    for i, value in enumerate(plain):
        _reject_unless_json(kind, value)
        if index.setdefault(value_key(value), i) != i:
            raise SpaceError(f"The values of {kind} must be distinct, but {value!r} is there twice.")
    return plain, index


def _reject_unless_json(kind: str, value: Any) -> None:
    if isinstance(value, tuple):
        for item in value:
            _reject_unless_json(kind, item)
    elif value is not None and not isinstance(value, (str, bool, int, float)):
        raise SpaceError(
            f"A value of {kind} must be a number, a string, a bool, None or a tuple of these, so that JSON can "
            f"hold it, but {value!r} is of type {type(value).__name__}."
        )
    elif isinstance(value, float) and not math.isfinite(value):
        raise SpaceError(f"A value of {kind} must be finite, but got {value}.")


@dataclass(frozen=True, eq=False)
class Categorical(Domain):
    """One of several values without order.

    Args:
        values: numbers, strings, bools, None, or tuples of these; distinct in type and value
            (`1`, `1.0` and `True` are three).
        prior: probabilities for random sampling, one per value; uniform if None.

    Raises:
        SpaceError: if there are no values, two are the same, JSON cannot hold one, or `prior` does not
            have one number >= 0 per value with sum 1 (within 1e-6).
    """

    values: tuple[Any, ...]
    prior: tuple[float, ...] | None = None
    _index: Mapping[Hashable, int] = field(init=False, repr=False)
    _cumulative: np.ndarray | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        values, index = _checked_values("Categorical", self.values)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "_index", index)
        if self.prior is None:
            return
        prior = tuple(map(float, self.prior))
        if len(prior) != len(values) or min(prior) < 0 or not abs(sum(prior) - 1) <= 1e-6:
            raise SpaceError(
                f"`prior` must hold {len(values)} numbers >= 0, one per value, that sum to 1, but got "
                f"{self.prior} with sum {sum(prior):g}."
            )
        object.__setattr__(self, "prior", prior)
        object.__setattr__(self, "_cumulative", np.cumsum(prior) / sum(prior))

    @property
    def size(self) -> int:
        return len(self.values)

    @property
    def default(self) -> Any:
        return self.values[0]

    @property
    def width(self) -> int:
        return len(self.values)

    def index(self, value: Any) -> int:
        """The position of `value` among the values. Raises KeyError if it is none."""
        return self._index[value_key(value)]

    def sample(self, rng: np.random.Generator) -> Any:
        if self._cumulative is None:
            return self.values[int(rng.random() * len(self.values))]
        return self.values[int(np.searchsorted(self._cumulative, rng.random(), side="right"))]

    def other(self, value: Any, rng: np.random.Generator) -> Any:
        if len(self.values) == 1:
            raise SampleError(f"{self} has no value besides {value!r}.")
        drawn = int(rng.random() * (len(self.values) - 1))
        return self.values[drawn + (drawn >= self.index(value))]

    def why_not(self, value: Any) -> str | None:
        try:
            known = value_key(_plain(value)) in self._index
        except TypeError:
            known = False
        return None if known else f"{value!r} is not among {list(self.values)}."

    def normalise(self, value: Any) -> Any:
        return self.values[self.index(super().normalise(value))]

    def encode(self, value: Any) -> np.ndarray:
        """One-hot."""
        code = np.zeros(len(self.values))
        code[self.index(value)] = 1.0
        return code

    def to_json(self) -> dict[str, Any]:
        prior = {} if self.prior is None else {"prior": list(self.prior)}
        return {"type": "categorical", "values": list(self.values), **prior}

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __repr__(self) -> str:
        return (
            f"Categorical({list(self.values)}{'' if self.prior is None else f', prior={list(self.prior)}'})"
        )


@dataclass(frozen=True, eq=False)
class Integer(Domain):
    """A whole number from `low` to `high`, both included.

    Args:
        low, high: the ends.
        step: distance of neighbours, counted from `low`.
        log: sample uniformly in the logarithm (needs `low >= 1` and `step == 1`).

    Raises:
        SpaceError: unless `low <= high`, `step >= 1`, all are whole numbers, and `log` has what it needs.
    """

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            value = _plain(getattr(self, name))
            if not _is_number(value, int):
                raise SpaceError(f"`{name}` of Integer must be a whole number, but got {value!r}.")
            object.__setattr__(self, name, value)
        if not (self.low <= self.high and self.step >= 1):
            raise SpaceError(
                f"`low <= high` and `step >= 1` must hold for Integer, but got (low={self.low}, "
                f"high={self.high}, step={self.step})."
            )
        if self.log and (self.low < 1 or self.step != 1):
            raise SpaceError(
                f"Integer with log=True needs `low >= 1` and `step == 1`, but got (low={self.low}, step={self.step})."
            )
        object.__setattr__(self, "high", self.low + (self.high - self.low) // self.step * self.step)

    @property
    def size(self) -> int:
        return (self.high - self.low) // self.step + 1

    @property
    def default(self) -> int:
        return self.low

    @property
    def width(self) -> int:
        return 1

    def sample(self, rng: np.random.Generator) -> int:
        if not self.log:
            return self.low + int(rng.random() * self.size) * self.step
        # Half a unit beyond both ends, so that the ends are as likely as the density there says.
        u = rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5))
        return min(max(round(math.exp(u)), self.low), self.high)

    def other(self, value: Any, rng: np.random.Generator) -> int:
        if self.size == 1:
            raise SampleError(f"{self} has no value besides {value!r}.")
        drawn = int(rng.random() * (self.size - 1))
        skipped = int(value - self.low) // self.step
        return self.low + (drawn + (drawn >= skipped)) * self.step

    def why_not(self, value: Any) -> str | None:
        plain = _plain(value)
        if _is_number(plain, int) and self.low <= plain <= self.high and (plain - self.low) % self.step == 0:
            return None
        return f"{value!r} is not a whole number from {self.low} to {self.high}" + (
            "." if self.step == 1 else f" in steps of {self.step}."
        )

    def encode(self, value: Any) -> np.ndarray:
        """The position between the ends, in the logarithm if `log`."""
        return np.array([_position(value, self.low, self.high, self.log)])

    def to_json(self) -> dict[str, Any]:
        return {"type": "integer", "low": self.low, "high": self.high, "step": self.step, "log": self.log}

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.low, self.high + 1, self.step))


@dataclass(frozen=True, eq=False)
class Float(Domain):
    """A real number from `low` to `high`, both included.

    Args:
        low, high: the ends.
        log: sample uniformly in the logarithm (needs `low > 0` and no `step`).
        step: only `low`, `low + step`, ... up to `high`.

    Raises:
        SpaceError: unless `low <= high`, both are finite, `step > 0`, and `log` has what it needs.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            value = _plain(getattr(self, name))
            if name == "step" and value is None:
                continue
            if not _is_number(value, (int, float)) or not math.isfinite(value):
                raise SpaceError(f"`{name}` of Float must be a finite number, but got {value!r}.")
            object.__setattr__(self, name, float(value))
        if not self.low <= self.high or (self.step is not None and self.step <= 0):
            raise SpaceError(
                f"`low <= high` and `step > 0` must hold for Float, but got (low={self.low}, high={self.high}, "
                f"step={self.step})."
            )
        if self.log and (self.low <= 0 or self.step is not None):
            raise SpaceError(
                f"Float with log=True needs `low > 0` and no step, but got (low={self.low}, step={self.step})."
            )

    @property
    def size(self) -> int | float:
        if self.step is not None:
            return math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return 1 if self.low == self.high else math.inf

    @property
    def default(self) -> float:
        return self.low

    @property
    def width(self) -> int:
        return 1

    def _at(self, index: int) -> float:
        # Twelve digits: 0.1 + 2 * 0.1 is written as 0.3.
        return float(f"{self.low + index * (self.step or 0.0):.12g}")

    def sample(self, rng: np.random.Generator) -> float:
        if self.step is not None:
            return self._at(int(rng.random() * self.size))
        if self.log:
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
            return min(max(drawn, self.low), self.high)
        return self.low + rng.random() * (self.high - self.low)

    def why_not(self, value: Any) -> str | None:
        plain = _plain(value)
        if _is_number(plain, (int, float)) and self.low <= plain <= self.high:
            if self.step is None:
                return None
            position = (plain - self.low) / self.step
            if abs(position - round(position)) <= 1e-6 and round(position) < self.size:
                return None
        return f"{value!r} is not a number from {self.low:g} to {self.high:g}" + (
            "." if self.step is None else f" in steps of {self.step:g}."
        )

    def normalise(self, value: Any) -> float:
        plain = float(super().normalise(value))
        return plain if self.step is None else self._at(round((plain - self.low) / self.step))

    def encode(self, value: Any) -> np.ndarray:
        """The position between the ends, in the logarithm if `log`."""
        return np.array([_position(value, self.low, self.high, self.log)])

    def to_json(self) -> dict[str, Any]:
        return {"type": "float", "low": self.low, "high": self.high, "log": self.log, "step": self.step}

    def __iter__(self) -> Iterator[float]:
        if self.size == math.inf:
            raise SpaceError(f"{self} has infinitely many values; give it a step to list them.")
        return (self._at(i) for i in range(int(self.size)))


@dataclass(frozen=True, eq=False)
class Subset(Domain):
    """Several of several values: a list without repeats, in the order of `values`.

    Args:
        values: as of `Categorical`.
        count: how many are taken: a number, `(low, high)` with both included, or None for any number.

    Raises:
        SpaceError: as of `Categorical`, and unless `0 <= low <= high <= len(values)`.
    """

    values: tuple[Any, ...]
    count: int | tuple[int, int] | None = None
    _index: Mapping[Hashable, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values, index = _checked_values("Subset", self.values)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "_index", index)
        count: Any = (0, len(values)) if self.count is None else _plain(self.count)
        low, high = (count, count) if _is_number(count, int) else count
        if not (_is_number(low, int) and _is_number(high, int) and 0 <= low <= high <= len(values)):
            raise SpaceError(
                f"`0 <= low <= high <= {len(values)}` must hold for the count of a Subset of {len(values)} "
                f"values, but got {self.count!r}."
            )
        object.__setattr__(self, "count", (low, high))

    @property
    def _counts(self) -> range:
        low, high = self.count  # type: ignore[misc]
        return range(low, high + 1)

    @property
    def size(self) -> int:
        return sum(math.comb(len(self.values), k) for k in self._counts)

    @property
    def default(self) -> list[Any]:
        counts = self._counts
        return list(self.values[: max(counts[0], min(1, counts[-1]))])

    @property
    def width(self) -> int:
        return len(self.values)

    def sample(self, rng: np.random.Generator) -> list[Any]:
        drawn, n = rng.random() * self.size, len(self.values)
        for count in self._counts:
            drawn -= math.comb(n, count)
            if drawn < 0:
                break
        return [self.values[i] for i in sorted(rng.choice(n, size=count, replace=False).tolist())]

    def other(self, value: Any, rng: np.random.Generator) -> list[Any]:
        if self.size == 1:
            raise SampleError(f"{self} has no value besides {value!r}.")
        return self._other_of_infinitely_many(list(value), rng)  # type: ignore[no-any-return]

    def why_not(self, value: Any) -> str | None:
        low, high = self.count  # type: ignore[misc]
        wanted = f"{low}" if low == high else f"{low} to {high}"
        wrong = f"{value!r} is not a list of {wanted} different values among {list(self.values)}."
        if not isinstance(value, (list, tuple)) or not low <= len(value) <= high:
            return wrong
        try:
            keys = {value_key(_plain(item)) for item in value}
        except TypeError:
            return wrong
        return None if keys <= self._index.keys() and len(keys) == len(value) else wrong

    def normalise(self, value: Any) -> list[Any]:
        plain = super().normalise(value)
        return [self.values[i] for i in sorted(self._index[value_key(item)] for item in plain)]

    def encode(self, value: Any) -> np.ndarray:
        """A one for each member."""
        code = np.zeros(len(self.values))
        code[[self._index[value_key(item)] for item in value]] = 1.0
        return code

    def to_json(self) -> dict[str, Any]:
        return {"type": "subset", "values": list(self.values), "count": list(self.count)}  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[Any]]:
        for count in self._counts:
            yield from map(list, itertools.combinations(self.values, count))

    def __repr__(self) -> str:
        return f"Subset({list(self.values)}, count={self.count})"


def _position(value: float, low: float, high: float, log: bool) -> float:
    if low == high:
        return 0.0
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def domain_from_json(data: Mapping[str, Any]) -> Domain:
    """The domain that `to_json` wrote.

    Raises:
        SpaceError: if it is of no known type, or a field is missing, unknown or wrong.
    """
    kinds: dict[str, type[Domain]] = {
        "categorical": Categorical,
        "integer": Integer,
        "float": Float,
        "subset": Subset,
    }
    fields = dict(data)
    kind = fields.pop("type", None)
    if kind not in kinds:
        raise SpaceError(f"The type of a domain must be one of {sorted(kinds)}, but got {kind!r}.")
    try:
        return kinds[kind](**fields)
    except TypeError:
        raise SpaceError(f"A domain of type {kind!r} does not have the fields {sorted(fields)}.") from None
