"""Traces what modules and functions do into graphs of steps, with `torch.fx`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from lightning_nas.mutables.choice import Choice
from lightning_nas.mutables.fingerprint import name_of
from lightning_nas.mutables.layers import Zero


@dataclass(frozen=True)
class Slot:
    """Stands for a tensor among the arguments of a call: the one with this number."""

    number: int


@dataclass(frozen=True)
class Step:
    """One operation of a traced call.

    Args:
        node: the operation; its arguments are nodes, and values as they stand.
        name: of a function (`torch.cat`) or method (`Tensor.view`).
        path: of the module or parameter, below the traced function; "" for a function or method.
        part: the module called, or the tensor read.
        mutates: as far as its name tells, it changes an input in place.
        takes_nodes: its arguments are nodes, without structure, and nothing else.
    """

    node: fx.Node
    name: str = ""
    path: str = ""
    part: nn.Module | torch.Tensor | None = None
    mutates: bool = False
    takes_nodes: bool = False


@dataclass(frozen=True)
class Traced:
    """What a call does, step by step.

    Args:
        inputs: the nodes that stand for the tensors it is given.
        steps: those that the output depends on, and all that may change a tensor in place, in the order
            of execution.
        output: what it returns: nodes, values, and lists, tuples and dicts of them.
        root: the module that `steps` lead through; kept so that its parts stay alive.
    """

    inputs: tuple[fx.Node, ...]
    steps: tuple[Step, ...]
    output: Any
    root: nn.Module


def trace(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Traced:
    """Traces `function(*args, **kwargs)`.

    Choices and modules of torch.nn are single steps; other modules are traced through, or are
    single steps too where that is impossible.

    Args:
        function: a module, or a function.
        args, kwargs: with a `Slot` for each tensor, numbered from 0.

    Raises:
        Exception: what `torch.fx` raises if it cannot trace `function` itself.
    """
    root = _Call(function, args, kwargs)
    slots = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Slot)]
    # A function without tensors is given one that it never sees: `torch.fx` wants at least one.
    tracer = _Tracer(function)
    nodes = list(tracer.trace(root, (fx.PH,) * max(1, len(slots))).nodes)  # type: ignore
    output = nodes.pop()
    needed = {output}
    for node in reversed([*nodes, output]):
        if node in needed or (node not in tracer.void and _may_change_something(root, node)):
            needed.update(node.all_input_nodes, [node])
    return Traced(
        tuple(node for node in nodes if node.op == "placeholder"),
        tuple(_step(root, node) for node in nodes if node in needed and node.op != "placeholder"),
        output.args[0],
        root,
    )


def trace_model(model: nn.Module) -> tuple[Traced, tuple[str, ...]]:
    """Traces the forward pass, and names its inputs; optional arguments keep their defaults."""
    empty = inspect.Parameter.empty
    parameters = [
        p
        for p in inspect.signature(model.forward).parameters.values()
        if p.default is empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for number, parameter in enumerate(parameters):
        if parameter.kind == parameter.KEYWORD_ONLY:
            kwargs[parameter.name] = Slot(number)
        else:
            args.append(Slot(number))
    return trace(model, args, kwargs), tuple(parameter.name for parameter in parameters)


def leaves(value: Any) -> Iterator[Any]:
    """What stands in nested lists, tuples, dicts and slices, in order."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, slice):
        yield from (value.start, value.stop, value.step)
    else:
        yield value


def replaced(value: Any, function: Callable[[Any], Any]) -> Any:
    """`value` with `function` applied to its leaves; lists, tuples, dicts and slices are new."""
    if isinstance(value, (list, tuple)):
        items = [replaced(item, function) for item in value]
        if hasattr(value, "_fields"):
            return type(value)(*items)
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {key: replaced(item, function) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(function(part) for part in (value.start, value.stop, value.step)))
    return function(value)


def _may_mutate(node: fx.Node) -> bool:
    """Whether a function or method changes an input in place, as torch's naming tells."""
    if node.op not in ("call_function", "call_method"):
        return False
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    if getattr(node.target, "__module__", "") == "_operator":
        return name in _IN_PLACE_OPERATORS
    is_in_place = name.endswith("_") and not name.endswith("__")
    return is_in_place or node.kwargs.get("inplace") is True or "out" in node.kwargs


_IN_PLACE_OPERATORS = frozenset(
    f"i{name}"
    for name in (
        "add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow",
        "lshift", "rshift", "and", "or", "xor", "concat",
    )
)  # fmt: skip


def _may_change_something(root: nn.Module, node: fx.Node) -> bool:
    """Whether the step counts even if nobody takes its result."""
    if node.op != "call_module":
        return _may_mutate(node)
    parts = list(root.get_submodule(str(node.target)).modules())
    return any(isinstance(part, Choice) or getattr(part, "inplace", False) is True for part in parts)


def mutates_its_input(traced: Traced) -> bool:
    """Whether a traced call may change a tensor it is given; what it makes itself it may change."""
    given = set(traced.inputs)  # and what may be the same tensor, or a view of it
    for step in traced.steps:
        if not given.intersection(step.node.all_input_nodes):
            continue
        if step.mutates:
            return True
        if step.node.op != "call_module":
            given.add(step.node)
            continue
        is_known = type(step.part).__module__.startswith("torch.nn.modules.") or isinstance(step.part, Zero)
        if not is_known or getattr(step.part, "inplace", False) is True:
            return True
        if isinstance(step.part, _PASSING_ON):
            given.add(step.node)
    return False


_PASSING_ON = (nn.Identity, nn.Flatten, nn.Unflatten, nn.modules.dropout._DropoutNd)


def _step(root: nn.Module, node: fx.Node) -> Step:
    takes_nodes = not node.kwargs and all(isinstance(a, fx.Node) for a in node.args)
    if node.op in ("call_function", "call_method"):
        name = f"Tensor.{node.target}" if node.op == "call_method" else name_of(node.target)
        return Step(node, name, mutates=_may_mutate(node), takes_nodes=takes_nodes)
    owner_path, _, attribute = str(node.target).rpartition(".")
    part = getattr(root.get_submodule(owner_path), attribute)
    path = str(node.target).removeprefix("function").removeprefix(".")
    return Step(node, path=path, part=part, takes_nodes=takes_nodes)


class _Call(nn.Module):
    """Calls a function with given arguments, in which tensors take the places of the slots."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.function = function
        self._arguments = (list(args), kwargs)

    def forward(self, *tensors: torch.Tensor) -> Any:
        def given(leaf: Any) -> Any:
            return tensors[leaf.number] if isinstance(leaf, Slot) else leaf

        args, kwargs = replaced(self._arguments, given)
        return self.function(*args, **kwargs)


class _Tracer(fx.Tracer):
    """Traces through modules that can be traced through; keeps choices whole."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function
        self.void: set[fx.Node] = set()
        """Steps of modules that could not be traced to their end."""
        self._made: list[fx.Node] = []

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        self._made.append(node)
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (Choice, Zero)) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        depth, before = len(self.module_stack), len(self._made)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if m is self._function:
                raise
            self.void.update(self._made[before:])
            while len(self.module_stack) > depth:
                self.module_stack.popitem()
            return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)
