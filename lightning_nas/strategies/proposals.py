"""Proposals: what a strategy would ask for, first choice first, for wrappers to choose from.

A wrapper that asked its strategy again and again would read the history each time, and two wrappers
would multiply their patience. So the strategies here have, besides `ask`, a method `propose` with the
same arguments that returns `Proposals`; `ask` is its first item. Strategies with `ask` alone work too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from lightning_nas.space import Sample, SearchSpace
from lightning_nas.strategies.strategy import Strategy
from lightning_nas.trial import Trial

ENUMERABLE = 100_000
"""Spaces of at most this many samples are listed where drawing finds nothing; 100,000 take a second."""

PATIENCE = 500
"""How many repeats in a row end a strategy's own draws, as in NNI."""


class Proposals(Protocol):
    """Samples, first choice first; possibly without end."""

    def __iter__(self) -> Iterator[Sample]: ...

    def __next__(self) -> Sample: ...

    def give_up(self) -> None:
        """Says that the draws so far lead nowhere: from now on comes what is left, at random."""


class Draws:
    """The proposals of a strategy.

    Args:
        draws: what it would ask for; when this ends by itself, so do the proposals.
        rest: what comes instead after `give_up`.
    """

    def __init__(self, draws: Iterable[Sample], rest: Iterable[Sample] = ()) -> None:
        self._samples = iter(draws)
        self._rest: Iterable[Sample] | None = rest

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        return next(self._samples)

    def give_up(self) -> None:
        """Goes over to the rest; a second call changes nothing."""
        if self._rest is not None:
            self._samples, self._rest = iter(self._rest), None


class Accepted:
    """The proposals that a wrapper accepts; it gives up on the draws after refusing too many in a row.

    Args:
        proposals: to choose from.
        accept: says which to keep.
        patience: how many may be refused in a row.
    """

    def __init__(self, proposals: Proposals, accept: Callable[[Sample], bool], patience: int) -> None:
        self._proposals = proposals
        self._accept = accept
        self._patience = patience

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        for refused, sample in enumerate(self._proposals, start=1):
            if self._accept(sample):
                return sample
            if refused == self._patience:
                self.give_up()
        raise StopIteration

    def give_up(self) -> None:
        """Goes over to the rest of what it chooses from."""
        self._proposals.give_up()


class Preceded:
    """A sample, then other proposals."""

    def __init__(self, first: Sample, proposals: Proposals) -> None:
        self._first: Sample | None = first
        self._proposals = proposals

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return next(self._proposals)

    def give_up(self) -> None:
        """Goes over to the rest of the proposals that follow."""
        self._proposals.give_up()


def proposals_of(
    strategy: Strategy, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator
) -> Proposals:
    """What `strategy` proposes; one with `ask` alone is asked again, with the advanced generator."""
    if hasattr(strategy, "propose"):
        proposals: Proposals = strategy.propose(space, trials, rng)
        return proposals
    return Draws(_asked(strategy, space, trials, rng), leftover(space, rng))


def leftover(space: SearchSpace, rng: np.random.Generator) -> Iterator[Sample]:
    """What is left of a space when a strategy's own draws lead nowhere.

    All samples once in random order, if there are at most `ENUMERABLE`, so that the first one accepted
    is uniform among the acceptable; `PATIENCE` random samples if there are more; nothing if there are
    infinitely many.
    """
    if space.size <= ENUMERABLE:
        samples = _all_samples(space)
        for index in rng.permutation(len(samples)):
            yield dict(samples[index])
    elif space.is_finite:
        for _ in range(PATIENCE):
            yield space.sample(rng)


def _asked(
    strategy: Strategy, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator
) -> Iterator[Sample]:
    while (sample := strategy.ask(space, trials, rng)) is not None:
        yield sample


@lru_cache(maxsize=1)
def _all_samples(space: SearchSpace) -> tuple[Sample, ...]:
    return tuple(space.enumerate())
