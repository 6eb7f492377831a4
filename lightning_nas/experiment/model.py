"""What an experiment makes of the model it is given."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from lightning_nas.experiment.runners.protocol import Model
from lightning_nas.space import Sample, SearchSpace

S = TypeVar("S")


def model_and_space(given: Any) -> tuple[Model | None, SearchSpace]:
    """The picklable model behind what a user gave, None for a search space; and the space.

    Raises:
        TypeError: if it is neither a model space nor a search space.
    """
    if isinstance(given, SearchSpace):
        return None, given
    if isinstance(given, Mapping):
        return None, SearchSpace(given)
    if isinstance(getattr(given, "space", None), SearchSpace) and callable(getattr(given, "build", None)):
        return given, given.space
    from lightning_nas.mutables import blueprint

    model = blueprint(given)
    return model, model.space


def model_name(model: Model | None) -> str | None:
    """The name of the class whose instances `model` builds."""
    if model is None:
        return None
    name: str = getattr(model, "cls", type(model)).__name__
    return name


def with_graph_keys(strategy: S, model: Model | None, space: SearchSpace) -> S:
    """`strategy` with the model's graph in place of each `key="graph"`, however deep it is wrapped.

    Raises:
        ValueError: if there is one, but no model.
    """
    if not is_dataclass(strategy) or isinstance(strategy, type):
        return strategy
    changes: dict[str, Any] = {}
    for field in fields(strategy):
        value = getattr(strategy, field.name)
        if field.name == "key" and value == "graph":
            if model is None:
                raise ValueError("`key='graph'` needs a model, but the experiment was given a search space.")
            changes["key"] = _GraphKey(model, space)
        elif callable(getattr(value, "ask", None)):
            changed = with_graph_keys(value, model, space)
            if changed is not value:
                changes[field.name] = changed
    return replace(strategy, **changes) if changes else strategy


class _GraphKey:
    """Equal for two samples exactly if they have the same architecture and the same further values."""

    def __init__(self, model: Any, space: SearchSpace) -> None:
        self._model = model
        self._others = [label for label in space if label not in model.space]
        self._space = space

    def __call__(self, sample: Sample) -> Hashable:
        own = {label: value for label, value in sample.items() if label in self._model.space}
        others = {label: sample[label] for label in self._others if label in sample}
        return self._net.graph_key(own), self._space.key(others)

    @cached_property
    def _net(self) -> Any:
        return self._model.cls(*self._model.args, **self._model.kwargs)
