"""The tree-structured Parzen estimator, by Optuna."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lightning_nas.space import Sample, SearchSpace
from lightning_nas.strategies.evolution import mutated
from lightning_nas.strategies.history import Seen
from lightning_nas.strategies.optuna_study import StudyMemo
from lightning_nas.strategies.proposals import PATIENCE, Accepted, Draws, Proposals, leftover
from lightning_nas.strategies.random_search import random_samples
from lightning_nas.strategies.strategy import check_seed
from lightning_nas.trial import Trial

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class TPE:
    """Models the good and the bad trials each by a density and draws where their ratio is highest.

    The density is over all labels together. Where labels have conditions, there is one for the labels of
    each condition, which learns from the trials that had them. Running and failed trials count among
    the bad ones, so that parallel workers spread and the search leaves a region where trials fail.

    Args:
        startup_trials: random samples until so many trials have a score.
        candidates: draws from the good density, among which the best ratio wins.
        dedup: no sample twice: a repeat is mutated, one label after the other, until it is new; the
            search ends when all samples have been tried.
        seed: replaces the experiment's.

    Raises:
        ValueError: unless `startup_trials >= 1` and `candidates >= 1`.

    Source: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011, section 4, by
    Optuna's `TPESampler(multivariate=True, constant_liar=True)`. Unlike there, the first samples follow
    the priors, failed trials count, and the groups of labels are read off the space instead of found
    from the trials (`group=True` there).
    """

    startup_trials: int = 10
    candidates: int = 24
    dedup: bool = True
    seed: int | None = None
    _seen: Seen = field(default_factory=Seen, init=False, repr=False, compare=False)
    _memo: StudyMemo = field(default_factory=StudyMemo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.startup_trials < 1 or self.candidates < 1:
            raise ValueError(
                "`startup_trials >= 1` and `candidates >= 1` must hold, but got "
                f"(startup_trials={self.startup_trials}, candidates={self.candidates})."
            )

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """The sample with the best ratio, or None if all samples have been tried."""
        return next(self.propose(space, trials, rng), None)

    def propose(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Proposals:
        """The sample with the best ratio, then mutations of it without end (see `proposals`)."""
        if sum(trial.score is not None for trial in trials) < self.startup_trials:
            samples = random_samples(space, rng)
        elif self.dedup:
            samples = self._drawn_and_mutated(space, trials, rng)
        else:
            samples = self._drawn(space, trials, rng)
        draws = Draws(samples, leftover(space, rng))
        return Accepted(draws, self._seen.unseen(space, trials), PATIENCE) if self.dedup else draws

    def _drawn(
        self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator
    ) -> Iterator[Sample]:
        while True:
            yield _draw(self._memo, space, trials, self.candidates, rng)

    def _drawn_and_mutated(
        self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator
    ) -> Iterator[Sample]:
        # Drawing again would mostly repeat the repeat, at the price of another fit.
        sample = next(self._drawn(space, trials, rng))
        while True:
            yield sample
            sample = mutated(space, sample, rng)


def _draw(
    memo: StudyMemo, space: SearchSpace, trials: Sequence[Trial], candidates: int, rng: np.random.Generator
) -> Sample:
    """A sample where good trials are dense and bad ones are not."""
    study, coders = memo.study(space, trials), memo.coders
    sampler = _sampler(candidates, seed=int(rng.integers(2**32)))
    sample: Sample = {}
    with memo.drawing(study) as drawing:
        while missing := [label for label in space.active(sample) if label not in sample]:
            # Labels of one condition are active together, so they have a density together.
            first = space.conditions.get(missing[0])
            group = [label for label in missing if space.conditions.get(label) == first]
            distributions = {n: d for label in group for n, d in coders[label].distributions.items()}
            params = sampler.sample_relative(study, drawing, distributions) if distributions else {}
            sample.update({label: coders[label].decode(params, rng) for label in group})
    return {label: sample[label] for label in space if label in sample}


def _sampler(candidates: int, seed: int) -> optuna.samplers.TPESampler:
    import optuna

    with warnings.catch_warnings():
        # Optuna 4 calls these two options experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=0, n_ei_candidates=candidates, seed=seed, multivariate=True, constant_liar=True
        )
