"""Local search with restarts."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from lightning_nas.space import Sample, SearchSpace
from lightning_nas.strategies.history import PerTrial, Seen, score_of
from lightning_nas.strategies.moves import steps
from lightning_nas.strategies.promise import features, promise
from lightning_nas.strategies.proposals import PATIENCE, Accepted, Draws, Proposals, leftover
from lightning_nas.strategies.random_search import random_samples
from lightning_nas.strategies.strategy import check_seed
from lightning_nas.trial import Trial


@dataclass(frozen=True)
class LocalSearch:
    """Climbs from the best of a few random samples, one label at a time, and starts anew at the top.

    A climb tries the unseen samples one step from its best (see `moves.steps`) and goes on from the
    first that is better. It ends when `patience` trials in a row were no better, or no step is left
    untried; then the next climb begins with random samples. A linear model of the trials says which
    step to try first. No sample is asked for twice.

    Args:
        initial: random samples at the start of each climb.
        patience: trials in a row without progress that end a climb; None tries every step. Steps that
            a wrapper refuses stay untried, so give a number under a wrapper.
        guided: try the most promising steps first; in random order if False.
        seed: replaces the experiment's.

    Raises:
        ValueError: unless `initial >= 1` and `patience >= 1`.

    Source: White, Nolen and Savani, "Exploring the Loss Landscape in Neural Architecture Search", UAI
    2021, Algorithm 1 with "query until lower" (arXiv:2005.02960). That is `LocalSearch(initial=1,
    patience=None, guided=False)`. `initial` and `patience` of the default were chosen on
    NAS-Bench-201; see `benchmarks/nasbench201/README.md`.
    """

    initial: int = 10
    patience: int | None = 12
    guided: bool = True
    seed: int | None = None
    _memo: _Memo = field(default_factory=lambda: _Memo(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.initial < 1 or (self.patience is not None and self.patience < 1):
            raise ValueError(
                "`initial >= 1` and `patience >= 1` must hold, but got "
                f"(initial={self.initial}, patience={self.patience})."
            )

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """The next step of the climb, or None if all samples have been tried."""
        return next(self.propose(space, trials, rng), None)

    def propose(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Proposals:
        """The steps of the climb in the order of their promise, then random samples (see `proposals`)."""
        unseen = self._memo.seen.unseen(space, trials)
        draws = Draws(self._draws(space, trials, unseen, rng), leftover(space, rng))
        return Accepted(draws, unseen, PATIENCE)

    def _draws(
        self,
        space: SearchSpace,
        trials: Sequence[Trial],
        unseen: Callable[[Sample], bool],
        rng: np.random.Generator,
    ) -> Iterator[Sample]:
        best = self._best_of_climb(space, trials)
        if best is not None:
            options = [sample for sample in steps(space, best.sample) if unseen(sample)]
            order = rng.permutation(len(options))
            if self.guided and options:
                rows = zip(self._memo.features(space, trials), trials)
                over = [(row, _score_or_worst(trial)) for row, trial in rows if _is_over(trial)]
                hopes = promise(
                    np.array([row for row, _ in over]),
                    np.array([score for _, score in over]),
                    np.array([features(space, sample) for sample in options]),
                )
                order = order[np.argsort(-hopes[order], kind="stable")]
            yield from (options[i] for i in order)
        yield from random_samples(space, rng)

    def _best_of_climb(self, space: SearchSpace, trials: Sequence[Trial]) -> Trial | None:
        """The best trial of the climb under way; None while its first samples are being drawn."""
        keys = self._memo.keys(space, trials)
        seen: set[Hashable] = set()
        start, misses = 0, 0
        best: Trial | None = None
        untried: set[Hashable] | None = None  # steps from `best`, once they are needed
        for i, trial in enumerate(trials):
            seen.add(keys[i])
            if untried is not None:
                untried.discard(keys[i])
            is_climbing = i - start >= self.initial
            if trial.score is not None and (best is None or trial.score > score_of(best)):
                best, misses, untried = trial, 0, None
            elif is_climbing and _is_over(trial):
                misses += 1
            if best is None or i + 1 - start < self.initial:
                continue
            if untried is None:
                untried = set(self._memo.steps(space, best.sample)) - seen
            if not untried or misses == self.patience:
                start, misses, best, untried = i + 1, 0, None, None
        return best if len(trials) - start >= self.initial else None


def _is_over(trial: Trial) -> bool:
    return trial.score is not None or trial.status.is_final


def _score_or_worst(trial: Trial) -> float:
    return -math.inf if trial.score is None else trial.score


class _Memo:
    """What is worked out once per trial, and once per sample that was the best of a climb."""

    def __init__(self) -> None:
        self.seen = Seen()
        self.keys: PerTrial[Hashable] = PerTrial(SearchSpace.key)
        self.features: PerTrial[np.ndarray] = PerTrial(features)
        self._space: SearchSpace | None = None
        self._steps: dict[Hashable, frozenset[Hashable]] = {}

    def steps(self, space: SearchSpace, sample: Sample) -> frozenset[Hashable]:
        """The keys of the samples one step from `sample`."""
        if space is not self._space:
            self._space, self._steps = space, {}
        key = space.key(sample)
        if key not in self._steps:
            self._steps[key] = frozenset(map(space.key, steps(space, sample)))
        return self._steps[key]

    def __reduce__(self) -> tuple[object, ...]:
        return _Memo, ()
