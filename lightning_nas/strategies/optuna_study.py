"""The trials so far as a study of Optuna's, for the strategies whose mathematics is Optuna's."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_nas.space import Categorical, Domain, SearchSpace, Subset
from lightning_nas.trial import Trial

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


class StudyMemo:
    """An Optuna study with the trials so far: a memo, fed with what is new.

    Optuna numbers its trials itself; `_numbers[i]` is its number of `trials[i]`. A trial without a score
    is a running one there. Each draw leaves a failed trial, which its samplers ignore.

    Args:
        is_complete: whether labels that are not active are there too, with the default of their domain, for
            models that need all labels of all trials.
    """

    def __init__(self, is_complete: bool = False) -> None:
        self._is_complete = is_complete
        self._space: SearchSpace | None = None
        self._study: optuna.Study | None = None
        self._trials: list[Trial] = []
        self._numbers: list[int] = []
        self._count = 0
        self.coders: dict[str, Coder] = {}
        """Of each label of the space that `study` was called with last."""

    @contextlib.contextmanager
    def drawing(self, study: optuna.Study) -> Iterator[FrozenTrial]:
        """A trial of Optuna's to draw for, which fails when the block is left."""
        from optuna.trial import TrialState

        number = self._add(study)
        try:
            yield study.get_trials(deepcopy=False)[number]
        finally:
            study.tell(number, state=TrialState.FAIL)

    def study(self, space: SearchSpace, trials: Sequence[Trial]) -> optuna.Study:
        """The study, with all of `trials` and no others."""
        study = self._study
        if study is None or not self._is_continued_by(space, trials):
            study = self._study = _empty_study()
            self._space, self._trials, self._numbers, self._count = space, [], [], 0
            # Named by their numbers, as the members of a Subset need names of their own.
            self.coders = {label: Coder(str(i), space[label]) for i, label in enumerate(space)}
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
        for label, value in self._values(trial):
            params |= self.coders[label].encode(value)
            distributions |= self.coders[label].distributions
        state = TrialState.RUNNING if score is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=score, params=params, distributions=distributions))
        self._count += 1
        return self._count - 1

    def _values(self, trial: Trial | None) -> Iterable[tuple[str, Any]]:
        """The labels and values that Optuna is to know of a trial."""
        if trial is None:
            return ()
        if not self._is_complete or self._space is None:
            return trial.sample.items()
        return {**{label: domain.default for label, domain in self._space.items()}, **trial.sample}.items()

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
        return StudyMemo, (self._is_complete,)


class Coder:
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


def _empty_study() -> optuna.Study:
    import optuna

    with silence():
        return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Within the block Optuna says nothing but errors; afterwards it is as the user had it."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
