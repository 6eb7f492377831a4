"""`Strategy`: what every strategy is, and the random numbers it is given."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from lightning_nas.space import Sample, SearchSpace
from lightning_nas.trial import Trial


class Strategy(Protocol):
    """A function of the history that says which sample to evaluate next.

    It holds settings, never progress: `ask` depends on its arguments alone. So a search that was
    interrupted goes on as if it had not been, and parallel workers need no extra code. An attribute
    `seed`, if it is not None, replaces the experiment's seed (see `generator`). A wrapper that is not
    content with a sample asks again with the same generator, which has moved on.
    """

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample | None:
        """The next sample, or None if there is none left.

        Args:
            space: where the sample must lie.
            trials: all trials so far in the order of their numbers, the running ones too. `score` is
                the objective turned so that higher is better; None while unknown or if it failed.
            rng: the only source of randomness.
        """


def generator(strategy: Strategy, seed: int, number: int) -> np.random.Generator:
    """The random numbers with which `strategy` is asked for trial `number`.

    Args:
        strategy: its own `seed` counts if it has one that is not None.
        seed: the experiment's seed, >= 0.
        number: of the trial asked for, from 0.

    >>> from lightning_nas.strategies import Random
    >>> generator(Random(seed=7), 0, 3).random() == generator(Random(), 7, 3).random()
    True
    """
    own = getattr(strategy, "seed", None)
    return np.random.default_rng([seed if own is None else own, number])


def check_seed(seed: int | None) -> None:
    """Raises ValueError unless `seed` is None or a whole number >= 0."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0):
        raise ValueError(f"`seed` must be None or a whole number >= 0, but got {seed!r}.")


def check_package(strategy: str, package: str) -> None:
    """Raises ImportError, with the remedy, unless a package that only some strategies need is installed."""
    if importlib.util.find_spec(package) is None:
        raise ImportError(
            f'{strategy} needs the package {package}, which is not installed: pip install "lightning-nas[samplers]".'
        )
