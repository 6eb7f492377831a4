"""Domains of numbers: `Integer` and `Float`, on a grid or continuous, uniform or in the logarithm."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from lightning_nas.errors import SpaceError
from lightning_nas.space.domain import Domain
from lightning_nas.space.values import draw_below, is_real, is_whole, plain_value

GRID_TOLERANCE = 1e-6
"""How far from a grid point a number may lie, in steps, and still mean it."""


@dataclass(frozen=True, eq=False)
class Integer(Domain):
    """A whole number from `low` to `high`, both included.

    Args:
        low, high: the ends. With a `step` that does not reach `high`, it becomes the last value reached.
        step: distance of neighbours, counted from `low`.
        log: sample uniformly in the logarithm: a value stands for all numbers within half a step of
            it, so it is drawn with a probability proportional to
            `log((value + step/2) / (value - step/2))`.

    Raises:
        SpaceError: unless all are whole numbers, `low <= high`, `step >= 1`, and `low > step / 2` if `log`.

    >>> list(Integer(16, 64, step=16))
    [16, 32, 48, 64]
    """

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            value = plain_value(getattr(self, name))
            if not is_whole(value):
                raise SpaceError(f"`{name}` of Integer must be a whole number, but got {value!r}.")
            object.__setattr__(self, name, value)
        check_ends("Integer", self.low, self.high, self.step, self.log)
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

    def at(self, index: int) -> int:
        return self.low + index * self.step

    def index(self, value: Any) -> int:
        return int((plain_value(self._checked(value)) - self.low) // self.step)

    def sample(self, rng: np.random.Generator) -> int:
        """A random value, uniform or uniform in the logarithm."""
        if self.log:
            return self.at(_log_index(self.low, self.high, self.step, rng))
        return self.low + draw_below(self.size, rng) * self.step

    def why_not(self, value: Any) -> str | None:
        plain = plain_value(value)
        if is_whole(plain) and self.low <= plain <= self.high and (plain - self.low) % self.step == 0:
            return None
        steps = "" if self.step == 1 else f" in steps of {self.step}"
        return f"{value!r} is not a whole number from {self.low} to {self.high}{steps}."

    def encode(self, value: Any) -> np.ndarray:
        """The position between the ends, in the logarithm if `log`."""
        return position_of(self._checked(value), self.low, self.high, self.log)

    def decode(self, code: np.ndarray) -> int:
        return self.at(
            _nearest(at_position(code, self.low, self.high, self.log), self.low, self.step, self.size)
        )

    def to_json(self) -> dict[str, Any]:
        return {"type": "integer", "low": self.low, "high": self.high, "step": self.step, "log": self.log}

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.low, self.high + 1, self.step))


@dataclass(frozen=True, eq=False)
class Float(Domain):
    """A real number from `low` to `high`, both included.

    Args:
        low, high: the ends. With a `step` that does not reach `high`, it becomes the last value reached.
        log: sample uniformly in the logarithm; with a step, as of `Integer`.
        step: only `low`, `low + step`, `low + 2 * step`, ..., computed as written in decimals: on a grid
            of 0.1 there is 0.3, not 0.30000000000000004. Continuous if None.

    Raises:
        SpaceError: unless all are finite numbers, `low <= high`, `step > 0`, and, if `log`, `low > 0`
            (`low > step / 2` with a step).

    >>> list(Float(0.1, 0.5, step=0.1))
    [0.1, 0.2, 0.3, 0.4, 0.5]
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    _grid: tuple[int, int, int, int] = field(init=False, repr=False, default=(0, 0, 1, 0))
    """Whole numbers (low, step, scale, size): the values are `(low + i * step) / scale` for i < size."""

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            value = plain_value(getattr(self, name))
            if name == "step" and value is None:
                continue
            if not is_real(value):
                raise SpaceError(f"`{name}` of Float must be a finite number, but got {value!r}.")
            object.__setattr__(self, name, float(value))
        check_ends("Float", self.low, self.high, self.step, self.log)
        if self.step is None:
            return
        low, high, step = (Fraction(repr(number)) for number in (self.low, self.high, self.step))
        # An end computed with rounding errors (0.1 * 3, say) counts as reached.
        size = math.floor((high - low) / step + Fraction(1, 10**9)) + 1
        scale = math.lcm(low.denominator, step.denominator)
        object.__setattr__(self, "_grid", (int(low * scale), int(step * scale), scale, size))
        object.__setattr__(self, "high", self.at(size - 1))

    @property
    def size(self) -> int | float:
        if self.step is not None:
            return self._grid[3]
        return 1 if self.low == self.high else math.inf

    @property
    def default(self) -> float:
        return self.low

    @property
    def width(self) -> int:
        return 1

    def at(self, index: int) -> float:
        self._finite_size()
        low, step, scale, _ = self._grid
        return self.low if self.step is None else (low + index * step) / scale

    def index(self, value: Any) -> int:
        self._finite_size()
        plain = plain_value(self._checked(value))
        return 0 if self.step is None else _nearest(plain, self.low, self.step, self._grid[3])

    def sample(self, rng: np.random.Generator) -> float:
        """A random value, uniform or uniform in the logarithm; on the grid if there is one."""
        if self.step is not None:
            if self.log:
                return self.at(_log_index(self.low, self.high, self.step, rng))
            return self.at(draw_below(self._grid[3], rng))
        if self.log:
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = self.low + rng.random() * (self.high - self.low)
        return min(max(drawn, self.low), self.high)

    def why_not(self, value: Any) -> str | None:
        plain = plain_value(value)
        if is_real(plain):
            if self.step is None:
                if self.low <= plain <= self.high:
                    return None
            else:
                position = (plain - self.low) / self.step
                if abs(position - self._nearest_index(plain)) <= GRID_TOLERANCE:
                    return None
        steps = "" if self.step is None else f" in steps of {self.step:g}"
        return f"{value!r} is not a number from {self.low:g} to {self.high:g}{steps}."

    def normalise(self, value: Any) -> float:
        if self.step is not None:
            return self.at(self.index(value))
        return float(plain_value(self._checked(value)))

    def key(self, value: Any) -> Hashable:
        return float(value) if self.step is None else self._nearest_index(value)

    def encode(self, value: Any) -> np.ndarray:
        """The position between the ends, in the logarithm if `log`."""
        return position_of(self.normalise(value), self.low, self.high, self.log)

    def decode(self, code: np.ndarray) -> float:
        value = at_position(code, self.low, self.high, self.log)
        if self.step is not None:
            return self.at(self._nearest_index(value))
        return min(max(value, self.low), self.high)

    def to_json(self) -> dict[str, Any]:
        return {"type": "float", "low": self.low, "high": self.high, "log": self.log, "step": self.step}

    def _nearest_index(self, value: float) -> int:
        assert self.step is not None
        return _nearest(value, self.low, self.step, self._grid[3])


