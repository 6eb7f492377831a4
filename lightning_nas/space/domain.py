"""`Domain`: what all domains share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from lightning_nas.errors import SampleError, SpaceError
from lightning_nas.space.values import draw_below, value_key


class Domain(ABC):
    """The values one label may have. Frozen; equal by content, in type and value.

    A finite domain is a numbered list: `at(i)` is its i-th value, `index(value)` the number of
    one. Iterating lists all values in that order; `value in domain` asks `why_not`.
    """

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

    @property
    def has_tuples(self) -> bool:
        """Whether values hold tuples, which JSON gives back as lists: `normalise` what was read."""
        return False

    @abstractmethod
    def at(self, index: int) -> Any:
        """The value numbered `index`, from 0 to `size - 1`. Raises SpaceError if continuous."""

    @abstractmethod
    def index(self, value: Any) -> int:
        """The number of `value`.

        Raises:
            SampleError: if it is none of this domain.
            SpaceError: if the domain is continuous.
        """

    @abstractmethod
    def why_not(self, value: Any) -> str | None:
        """Why `value` is none of this domain, with what would be right; None if it is one."""

    @abstractmethod
    def encode(self, value: Any) -> np.ndarray:
        """`value` as numbers in [0, 1], shape (width,)."""

    @abstractmethod
    def decode(self, code: np.ndarray) -> Any:
        """The value whose code is nearest to `code`, shape (width,)."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What `domain_from_json` reads."""

    def sample(self, rng: np.random.Generator) -> Any:
        """A random value, uniform unless the domain says otherwise."""
        return self.at(draw_below(self._finite_size(), rng))

    def other(self, value: Any, rng: np.random.Generator) -> Any:
        """A random value other than `value`, uniformly among them.

        A continuous domain draws afresh, in its logarithm if it samples so.

        Raises:
            SampleError: if there is no other, or `value` is none of this domain.
        """
        if self.size == 1:
            raise SampleError(f"{self} has no value besides {value!r}.")
        if self.size == math.inf:
            value = self.normalise(value)
            while (drawn := self.sample(rng)) == value:
                pass
            return drawn
        index = draw_below(self._finite_size() - 1, rng)
        return self.at(index + (index >= self.index(value)))

    def normalise(self, value: Any) -> Any:
        """`value` as this domain writes it: numpy's scalars plain, lists where they belong.

        Raises:
            SampleError: if it is none of this domain.
        """
        return self.at(self.index(value))

    def key(self, value: Any) -> Hashable:
        """A hashable that is equal for equal values of this domain, however written; never None."""
        return value_key(value)

    def __iter__(self) -> Iterator[Any]:
        return map(self.at, range(self._finite_size()))

    def __contains__(self, value: object) -> bool:
        return self.why_not(value) is None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Domain) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    @cached_property
    def _content(self) -> Hashable:
        return tuple((name, value_key(field)) for name, field in self.to_json().items())

    def _finite_size(self) -> int:
        if self.size == math.inf:
            raise SpaceError(f"{self} is continuous: its values cannot be listed; give it a step.")
        return int(self.size)

    def _checked(self, value: Any) -> Any:
        reason = self.why_not(value)
        if reason is not None:
            raise SampleError(reason)
        return value
