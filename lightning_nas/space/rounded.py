"""Domains drawn first and rounded afterwards, as NNI's types do: `Quantized` and `Normal`."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import numpy as np

from lightning_nas.errors import SpaceError
from lightning_nas.space.domain import Domain
from lightning_nas.space.numeric import GRID_TOLERANCE, at_position, check_ends, position_of
from lightning_nas.space.values import is_real, plain_value

_STANDARD = NormalDist()
_FAR = 8.0  # standard deviations; a draw lies further out once in 10**15
_PATIENCE = 100  # draws


@dataclass(frozen=True, eq=False)
class Quantized(Domain):
    """A multiple of `step`, cut off at the ends: `min(max(round(x / step) * step, low), high)`.

    x is drawn uniformly, so a value near an end gets less than the others, and an end need not be a
    multiple: it stands for those x that are rounded beyond it. `Float` with a step counts its values from
    `low` instead, each equally likely.

    Args:
        low, high: the ends, both included.
        step: distance of neighbours, apart from those at the ends. Half a step is rounded to the even
            multiple.
        log: x is drawn uniformly in the logarithm.

    Raises:
        SpaceError: unless all are finite numbers, `low <= high`, `step > 0`, and `low > 0` if `log`.

    Source: `quniform` and `qloguniform` of NNI. Unlike there, values are as written in decimals: 0.3, not
    0.30000000000000004.

    >>> list(Quantized(2, 10, 5))
    [2.0, 5.0, 10.0]
    """

    low: float
    high: float
    step: float
    log: bool = False
    _grid: tuple[int, int] = field(init=False, repr=False, default=(0, 0))
    """The multiples, in steps, that the ends are rounded to."""

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            object.__setattr__(self, name, _checked_number("Quantized", name, getattr(self, name)))
        if self.step <= 0:
            raise SpaceError(f"`step > 0` must hold for Quantized, but got step={self.step}.")
        check_ends("Quantized", self.low, self.high, None, self.log)
        object.__setattr__(self, "_grid", (round(self.low / self.step), round(self.high / self.step)))

    @property
    def size(self) -> int:
        return self._grid[1] - self._grid[0] + 1

    @property
    def default(self) -> float:
        return self.at(0)

    @property
    def width(self) -> int:
        return 1

    def at(self, index: int) -> float:
        return self._clipped(self._grid[0] + index)

    def index(self, value: Any) -> int:
        return self._nearest_index(plain_value(self._checked(value)))

    def why_not(self, value: Any) -> str | None:
        plain = plain_value(value)
        if is_real(plain) and abs(plain - self.at(self._nearest_index(plain))) <= GRID_TOLERANCE * self.step:
            return None
        return f"{value!r} is none of the multiples of {self.step:g} from {self.low:g} to {self.high:g}, ends included."

    def sample(self, rng: np.random.Generator) -> float:
        """A random number from `low` to `high`, rounded."""
        return self.decode(np.array([rng.random()]))

    def key(self, value: Any) -> Hashable:
        return self._nearest_index(value)

    def encode(self, value: Any) -> np.ndarray:
        """The position between the ends, in the logarithm if `log`."""
        return position_of(self.normalise(value), self.low, self.high, self.log)

    def decode(self, code: np.ndarray) -> float:
        """The value that the number at position `code` is rounded to."""
        return self.at(self._nearest_index(at_position(code, self.low, self.high, self.log)))

    def to_json(self) -> dict[str, Any]:
        return {"type": "quantized", "low": self.low, "high": self.high, "step": self.step, "log": self.log}

    def _nearest_index(self, value: float) -> int:
        first, last = self._grid
        return min(max(round(value / self.step), first), last) - first

    def _clipped(self, multiple: int) -> float:
        return min(max(_multiple(multiple, self.step), self.low), self.high)


@dataclass(frozen=True, eq=False)
class Normal(Domain):
    """A normally distributed number, without ends.

    Args:
        mean: of the distribution; of the logarithm's if `log`.
        deviation: its standard deviation, likewise.
        log: the logarithm is normally distributed, so all values are above 0 (with a step, 0 is one too).
        step: the number drawn is rounded to a multiple of it; half a step to the even one.

    Raises:
        SpaceError: unless all are finite numbers, `deviation > 0` and `step > 0`.

    A code is the share of the distribution below the value; no code stands for what is further than 8
    deviations from the mean.

    Source: `normal`, `qnormal`, `lognormal` and `qlognormal` of NNI.
    """

    mean: float
    deviation: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "deviation", "step"):
            if name != "step" or self.step is not None:
                object.__setattr__(self, name, _checked_number("Normal", name, getattr(self, name)))
        if not isinstance(self.log, bool):
            raise SpaceError(f"`log` of Normal must be True or False, but got {self.log!r}.")
        if self.deviation <= 0 or (self.step is not None and self.step <= 0):
            raise SpaceError(
                "`deviation > 0` and `step > 0` must hold for Normal, but got "
                f"(deviation={self.deviation}, step={self.step})."
            )
        if self.log and abs(self.mean) + 40 * self.deviation > 700:
            raise SpaceError(
                "`mean` and `deviation` of Normal with log=True are those of the logarithm, but with "
                f"(mean={self.mean}, deviation={self.deviation}) its values would be beyond floating point."
            )

    @property
    def size(self) -> float:
        return math.inf

    @property
    def default(self) -> float:
        """The median."""
        return self._rounded(math.exp(self.mean) if self.log else self.mean)

    @property
    def width(self) -> int:
        return 1

    def at(self, index: int) -> float:
        raise SpaceError(f"{self} has no ends: its values cannot be listed.")

    def index(self, value: Any) -> int:
        raise SpaceError(f"{self} has no ends: its values cannot be numbered.")

    def why_not(self, value: Any) -> str | None:
        plain = plain_value(value)
        if not is_real(plain):
            return f"{value!r} is not a finite number."
        if self.log and plain <= 0 and not (self.step is not None and plain == 0):
            return f"{value!r} is not a number above 0."
        if self.step is not None and abs(plain - self._rounded(plain)) > GRID_TOLERANCE * self.step:
            return f"{value!r} is not a multiple of {self.step:g}."
        return None

    def sample(self, rng: np.random.Generator) -> float:
        """A random number, rounded if there is a step."""
        drawn = float(rng.normal(self.mean, self.deviation))
        return self._rounded(math.exp(drawn) if self.log else drawn)

    def other(self, value: Any, rng: np.random.Generator) -> float:
        """A random number other than `value`; a multiple next to it where nearly all draws round to it."""
        value = self.normalise(value)
        for _ in range(_PATIENCE):
            if (drawn := self.sample(rng)) != value:
                return drawn
        assert self.step is not None
        ahead = rng.random() < 0.5 or (self.log and value == 0)
        return self._rounded(value + self.step if ahead else value - self.step)

    def normalise(self, value: Any) -> float:
        return self._rounded(float(plain_value(self._checked(value))))

    def key(self, value: Any) -> Hashable:
        return self._rounded(float(value))

    def encode(self, value: Any) -> np.ndarray:
        """The share of the distribution below the value."""
        number = self.normalise(value)
        if self.log:
            number = math.log(number) if number > 0 else -math.inf
        return np.array([_STANDARD.cdf((number - self.mean) / self.deviation)])

    def decode(self, code: np.ndarray) -> float:
        share = min(max(float(code[0]), _STANDARD.cdf(-_FAR)), 1 - 2.0**-53)
        number = self.mean + self.deviation * min(_STANDARD.inv_cdf(share), _FAR)
        return self._rounded(math.exp(number) if self.log else number)

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "normal",
            "mean": self.mean,
            "deviation": self.deviation,
            "log": self.log,
            "step": self.step,
        }

    def _rounded(self, value: float) -> float:
        return value if self.step is None else _multiple(round(value / self.step), self.step)


def _multiple(count: int, step: float) -> float:
    """`count * step` as written in decimals."""
    return float(count * Fraction(repr(step)))


def _checked_number(kind: str, name: str, value: Any) -> float:
    plain = plain_value(value)
    if not is_real(plain):
        raise SpaceError(f"`{name}` of {kind} must be a finite number, but got {plain!r}.")
    return float(plain)
