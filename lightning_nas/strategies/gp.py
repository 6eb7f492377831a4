"""Bayesian optimisation with a Gaussian process, by Optuna."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lightning_nas.space import Sample, SearchSpace
from lightning_nas.strategies.evolution import mutated
from lightning_nas.strategies.history import Seen
from lightning_nas.strategies.optuna_study import StudyMemo, silence
from lightning_nas.strategies.proposals import PATIENCE, Accepted, Draws, Proposals, leftover
from lightning_nas.strategies.random_search import random_samples
from lightning_nas.strategies.strategy import check_package, check_seed
from lightning_nas.trial import Trial

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class GP:
    """Fits a Gaussian process to the trials and draws where it expects the greatest improvement.

    For few and costly trials: a fit takes time in the cube of their number. A label that is not active counts
    as at its default. Running and failed trials are expected to come out as the process thinks, so that
    parallel workers spread (with Optuna 5; earlier ones pass over them). It needs SciPy, which
    `pip install "lightning-nas[samplers]"` brings.

    Args:
        startup_trials: random samples until so many trials have a score.
        dedup: no sample twice: a repeat is mutated, one label after the other, until it is new; the
            search ends when all samples have been tried.
        seed: replaces the experiment's.

    Raises:
        ValueError: unless `startup_trials >= 1`.
        ImportError: without SciPy.

    Source: Snoek et al., "Practical Bayesian Optimization of Machine Learning Algorithms", NeurIPS 2012, by
    Optuna's `GPSampler`: a Matern kernel of 5/2 with a length for each label and the logarithm of the expected
    improvement. Unlike there, the first samples follow the priors, and labels that have conditions are modelled.
    """

    startup_trials: int = 10
    dedup: bool = True
    seed: int | None = None
    _seen: Seen = field(default_factory=Seen, init=False, repr=False, compare=False)
    _memo: StudyMemo = field(
        default_factory=lambda: StudyMemo(is_complete=True), init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.startup_trials < 1:
            raise ValueError(f"`startup_trials >= 1` must hold, but got {self.startup_trials!r}.")
        check_package("GP", "scipy")

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """The sample that promises most, or None if all samples have been tried."""
        return next(self.propose(space, trials, rng), None)

    def propose(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Proposals:
        """The sample that promises most, then mutations of it without end (see `proposals`)."""
        if sum(trial.score is not None for trial in trials) < self.startup_trials:
            samples = random_samples(space, rng)
        else:
            samples = self._drawn_and_mutated(space, trials, rng)
        draws = Draws(samples, leftover(space, rng))
        return Accepted(draws, self._seen.unseen(space, trials), PATIENCE) if self.dedup else draws

    def _drawn_and_mutated(
        self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator
    ) -> Iterator[Sample]:
        sample = _draw(self._memo, space, trials, rng)
        while True:
            yield sample
            sample = mutated(space, sample, rng)


def _draw(memo: StudyMemo, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample:
    """The sample with the greatest expected improvement."""
    study, coders = memo.study(space, trials), memo.coders
    sampler = _sampler(seed=int(rng.integers(2**32)))
    distributions = {name: each for coder in coders.values() for name, each in coder.distributions.items()}
    # It would ask for a package that makes it faster, and tell of trials whose score is -inf.
    with silence(), warnings.catch_warnings(), memo.drawing(study) as drawing:
        warnings.filterwarnings("ignore", "Clip non-finite values")
        params = sampler.sample_relative(study, drawing, distributions)
    values = {label: coder.decode(params, rng) for label, coder in coders.items()}
    return space.complete(values)


def _sampler(seed: int) -> optuna.samplers.GPSampler:
    """A fresh one for each draw: it would begin its fit where its last one ended, so that its past would count."""
    import optuna

    with warnings.catch_warnings():
        # Optuna 4 calls it experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=0)