def check_ends(kind: str, low: float, high: float, step: float | None, log: Any) -> None:
    """Raises SpaceError unless a domain of numbers can have these ends."""
    given = f"(low={low}, high={high}, step={step}, log={log})"
    if not isinstance(log, bool):
        raise SpaceError(f"`log` of {kind} must be True or False, but got {log!r}.")
    if not low <= high:
        raise SpaceError(f"`low <= high` must hold for {kind}, but got {given}.")
    if step is not None and step <= 0:
        raise SpaceError(f"`step > 0` must hold for {kind}, but got {given}.")
    if log and 2 * low <= (step or 0):
        rule = "low > 0" if step is None else "low > step / 2"
        raise SpaceError(f"`{rule}` must hold for {kind} with log=True, but got {given}.")
    if isinstance(low, float) and not math.isfinite(high - low):
        raise SpaceError(f"`high - low` must be finite for {kind}, but got {given}.")


def _nearest(value: float, low: float, step: float, size: int) -> int:
    """The index of the grid point next to `value`."""
    return min(max(round((value - low) / step), 0), size - 1)


def _log_index(low: float, high: float, step: float, rng: np.random.Generator) -> int:
    """The index of a grid point, uniformly in the logarithm: half a step belongs to both ends."""
    value = math.exp(rng.uniform(math.log(low - step / 2), math.log(high + step / 2)))
    return _nearest(value, low, step, round((high - low) / step) + 1)


def position_of(value: float, low: float, high: float, log: bool) -> np.ndarray:
    """Where `value` lies between the ends, in [0, 1], shape (1,)."""
    if low == high:
        return np.zeros(1)
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return np.array([(value - low) / (high - low)])


def at_position(code: np.ndarray, low: float, high: float, log: bool) -> float:
    """The number at a position between the ends."""
    position = min(max(float(code[0]), 0.0), 1.0)
    if log:
        return math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
    return low + position * (high - low)
