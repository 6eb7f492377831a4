"""`model_wrapper`: an ordinary module class becomes a model space."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from torch import nn

from lightning_nas.errors import SampleError, SpaceError
from lightning_nas.mutables import chooser as choosers
from lightning_nas.mutables.blueprint import Blueprint, copy_modules, reject_leftovers
from lightning_nas.mutables.chooser import Defaults, Fixed, Ordered
from lightning_nas.mutables.finish import finish
from lightning_nas.mutables.mutator import Mutator
from lightning_nas.mutables.values import Expression
from lightning_nas.space import SearchSpace

if TYPE_CHECKING:
    import networkx

M = TypeVar("M", bound=type[nn.Module])


@overload
def model_wrapper(cls: M) -> M: ...
@overload
def model_wrapper(*, mutators: Sequence[Mutator] = ()) -> Callable[[M], M]: ...
def model_wrapper(cls: Any = None, *, mutators: Sequence[Mutator] = ()) -> Any:
    """Makes a model space of a module class whose constructor holds choices. Changes the class in place.

    An instance runs and trains as it is, every choice at its default. It gains

    - `search_space`: the labels, their domains and conditions;
    - `build(sample)`: the plain model of a sample, with fresh weights;
    - `sample(rng)`: a random sample;
    - `graph()`: the model space as a `networkx.DiGraph`;
    - `graph_key(sample)`: the same for two samples exactly if they give the same architecture.

    Args:
        cls: a subclass of `torch.nn.Module`.
        mutators: edits applied, in order, to every model of the space; their choices join it.

    Raises:
        TypeError: if `cls` is not a class of modules.
        SpaceError: if the class has a method or attribute of one of these names.

    Example:
        >>> import lightning_nas.nn as nn
        >>> @model_wrapper
        ... class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.act = nn.LayerChoice([nn.ReLU(), nn.GELU()], label="act")
        >>> Net().build({"act": 1})
        Net(
          (act): GELU(approximate='none')
        )
    """
    labels = [mutator.label for mutator in mutators]
    if len(set(labels)) < len(labels):
        raise SpaceError(f"Mutators of one space need different labels, but got {labels}.")
    if cls is None:
        return functools.partial(model_wrapper, mutators=tuple(mutators))
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise TypeError(f"`model_wrapper` takes a class of torch.nn.Module, but got {cls!r}.")
    for name, member in _MEMBERS.items():
        taken = getattr(cls, name, member)
        if taken is not member:
            raise SpaceError(
                f"{cls.__name__} has a `{name}` of its own, which `model_wrapper` needs; give it another name."
            )
    constructor = cls.__init__

    @functools.wraps(constructor)
    def __init__(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        running = choosers.current()
        if running is not None:
            with running.owned_by(cls.__name__):
                constructor(self, *args, **kwargs)
            return
        if type(self) is not cls:
            raise SpaceError(
                f"{type(self).__name__} inherits from the model space {cls.__name__}; put @model_wrapper on it too."
            )
        blueprint = Blueprint(cls, copy_modules(args), copy_modules(kwargs), mutators)
        _make(self, functools.partial(constructor, self, *args, **kwargs), blueprint)

    cls.__init__ = __init__  # type: ignore[method-assign]
    for name, member in _MEMBERS.items():
        setattr(cls, name, member)
    return cls


def _make(self: nn.Module, construct: Callable[[], None], blueprint: Blueprint) -> None:
    """Runs the outermost constructor: at the defaults, or for the sample that `fixed_arch` ordered."""
    order = choosers.ordered()
    chooser = Defaults() if order is None else Fixed(order.sample)
    with choosers.using(chooser), chooser.owned_by(blueprint.cls.__name__):
        construct()
    expressions = finish(self, chooser)
    if isinstance(chooser, Fixed):
        if blueprint.mutators:
            raise SpaceError("`fixed_arch` cannot apply mutators; use `net.build(sample)`.")
        reject_leftovers(chooser, lambda: blueprint.space)
    else:
        vars(self)["_blueprint"] = blueprint
        vars(self)["_expressions"] = expressions


def blueprint(net: nn.Module) -> Blueprint:
    """The blueprint of a model space: small, without weights, fit to be sent to other processes.

    Raises:
        TypeError: if `net` is no instance of a class under `model_wrapper`, or was built from a sample.
    """
    found = vars(net).get("_blueprint") if isinstance(net, nn.Module) else None
    if found is None:
        raise TypeError(
            f"{type(net).__name__} is not a model space: "
            + (
                "it was built from a sample and has no choice left."
                if hasattr(type(net), "_is_model_space")
                else "put @model_wrapper on its class and make an instance."
            )
        )
    return found  # type: ignore[no-any-return]


def expressions(net: nn.Module) -> Mapping[str, Expression]:
    """How the attributes of a model space's modules follow from its value choices, by path."""
    return vars(net)["_expressions"] if blueprint(net) else {}


@contextlib.contextmanager
def fixed_arch(sample: Mapping[str, Any] | str | Path) -> Iterator[None]:
    """Inside, a wrapped class makes the model of `sample` instead of the space.

    Args:
        sample: a sample in our form or as NNI exported it, or the path of a JSON file that holds one.

    Raises:
        SampleError: if the file holds no JSON object; while a model is made, if the sample does not
            fit it.

    Source: NNI's `fixed_arch`, for code written for it; `net.build(sample)` does the same.
    """
    if isinstance(sample, (str, Path)):
        try:
            loaded = json.loads(Path(sample).read_text())
        except ValueError as error:
            raise SampleError(
                f"{sample} must hold a sample as a JSON object, but is no JSON: {error}"
            ) from None
        sample = loaded
    if not isinstance(sample, Mapping):
        raise SampleError(f"A sample is a mapping of labels to values, but got {sample!r}.")
    with choosers.using(Ordered(dict(sample))):
        yield


def _search_space(self: nn.Module) -> SearchSpace:
    """The labels of this model space, their domains and the conditions under which they are active."""
    return blueprint(self).space


def _build(self: nn.Module, sample: Mapping[str, Any]) -> nn.Module:
    """The plain model of `sample`, with fresh weights and no choice left in it.

    Raises:
        SampleError: if a label is missing, unknown or not active, or a value is not among its candidates.
    """
    return blueprint(self).build(sample)


def _sample(self: nn.Module, rng: np.random.Generator | int | None = None) -> dict[str, Any]:
    """A random sample, uniform per active label (or by its prior); `rng` may be a seed."""
    return blueprint(self).space.sample(np.random.default_rng(rng))


def _graph(self: nn.Module) -> networkx.DiGraph[Any]:
    """This model as a graph: one node per input, operation, choice and output."""
    from lightning_nas.mutables.graph import graph

    return graph(self)


def _graph_key(self: nn.Module, sample: Mapping[str, Any]) -> Any:
    """A hashable key, equal for two samples exactly if their architectures are the same graph."""
    from lightning_nas.mutables.graph import graph_key

    return graph_key(self, sample)


_MEMBERS: dict[str, Any] = {
    "search_space": property(_search_space),
    "build": _build,
    "sample": _sample,
    "graph": _graph,
    "graph_key": _graph_key,
    "_is_model_space": True,
}
