"""How an experiment runs a one-shot method: trial 0 searches, trial 1 evaluates what it derived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator

from lightning_nas.space import Sample, SearchSpace
from lightning_nas.trial import Status, Trial


@dataclass(frozen=True)
class Derived:
    """Asks for the sample that the search of trial 0 derived, once.

    Args:
        method: the `repr` of the one-shot method, which tells one experiment from another.
    """

    method: str

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: Generator) -> Sample | None:
        """The sample of trial 0 as trial 1; None after that, or if the search failed."""
        search, *evaluated = trials
        return None if evaluated or search.status is not Status.COMPLETED else dict(search.sample)


def is_one_shot(strategy: Any) -> bool:
    """Whether it searches by training one supernet, instead of proposing samples."""
    return callable(getattr(strategy, "search", None)) and not hasattr(strategy, "ask")


def check(method: Any, evaluator: Any, has_model: bool, has_more_labels: bool) -> None:
    """Raises unless a one-shot method can search with this evaluator.

    Raises:
        TypeError: if there is no model, or the evaluator cannot `fit`.
        ValueError: if there are labels beside the model's.
    """
    name = type(method).__name__
    if not has_model:
        raise TypeError(f"{name} searches a model, but the experiment was given a search space.")
    if has_more_labels:
        raise ValueError(
            f"{name} searches the model alone; leave out `space`, or use a multi-trial strategy."
        )
    if not callable(getattr(evaluator, "fit", None)):
        raise TypeError(
            f"{name} needs an evaluator that can `fit`, such as Classification or LightningEvaluator, but got a "
            f"{type(evaluator).__name__}."
        )
