"""What an experiment makes of the model it is given."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from lightning_nas.space import Sample, SearchSpace

if TYPE_CHECKING:
    from lightning_nas.mutables import Blueprint

S = TypeVar("S")


def model_and_space(given: Any) -> tuple[Blueprint | None, SearchSpace]:
    """The blueprint of the model that a user gave, None for a search space; and the space.

    Raises:
        TypeError: if it is neither a model space nor a search space.
    """
    if isinstance(given, SearchSpace):
        return None, given
    if isinstance(given, Mapping):
        return None, SearchSpace(given)
    from lightning_nas.mutables import Blueprint, blueprint

    model = given if isinstance(given, Blueprint) else blueprint(given)
    return model, model.space


def with_graph_keys(strategy: S, model: Blueprint | None, space: SearchSpace) -> S:
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

    def __init__(self, model: Blueprint, space: SearchSpace) -> None:
        self._model = model
        self._others = [label for label in space if label not in model.space]
        self._space = space

    def __call__(self, sample: Sample) -> Hashable:
        own = {label: value for label, value in sample.items() if label in self._model.space}
        others = {label: sample[label] for label in self._others if label in sample}
        return self._net.graph_key(own), self._space.key(others)

    @cached_property
    def _net(self) -> Any:
        return self._model.instance()
