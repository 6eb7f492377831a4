"""Wrappers: strategies that choose among what another strategy proposes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lightning_nas.errors import SampleError
from lightning_nas.space import Sample, SearchSpace
from lightning_nas.strategies.history import Seen
from lightning_nas.strategies.proposals import PATIENCE, Accepted, Draws, Preceded, Proposals, proposals_of
from lightning_nas.strategies.strategy import Strategy
from lightning_nas.trial import Trial


@dataclass(frozen=True)
class Dedup:
    """Asks for no sample twice, counting running and failed trials too.

    After 500 repeats in a row it draws among the unseen samples: uniformly if the space has at most
    100,000, by up to 500 random samples if it has more. If nothing is found, or the space is
    continuous, the search ends.

    Args:
        strategy: proposes samples.
        key: two samples count as the same if `key(sample)` is equal for both; it returns something
            hashable. By default samples are the same only if they are equal. "graph" stands for the
            graph of the model, up to isomorphism; `Experiment` turns it into `net.graph_key`.

    Raises:
        ValueError: if `key` is none of these.

    >>> from lightning_nas.space import Categorical, SearchSpace
    >>> from lightning_nas.strategies import Random
    >>> by_width = Dedup(Random(), key=lambda sample: sample["width"] // 100)
    >>> by_width.ask(SearchSpace({"width": Categorical([64, 96])}), [Trial(0, {"width": 64})],
    ...              np.random.default_rng(0)) is None
    True
    """

    strategy: Strategy
    key: Callable[[Sample], Hashable] | Literal["graph"] | None = None
    _seen: Seen = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (self.key is None or self.key == "graph" or callable(self.key)):
            raise ValueError(f"`key` must be a function of a sample, 'graph' or None, but got {self.key!r}.")
        object.__setattr__(self, "_seen", Seen(self.key if callable(self.key) else None))

    @property
    def seed(self) -> int | None:
        """The seed of the strategy inside."""
        return _seed_of(self.strategy)

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """The first sample the strategy proposes that no trial has had."""
        return next(self.propose(space, trials, rng), None)

    def propose(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Proposals:
        """What the strategy proposes, without repeats (see `proposals`).

        Raises:
            ValueError: if `key` is still "graph": there is no model here.
        """
        if self.key == "graph":
            raise ValueError(
                "Dedup(key='graph') works within an Experiment; elsewhere give key=net.graph_key."
            )
        return Accepted(
            proposals_of(self.strategy, space, trials, rng), self._seen.unseen(space, trials), PATIENCE
        )


@dataclass(frozen=True)
class Constrained:
    """Asks only for samples that obey a rule.

    After `patience` refusals in a row it draws among the samples that obey, as `Dedup` does among the
    unseen; if nothing is found, or the space is continuous, the search ends.

    Args:
        strategy: proposes samples.
        rule: `rule(sample)` is true for those that may be evaluated. It must depend on the sample alone.
        patience: proposals that may be refused in a row.

    Raises:
        ValueError: unless `patience >= 1`.
        TypeError: if `rule` cannot be called.
    """

    strategy: Strategy
    rule: Callable[[Sample], bool]
    patience: int = 1000

    def __post_init__(self) -> None:
        if not callable(self.rule):
            raise TypeError(f"`rule` must be a function of a sample, but got {self.rule!r}.")
        if self.patience < 1:
            raise ValueError(f"`patience >= 1` must hold, but got {self.patience}.")

    @property
    def seed(self) -> int | None:
        """The seed of the strategy inside."""
        return _seed_of(self.strategy)

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """The first sample the strategy proposes that obeys the rule."""
        return next(self.propose(space, trials, rng), None)

    def propose(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Proposals:
        """What the strategy proposes and the rule allows (see `proposals`)."""
        return Accepted(proposals_of(self.strategy, space, trials, rng), self.rule, self.patience)


@dataclass(frozen=True)
class Enqueue:
    """Asks for given samples first: trial number i gets `samples[i]`.

    Args:
        samples: of the space, in the order in which they shall be evaluated.
        then: the strategy that goes on; it sees the trials of these samples like all others. If None,
            the search ends with the last of `samples`.
    """

    samples: Sequence[Mapping[str, Any]]
    then: Strategy | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", tuple(map(dict, self.samples)))

    @property
    def seed(self) -> int | None:
        """The seed of the strategy that goes on."""
        return _seed_of(self.then)

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """The next of the given samples, later what the other strategy asks for."""
        return next(self.propose(space, trials, rng), None)

    def propose(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Proposals:
        """The next of the given samples, then what the other strategy proposes (see `proposals`).

        Raises:
            SampleError: if a sample that is still to come is none of the space.
        """
        coming = [self._check(space, number) for number in range(len(trials), len(self.samples))]
        following = Draws(()) if self.then is None else proposals_of(self.then, space, trials, rng)
        return Preceded(coming[0], following) if coming else following

    def _check(self, space: SearchSpace, number: int) -> Sample:
        try:
            return space.check(self.samples[number])
        except SampleError as error:
            raise SampleError(
                f"The enqueued sample number {number} does not fit the space. {error}"
            ) from None


def _seed_of(strategy: Strategy | None) -> int | None:
    seed: int | None = getattr(strategy, "seed", None)
    return seed
