"""CMA-ES, by the package cmaes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lightning_nas.space import Categorical, Sample, SearchSpace, Subset
from lightning_nas.strategies.history import Seen, score_of
from lightning_nas.strategies.proposals import PATIENCE, Accepted, Draws, Proposals, leftover
from lightning_nas.strategies.strategy import check_package, check_seed
from lightning_nas.trial import Trial

if TYPE_CHECKING:
    from cmaes import CMA


@dataclass(frozen=True)
class CMAES:
    """Draws from a normal distribution whose mean and covariance follow the better trials.

    For continuous labels and hundreds of trials. It moves the numbers of the space; Categorical and Subset labels
    are drawn from their priors, as with Optuna's `CmaEsSampler`: take TPE where these matter. A label that is not
    active in a trial leaves its mean where it was. Failed trials are passed over. It needs the package cmaes,
    which `pip install "lightning-nas[samplers]"` brings.

    Args:
        population_size: trials with a score that make one generation; None for `4 + floor(3 * ln(n))` with n
            numbers. Parallel trials of one generation cost nothing, more than that wait for no one either.
        sigma: the standard deviation at first, where 1 is the way from one end of a label to the other.
        dedup: no sample twice; the search ends when all samples have been tried.
        seed: replaces the experiment's.

    Raises:
        ValueError: unless `population_size` is None or at least 4, and `sigma > 0`.
        ImportError: without the package cmaes.

    Source: Hansen, "The CMA Evolution Strategy: A Tutorial" (arXiv:1604.00772). Unlike there, a generation is made
    of the next trials that have a score, in the order of their numbers, whichever generation they were drawn in: so
    the distribution is a function of the history.
    """

    population_size: int | None = None
    sigma: float = 1 / 6
    dedup: bool = True
    seed: int | None = None
    _seen: Seen = field(default_factory=Seen, init=False, repr=False, compare=False)
    _memo: _Memo = field(default_factory=lambda: _Memo(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.population_size is not None and self.population_size < 4:
            raise ValueError(f"`population_size >= 4` must hold, but got {self.population_size!r}.")
        if not self.sigma > 0:
            raise ValueError(f"`sigma > 0` must hold, but got {self.sigma!r}.")
        check_package("CMAES", "cmaes")

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """A draw, or None if all samples have been tried."""
        return next(self.propose(space, trials, rng), None)

    def propose(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Proposals:
        """Draws without end (see `proposals`)."""
        draws = Draws(self._drawn(space, trials, rng), leftover(space, rng))
        return Accepted(draws, self._seen.unseen(space, trials), PATIENCE) if self.dedup else draws

    def _drawn(
        self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator
    ) -> Iterator[Sample]:
        numbers = [label for label, domain in space.items() if _is_number(domain)]
        if not numbers:
            while True:
                yield space.sample(rng)
        cma = self._memo.told(space, numbers, trials, self.population_size, self.sigma)
        while True:
            cma.reseed_rng(int(rng.integers(2**32)))
            values = {label: space[label].decode(x) for label, x in zip(numbers, cma.ask()[:, None])}
            yield space.complete(values, rng)


def _is_number(domain: object) -> bool:
    return not isinstance(domain, (Categorical, Subset)) and getattr(domain, "size", 1) > 1


class _Memo:
    """The distribution after the trials so far: a memo, told of whole generations."""

    def __init__(self) -> None:
        self._cma: CMA | None = None
        self._space: SearchSpace | None = None
        self._told: list[Trial] = []

    def told(
        self,
        space: SearchSpace,
        numbers: Sequence[str],
        trials: Sequence[Trial],
        population_size: int | None,
        sigma: float,
    ) -> CMA:
        """The distribution over the codes of `numbers`, each in [0, 1]."""
        scored = [trial for trial in trials if trial.score is not None]
        cma = self._cma
        if cma is None or not self._is_continued_by(space, scored):
            cma = self._cma = _fresh(len(numbers), population_size, sigma)
            self._space, self._told = space, []
        size = cma.population_size
        while len(scored) >= len(self._told) + size:
            generation = scored[len(self._told) : len(self._told) + size]
            cma.tell([(_code(space, numbers, trial, cma.mean), -score_of(trial)) for trial in generation])
            self._told += generation
        return cma

    def _is_continued_by(self, space: SearchSpace, scored: Sequence[Trial]) -> bool:
        return (
            (space is self._space or space == self._space)
            and len(self._told) <= len(scored)
            and all(
                known is trial
                or (known.score == trial.score and space.key(known.sample) == space.key(trial.sample))
                for known, trial in zip(self._told, scored)
            )
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _Memo, ()


def _fresh(count: int, population_size: int | None, sigma: float) -> CMA:
    from cmaes import CMA

    bounds = np.tile([0.0, 1.0], (count, 1))
    return CMA(np.full(count, 0.5), sigma, bounds=bounds, population_size=population_size, seed=0)


def _code(space: SearchSpace, numbers: Sequence[str], trial: Trial, mean: np.ndarray) -> np.ndarray:
    """The numbers of a trial, each in [0, 1]; shape (n,). Those that are not active are at the mean."""
    pairs = zip(numbers, mean)
    sample = trial.sample
    return np.array([float(space[n].encode(sample[n])[0]) if n in sample else float(m) for n, m in pairs])
