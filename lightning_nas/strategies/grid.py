"""Grid search."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from lightning_nas.space import Categorical, Domain, Normal, Sample, SearchSpace
from lightning_nas.strategies.history import Seen
from lightning_nas.strategies.proposals import Draws, Proposals
from lightning_nas.strategies.strategy import check_seed
from lightning_nas.trial import Trial


@dataclass(frozen=True)
class GridSearch:
    """Every sample once, in lexicographic order; continuous labels at evenly spaced points.

    The last label in the order of the space changes fastest. So a search that ends early has tried few
    values of the first labels: `Random()` visits the same samples in random order.

    Args:
        points: values per continuous label, both ends among them, even in the logarithm where the
            domain is logarithmic; of a `Normal`, the medians of so many equally likely parts.
        seed: nothing is drawn; it is there as every strategy has one.

    Raises:
        ValueError: unless `points >= 2`.
    """

    points: int = 5
    seed: int | None = None
    _cursor: _Cursor = field(default_factory=lambda: _Cursor(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.points < 2:
            raise ValueError(f"`points >= 2` must hold, but got {self.points}.")

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """The first sample of the grid that no trial has had, or None."""
        return next(self.propose(space, trials, rng), None)

    def propose(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Proposals:
        """All samples of the grid that no trial has had, in order (see `proposals`)."""
        return Draws(self._cursor.unseen(space, trials, lambda: on_grid(space, self.points).enumerate()))


def on_grid(space: SearchSpace, points: int) -> SearchSpace:
    """`space` with `points` values in place of each continuous domain."""

    def listed(domain: Domain) -> Domain:
        if domain.size != math.inf:
            return domain
        if isinstance(domain, Normal):
            positions = (np.arange(points) + 0.5) / points  # it has no ends
        else:
            positions = np.linspace(0.0, 1.0, points)
        return Categorical(list(dict.fromkeys(domain.decode(np.array([p])) for p in positions)))

    return SearchSpace({label: listed(domain) for label, domain in space.items()}, space.conditions)


class _Cursor:
    """How far the trials have come in a grid: a memo, rebuilt if the history is not the one it knows."""

    def __init__(self) -> None:
        self._seen = Seen()
        self._keys: set[Hashable] | None = None
        self._rest: Iterator[Sample] = iter(())
        self._pending: deque[Sample] = deque()

    def unseen(
        self, space: SearchSpace, trials: Sequence[Trial], grid: Callable[[], Iterator[Sample]]
    ) -> Iterator[Sample]:
        keys = self._seen.keys(space, trials)
        if keys is not self._keys:
            self._keys, self._rest, self._pending = keys, grid(), deque()
        while self._pending and space.key(self._pending[0]) in keys:
            self._pending.popleft()
        return self._walk(space, keys)

    def _walk(self, space: SearchSpace, keys: set[Hashable]) -> Iterator[Sample]:
        yield from map(dict, filter(lambda sample: space.key(sample) not in keys, tuple(self._pending)))
        for sample in self._rest:
            if space.key(sample) not in keys:
                self._pending.append(sample)
                yield dict(sample)

    def __reduce__(self) -> tuple[object, ...]:
        return _Cursor, ()
