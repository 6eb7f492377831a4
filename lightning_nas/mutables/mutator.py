"""Mutators: edits of a model's graph whose choices join the model space."""

from __future__ import annotations

import operator
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import fx, nn

from lightning_nas.errors import SpaceError
from lightning_nas.mutables import chooser as choosers
from lightning_nas.mutables.choice import Choice
from lightning_nas.mutables.chooser import Chooser, Defaults, Site
from lightning_nas.space import Categorical


class Mutator(ABC):
    """Edits the graph of a built model; what it draws with `choice` is part of the sample.

    Args:
        label: the common start of its labels; two mutators of one space have different ones.

    Source: Retiarii's `Mutator` (Zhang et al., OSDI 2020), on `torch.fx` graphs.
    """

    def __init__(self, label: str) -> None:
        if not label:
            raise ValueError("A mutator needs a label, the common start of its labels.")
        self.label = label
        self._count = 0

    @abstractmethod
    def mutate(self, model: fx.GraphModule) -> None:
        """Edits `model` in place: its `graph`, its submodules. Draws with `self.choice`."""

    def choice(self, candidates: Sequence[Any], label: str | None = None) -> Any:
        """The chosen one of `candidates` (values that JSON can hold).

        Args:
            candidates: distinct values.
            label: the rest of the label, after the mutator's own; a number counted from 0 if None.
        """
        chooser = choosers.current()
        if chooser is None:
            raise SpaceError(f"The mutator {self.label!r} can only choose while a model is built.")
        name = f"{self.label}/{self._count if label is None else label}"
        self._count += label is None
        site = Site.of(sys._getframe(1))
        return chooser.choose(name, Categorical(tuple(candidates)), site, is_value=True)

    def restart(self) -> None:
        """Counts its unlabelled choices from 0 again; called before each `mutate`."""
        self._count = 0


class SkipConnections(Mutator):
    """Adds, or leaves out, a sum around matching operations: `y = f(x)` or `y = f(x) + x`.

    Args:
        label: the common start of its labels; `{label}/{name of the operation}` is True or False.
        matches: which modules; they must keep their input's shape.
    """

    def __init__(self, label: str, matches: Callable[[nn.Module], bool]) -> None:
        super().__init__(label)
        self._matches = matches

    def mutate(self, model: fx.GraphModule) -> None:
        for node in list(model.graph.nodes):
            if node.op != "call_module" or not self._matches(model.get_submodule(node.target)):
                continue
            if self.choice([False, True], label=str(node.target)):
                users = list(node.users)
                with model.graph.inserting_after(node):
                    total = model.graph.call_function(operator.add, (node, node.args[0]))
                for user in users:
                    user.replace_input_with(node, total)


class ReplaceModules(Mutator):
    """Replaces matching modules by one of several others, each place on its own.

    Args:
        label: the common start of its labels; `{label}/{name of the module}` holds a name.
        matches: which modules.
        candidates: `{name: function}`; the function takes the module found and returns the one
            to put in its place, or the same.
    """

    def __init__(
        self,
        label: str,
        matches: Callable[[nn.Module], bool],
        candidates: dict[str, Callable[[nn.Module], nn.Module]],
    ) -> None:
        super().__init__(label)
        self._matches = matches
        self._candidates = candidates

    def mutate(self, model: fx.GraphModule) -> None:
        found: dict[str, nn.Module] = {}
        for node in model.graph.nodes:
            if node.op == "call_module":
                module = model.get_submodule(node.target)
                if self._matches(module):
                    found[node.target] = module
        for target, module in found.items():
            name = self.choice(list(self._candidates), label=target)
            model.set_submodule(target, self._candidates[name](module))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Choice) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module) -> fx.GraphModule:
    """The graph of `model`, choices and modules of torch.nn as single nodes.

    Flags that follow `model.training` still do: `torch.fx` alone would freeze them, so both modes are
    traced, and a constant that is True in one and False in the other becomes `self.training`.

    Raises:
        SpaceError: if the forward pass cannot be traced, or takes another course in training.
    """
    was_training = model.training
    try:
        model.train()
        graph = _Tracer().trace(model)
        model.eval()
        other = _Tracer().trace(model)
    except Exception as error:
        raise SpaceError(
            f"torch.fx cannot trace {type(model).__name__}, which its mutators need: {error}"
        ) from error
    finally:
        model.train(was_training)
    nodes, others = list(graph.nodes), list(other.nodes)
    if [(n.op, n.target) for n in nodes] != [(n.op, n.target) for n in others]:
        raise SpaceError(
            f"The forward pass of {type(model).__name__} takes another course in training than in evaluation, "
            "so mutators cannot edit it."
        )
    flag: list[fx.Node] = []

    def merged(a: Any, b: Any) -> Any:
        if a is True and b is False:
            if not flag:
                with graph.inserting_before(nodes[0]):
                    flag.append(graph.create_node("get_attr", "training"))
            return flag[0]
        if isinstance(a, (tuple, list)):
            return type(a)(merged(x, y) for x, y in zip(a, b))
        if isinstance(a, dict):
            return {key: merged(a[key], b[key]) for key in a}
        return a

    for node, twin in zip(nodes, others):
        node.args, node.kwargs = merged(node.args, twin.args), merged(node.kwargs, twin.kwargs)
    return fx.GraphModule(model, graph, type(model).__name__)


def mutated(model: nn.Module, mutators: Sequence[Mutator], chooser: Chooser) -> nn.Module:
    """`model` after all edits; at the defaults, `model` itself."""
    if isinstance(chooser, Defaults):
        return model
    graph = trace(model)
    with choosers.using(chooser):
        for mutator in mutators:
            mutator.restart()
            mutator.mutate(graph)
            graph.graph.lint()
            graph.recompile()
    graph.delete_all_unused_submodules()
    return graph
