"""What strategies work out once per trial and keep: memos of the history, never progress.

A memo may be thrown away at any time: it is rebuilt from the trials and says the same. It holds as long
as the trials it knows are still there, which takes one comparison of identity per trial (0.3 ms for
10,000). A driver that makes all its trials anew for each ask gets the same answers, but pays for each
trial every time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from operator import attrgetter, is_
from typing import Generic, TypeVar

from lightning_nas.space import Sample, SearchSpace
from lightning_nas.trial import Trial

T = TypeVar("T")

_sample_of = attrgetter("sample")


def score_of(trial: Trial) -> float:
    """The score of a trial that has one."""
    assert trial.score is not None
    return trial.score


class PerTrial(Generic[T]):
    """A value worked out from the sample of each trial, once.

    Args:
        compute: `compute(space, sample)`. It must depend on these alone.
    """

    def __init__(self, compute: Callable[[SearchSpace, Sample], T]) -> None:
        self._compute = compute
        self._space: SearchSpace | None = None
        self._samples: list[Sample] = []
        self._values: list[T] = []

    def __call__(self, space: SearchSpace, trials: Sequence[Trial]) -> list[T]:
        """One value per trial. The same list, grown, as long as the history only grew; not to be changed."""
        known = self._samples
        samples = list(map(_sample_of, trials))
        is_grown = len(known) <= len(samples) and all(map(is_, known, samples))
        if not (is_grown and (space is self._space or space == self._space)):
            self._space, self._samples, self._values = space, [], []
        # All at once, so that an error in the middle leaves nothing half done.
        self._values += [self._compute(space, sample) for sample in samples[len(self._values) :]]
        self._samples = samples
        return self._values

    def __reduce__(self) -> tuple[object, ...]:
        return PerTrial, (self._compute,)


class Seen:
    """Which samples the trials so far have had, the running and failed ones too.

    Args:
        key: two samples count as the same if it returns equal values for both; by default they are
            the same only if they are equal. It is called once per distinct sample.
    """

    def __init__(self, key: Callable[[Sample], Hashable] | None = None) -> None:
        self._key = key
        self._known: dict[Hashable, Hashable] = {}
        self._keys = PerTrial(self.key)
        self._counted: list[Hashable] = []
        self._distinct: set[Hashable] = set()
        self._number = 0
        self._space: SearchSpace | None = None

    def key(self, space: SearchSpace, sample: Sample) -> Hashable:
        """What tells samples apart."""
        spelling = space.key(sample)
        if self._key is None:
            return spelling
        if space is not self._space:
            self._space, self._known = space, {}
        if spelling not in self._known:
            self._known[spelling] = self._key(sample)
        return self._known[spelling]

    def keys(self, space: SearchSpace, trials: Sequence[Trial]) -> set[Hashable]:
        """The keys of all trials. The same set, grown, as long as the history only grew."""
        keys = self._keys(space, trials)
        if keys is not self._counted:
            self._counted, self._distinct, self._number = keys, set(), 0
        self._distinct.update(keys[self._number :])
        self._number = len(keys)
        return self._distinct

    def unseen(self, space: SearchSpace, trials: Sequence[Trial]) -> Callable[[Sample], bool]:
        """Says of a sample whether no trial had it."""
        keys = self.keys(space, trials)
        return lambda sample: self.key(space, sample) not in keys

    def __reduce__(self) -> tuple[object, ...]:
        return Seen, (self._key,)
