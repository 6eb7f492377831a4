"""The tree-structured Parzen estimator, by Optuna."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_nas.space import Categorical, Domain, Sample, SearchSpace, Subset
from lightning_nas.strategies.evolution import mutated
from lightning_nas.strategies.history import Seen
from lightning_nas.strategies.proposals import PATIENCE, Accepted, Draws, Proposals, leftover
from lightning_nas.strategies.random_search import random_samples
from lightning_nas.strategies.strategy import check_seed
from lightning_nas.trial import Trial

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution


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
    _model: _Model = field(default_factory=lambda: _Model(), init=False, repr=False, compare=False)

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
            yield self._model.draw(space, trials, self.candidates, rng)

    def _drawn_and_mutated(
        self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator
    ) -> Iterator[Sample]:
        # Drawing again would mostly repeat the repeat, at the price of another fit.
        sample = next(self._drawn(space, trials, rng))
        while True:
            yield sample
            sample = mutated(space, sample, rng)


class _Model:
    """An Optuna study with the trials so far: a memo, fed with what is new.

    Optuna numbers its trials itself; `_numbers[i]` is its number of `trials[i]`. A trial without a score
    is a running one there. Each draw leaves a failed trial, which its sampler ignores.
    """

    def __init__(self) -> None:
        self._space: SearchSpace | None = None
        self._study: optuna.Study | None = None
        self._trials: list[Trial] = []
        self._numbers: list[int] = []
        self._count = 0
        self._coders: dict[str, _Coder] = {}

    def draw(
        self, space: SearchSpace, trials: Sequence[Trial], candidates: int, rng: np.random.Generator
    ) -> Sample:
        """A sample where good trials are dense and bad ones are not."""
        from optuna.trial import TrialState

        study = self._updated(space, trials)
        sampler = _sampler(candidates, seed=int(rng.integers(2**32)))
        number = self._add(study)
        drawing = study.get_trials(deepcopy=False)[number]
        sample: Sample = {}
        while missing := [label for label in space.active(sample) if label not in sample]:
            # Labels of one condition are active together, so they have a density together.
            first = space.conditions.get(missing[0])
            group = [label for label in missing if space.conditions.get(label) == first]
            distributions = {n: d for label in group for n, d in self._coders[label].distributions.items()}
            params = sampler.sample_relative(study, drawing, distributions) if distributions else {}
            sample.update({label: self._coders[label].decode(params, rng) for label in group})
        study.tell(number, state=TrialState.FAIL)
        return {label: sample[label] for label in space if label in sample}

    def _updated(self, space: SearchSpace, trials: Sequence[Trial]) -> optuna.Study:
        """The study, with all of `trials` and no others."""
        study = self._study
        if study is None or not self._is_continued_by(space, trials):
            study = self._study = _silent_study()
            self._space, self._trials, self._numbers, self._count = space, [], [], 0
            # Named by their numbers, as the members of a Subset need names of their own.
            self._coders = {label: _Coder(str(i), space[label]) for i, label in enumerate(space)}
        for i, trial in enumerate(trials):
            if i == len(self._trials):
                self._numbers.append(self._add(study, trial))
                self._trials.append(trial)
            elif trial is not self._trials[i]:
                if self._trials[i].score is None and trial.score is not None:
                    study.tell(self._numbers[i], trial.score)
                self._trials[i] = trial
        return study

    def _add(self, study: optuna.Study, trial: Trial | None = None) -> int:
        """Adds `trial`, or a running one without parameters; returns Optuna's number of it."""
        from optuna.trial import TrialState, create_trial

        params: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        score = None if trial is None else trial.score
        for label, value in ({} if trial is None else trial.sample).items():
            params |= self._coders[label].encode(value)
            distributions |= self._coders[label].distributions
        state = TrialState.RUNNING if score is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=score, params=params, distributions=distributions))
        self._count += 1
        return self._count - 1

    def _is_continued_by(self, space: SearchSpace, trials: Sequence[Trial]) -> bool:
        """Whether these are the trials it knows, perhaps with more scores, and perhaps new ones."""
        return (
            (space is self._space or space == self._space)
            and len(self._trials) <= len(trials)
            and all(
                known is trial
                or (known.score in (None, trial.score) and space.key(known.sample) == space.key(trial.sample))
                for known, trial in zip(self._trials, trials)
            )
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _Model, ()


class _Coder:
    """The values of one label as Optuna's parameters.

    A Categorical is an index, a Subset a yes or no for each value, a number its index or, if it is
    continuous or logarithmic, its position in [0, 1]: Optuna's densities are the same for these as for
    the values. A domain of one value needs no parameter.

    Args:
        name: of the parameter; the parameters of a Subset are `name.0`, `name.1`, ...
        domain: of the label.
    """

    def __init__(self, name: str, domain: Domain) -> None:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        self._name = name
        self._domain = domain
        self._is_indexed = domain.size != math.inf and not getattr(domain, "log", False)
        self.distributions: dict[str, BaseDistribution]
        if domain.size == 1:
            self.distributions = {}
        elif isinstance(domain, Subset):
            self.distributions = {f"{name}.{i}": CategoricalDistribution((0, 1)) for i in range(domain.width)}
        elif isinstance(domain, Categorical):
            self.distributions = {name: CategoricalDistribution(range(domain.size))}
        elif self._is_indexed:
            self.distributions = {name: IntDistribution(0, int(domain.size) - 1)}
        else:
            self.distributions = {name: FloatDistribution(0.0, 1.0)}

    def encode(self, value: Any) -> dict[str, Any]:
        """`value` as parameters."""
        if isinstance(self._domain, Subset):
            return dict(zip(self.distributions, self._domain.encode(value).astype(int).tolist()))
        if self._is_indexed:
            return dict.fromkeys(self.distributions, self._domain.index(value))
        return dict.fromkeys(self.distributions, float(self._domain.encode(value)[0]))

    def decode(self, params: Mapping[str, Any], rng: np.random.Generator) -> Any:
        """The value that parameters stand for; a Subset of a wrong size gains or loses members at random."""
        if self._domain.size == 1:
            return self._domain.at(0)
        if isinstance(self._domain, Subset):
            bits = np.array([params[name] for name in self.distributions])
            return self._domain.decode(0.6 * bits + 0.4 * rng.random(len(bits)))
        if self._is_indexed:
            return self._domain.at(params[self._name])
        return self._domain.decode(np.array([params[self._name]]))


def _silent_study() -> optuna.Study:
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    finally:
        optuna.logging.set_verbosity(verbosity)


def _sampler(candidates: int, seed: int) -> optuna.samplers.TPESampler:
    import optuna

    with warnings.catch_warnings():
        # Optuna 4 calls these two options experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=0, n_ei_candidates=candidates, seed=seed, multivariate=True, constant_liar=True
        )
