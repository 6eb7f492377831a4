"""How to make the models of a space: a class, its arguments, and what its constructor asks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import nn

from lightning_nas.errors import SampleError, SpaceError
from lightning_nas.mutables import chooser as choosers
from lightning_nas.mutables.choice import Choice
from lightning_nas.mutables.chooser import Chooser, Event, Fixed, Recorder
from lightning_nas.mutables.finish import finish
from lightning_nas.mutables.mutator import Mutator, mutated
from lightning_nas.mutables.probe import probe
from lightning_nas.space import SearchSpace


@dataclass(eq=False)
class Blueprint:
    """A model space without weights: enough to know its search space and to build any of its models.

    Args:
        cls: the wrapped class.
        args, kwargs: what its constructor is called with; modules among them are copied for each model.
        mutators: applied, in order, to each model that the constructor makes.
    """

    cls: type[nn.Module]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    mutators: Sequence[Mutator] = ()

    @cached_property
    def space(self) -> SearchSpace:
        """The search space, found by running the constructor (see `probe`).

        Raises:
            SpaceError: if the choices contradict each other or cannot be told apart.
        """
        try:
            return probe(self.run, is_editing=bool(self.mutators))
        except AttributeError as error:  # torch would hide it behind "has no attribute 'search_space'"
            raise SpaceError(f"Looking for choices, {self.cls.__name__}() raised {error!r}.") from error

    def instance(self) -> nn.Module:
        """The model space itself, every choice at its default."""
        return self.cls(*copy_modules(self.args), **copy_modules(dict(self.kwargs)))

    def run(self, chooser: Chooser) -> nn.Module:
        """Runs the constructor under `chooser` and finishes the model."""
        model = self.construct(chooser)
        finish(model, chooser)
        return mutated(model, self.mutators, chooser) if self.mutators else model

    def construct(self, chooser: Chooser) -> nn.Module:
        """Runs the constructor under `chooser`; the choices still stand in the model."""
        args, kwargs = copy_modules(self.args), copy_modules(dict(self.kwargs))
        with choosers.using(chooser):
            return self.cls(*args, **kwargs)

    def build(self, sample: Mapping[str, Any]) -> nn.Module:
        """The plain model of `sample`, with fresh weights and no choice left in it.

        Args:
            sample: a value for each active label, in our form or as NNI exported it.

        Raises:
            SampleError: if a label is missing, unknown or not active, or a value is not among its
                candidates.
        """
        return self._checked(Fixed(sample))

    def record(self, sample: Mapping[str, Any]) -> tuple[nn.Module, list[Event]]:
        """As `build`, with every choice made on the way and the call in the source that made it."""
        chooser = Recorder(sample)
        return self._checked(chooser), chooser.events

    def _checked(self, chooser: Fixed) -> nn.Module:
        try:
            model = self.run(chooser)
        except SampleError as error:
            # What the space says is better than where the constructor happened to stop.
            reason = self.space.why_not(normalised(self.space, chooser.sample))
            raise SampleError(reason or str(error)) from None
        reject_leftovers(chooser, lambda: self.space)
        return model


def normalised(space: SearchSpace, sample: Mapping[str, Any]) -> dict[str, Any]:
    """`sample` in our form, where its values are the space's at all."""
    result = dict(sample)
    for label in sample.keys() & space.keys():
        try:
            result[label] = choosers.coerce(label, space[label], sample[label])
        except SampleError:
            continue  # `why_not` says what is wrong with it
    return result


def reject_leftovers(chooser: Fixed, space: Any) -> None:
    """Raises SampleError if the sample has labels that the constructor never met."""
    unmet = chooser.sample.keys() - chooser.met.keys()
    if unmet:
        known = space()
        reason = known.why_not(normalised(known, chooser.sample))
        raise SampleError(reason or f"The sample has labels that this model never asks for: {sorted(unmet)}.")


def copy_modules(value: Any) -> Any:
    """`value` with copies of the modules in it, so that models share no weights."""
    if isinstance(value, nn.Module):
        return copy.deepcopy(value)
    if type(value) in (list, tuple):
        return type(value)(map(copy_modules, value))
    if type(value) is dict:
        return {key: copy_modules(item) for key, item in value.items()}
    return value


def choices_in(model: nn.Module) -> list[tuple[str, Choice]]:
    """The choices left in a model, with their paths."""
    return [(path, module) for path, module in model.named_modules() if isinstance(module, Choice)]
