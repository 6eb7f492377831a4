"""Puts a sample into the traced graph of a model space: choices become the operations chosen."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, cast

import torch
from torch import fx, nn

from lightning_nas.mutables.canonical import Kind, Node
from lightning_nas.mutables.cell import Cell
from lightning_nas.mutables.choice import Choice
from lightning_nas.mutables.fingerprint import describe, is_of_torch
from lightning_nas.mutables.layers import InputChoice, LayerChoice, Repeat, Zero
from lightning_nas.mutables.tracing import Slot, Step, Traced, mutates_its_input, replaced, trace

Place = tuple[int, ...]
"""Where in a model a call stands: the number of the step, then of the step inside it, and so on."""

Changes = Literal["none", "first", "any"]
"""What an operation changes in place: its first input, which it then returns, or any of its inputs."""

_SUMS = ("_operator.add", "_operator.iadd", "torch.add", "Tensor.add", "Tensor.add_")
_PRODUCTS = ("_operator.mul", "_operator.imul", "torch.mul", "Tensor.mul", "Tensor.mul_")
_COMMUTATIVE: dict[Kind, tuple[str, ...]] = {"sum": _SUMS, "product": _PRODUCTS}
_CONCATENATIONS = ("torch.cat", "torch.concat", "torch.concatenate")
_MEASURES = ("builtins.getattr", "Tensor.size", "Tensor.dim", "Tensor.numel", "Tensor.stride")


@dataclass(frozen=True)
class Ref:
    """Stands for a tensor among the arguments of a call: the value of the node with this index."""

    index: int


def digest(text: str) -> str:
    """A short text that stands for a long one; 128 bits, so that no two are ever the same."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


class Parts:
    """The modules of a space, made where needed, and what is known of each.

    Args:
        making: the context in which candidates that are still functions are called.
    """

    def __init__(self, making: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self.making = making
        self.shared: set[int] = set()
        """Tensors that are used at several places, by id."""
        self.ties: set[tuple[int, int]] = set()
        """Numbers of the steps of the whole model that share a tensor, the first one first."""
        self._places: dict[int, Place] = {}
        self._seen: set[tuple[int, Place]] = set()
        self._kept: dict[int, Any] = {}  # ids stay unique while what they belong to is kept
        self._descriptors: dict[tuple[int, str], str] = {}
        self._tensors: dict[int, list[tuple[str, int]]] = {}
        self._traced: dict[tuple[int, str], Traced | None] = {}
        self._changes: dict[str, Changes] = {}
        self._holds_choice: dict[int, bool] = {}
        self.op_candidates: dict[tuple[Any, ...], nn.Module] = {}
        self._templates: dict[int, tuple[Node, Changes]] = {}
        self._labels: dict[int, tuple[str, tuple[str, ...]]] = {}
        self._first_paths: dict[Any, str] = {}

    def descriptor(self, thing: Any, arguments: str = "") -> str:
        """What a module or function computes from arguments that are spelt so, in short."""
        key = (id(thing), arguments)
        if key not in self._descriptors:
            self._kept[id(thing)] = thing
            self._descriptors[key] = digest(describe(thing) + arguments)
        return self._descriptors[key]

    def shares(self, part: Any, place: Place) -> tuple[tuple[str, int], ...]:
        """The tensors of a module that are used at other places too, and notes that it is used here."""
        if (id(part), place) not in self._seen:
            self._seen.add((id(part), place))
            for _, tensor in self.tensors(part):
                first = self._places.setdefault(tensor, place)
                if first != place:
                    self.shared.add(tensor)
                    self.ties.add((min(first[0], place[0]), max(first[0], place[0])))
        if not self.shared:
            return ()
        return tuple((role, tensor) for role, tensor in self.tensors(part) if tensor in self.shared)

    def tensors(self, part: Any) -> list[tuple[str, int]]:
        """Role and id of each weight and buffer of a module; a tensor is its own only one."""
        found = self._tensors.get(id(part))
        if found is None:
            self._kept[id(part)] = part
            if isinstance(part, torch.Tensor):
                found = [("", id(part))]
            elif isinstance(part, nn.Module):
                found = [(n, id(t)) for n, t in part.named_parameters(remove_duplicate=False)]
                found += [(n, id(t)) for n, t in part.named_buffers(remove_duplicate=False)]
            else:
                found = []
            self._tensors[id(part)] = found
        return found

    def traced(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Traced | None:
        """What a call does, or None if it cannot be traced. Tensors among the arguments are `Ref`s."""
        key = (id(function), spelt((args, kwargs), []))
        if key not in self._traced:
            self._kept[id(function)] = function
            numbers = iter(range(1 << 30))
            slots = replaced((args, kwargs), lambda a: Slot(next(numbers)) if isinstance(a, Ref) else a)
            try:
                self._traced[key] = trace(function, *slots)
            except Exception:
                self._traced[key] = None
        return self._traced[key]

    def changes(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Changes:
        """What a module or function changes in place."""
        key = self.descriptor(function)
        if key not in self._changes:
            if getattr(function, "inplace", False) is True and is_of_torch(function):
                self._changes[key] = "first"
            else:
                traced = self.traced(function, args, kwargs)
                self._changes[key] = "any" if traced is None or mutates_its_input(traced) else "none"
        return self._changes[key]

    def holds_choice(self, module: Any) -> bool:
        """Whether there is a choice anywhere inside."""
        if id(module) not in self._holds_choice:
            self._kept[id(module)] = module
            self._holds_choice[id(module)] = isinstance(module, nn.Module) and any(
                isinstance(part, Choice) for part in module.modules()
            )
        return self._holds_choice[id(module)]

    def labels_of(self, choice: Choice, path: str) -> tuple[str, tuple[str, ...]]:
        """The label of a choice at a path, and the labels of its domains.

        Copies of a choice without a label share that of the first.
        """
        found = self._labels.get(id(choice))
        if found is None:
            self._kept[id(choice)] = choice
            label = choice.label or self._first_paths.setdefault(choice.identity, path)
            found = self._labels[id(choice)] = label, tuple(choice.domains(label))
        return found

    def template(self, module: Any) -> tuple[Node, Changes] | None:
        """The node of a module that is one operation on one tensor, and whether it changes that in place.

        None for what is more than one operation: choices, and modules that hold any.
        """
        if id(module) in self._templates:
            return self._templates[id(module)]
        if isinstance(module, Choice) or self.holds_choice(module):
            return None
        args: tuple[Any, ...] = (Ref(0),)
        made: tuple[Node, Changes]
        if type(module) is nn.Identity:
            made = Node("", kind="identity"), "none"
        elif type(module) is Zero:
            made = Node("zero", kind="zero"), "none"
        else:
            text = self.descriptor(module, spelt((args, {}), []))
            made = Node(text), self.changes(module, args, {})
        self._kept[id(module)] = module
        self._templates[id(module)] = made
        return made

    def candidate(self, choice: LayerChoice, name: str) -> nn.Module:
        """A candidate of a choice; a function is called only once."""
        made = choice._modules.get(name)
        if made is None:
            with self.making():
                made = choice.candidate(name)
        return made

    def operation(self, cell: Cell, name: Any, node: int, k: int, state: int) -> nn.Module:
        """The operation of an edge of a cell, one of its own for each edge."""
        key = (id(cell), name, node, k, state)
        if key not in self.op_candidates:
            self._kept[id(cell)] = cell
            candidate = cell.op_candidates[name]
            with self.making():
                is_module = isinstance(candidate, nn.Module)
                made = copy.deepcopy(candidate) if is_module else candidate(node, k, state)
            self.op_candidates[key] = made
        return self.op_candidates[key]


def spelt(value: Any, refs: list[int]) -> str:
    """Arguments as a text with `_` for each tensor; the indices of the tensors are added to `refs`."""
    if isinstance(value, Ref):
        refs.append(value.index)
        return "_"
    if isinstance(value, (list, tuple)):
        items = ", ".join([spelt(item, refs) for item in value])
        return f"[{items}]" if isinstance(value, list) else f"({items})"
    if isinstance(value, dict):
        return "{" + ", ".join([f"{key}={spelt(item, refs)}" for key, item in value.items()]) + "}"
    if isinstance(value, slice):
        return f"slice{spelt((value.start, value.stop, value.step), refs)}"
    return describe(value)


class Expander:
    """Lists the operations of a model, or of a part of it, for one sample.

    Args:
        parts: the modules of the space.
        sample: a value for each active label.

    A value during the expansion is a `Ref`, a constant, or a list, tuple or dict of values.
    """

    def __init__(self, parts: Parts, sample: Mapping[str, Any]) -> None:
        self.nodes: list[Node] = []
        self.asked: dict[str, None] = {}
        """The labels that may have decided anything, in the order they were asked for."""
        self.of_layers: set[str] = set()
        """Those of choices among modules."""
        self._parts = parts
        self._sample = sample
        self._changed: dict[int, int] = {}
        self._measures: set[int] = set()

    def emit(self, node: Node, changes: Changes = "none") -> Ref:
        """Adds a node.

        Who uses a value after it was changed in place uses what the change made of it; so the order of
        execution is in the graph. Views of the value are not followed.
        """
        if self._changed:
            node = node._replace(inputs=tuple([self.current(i) for i in node.inputs]))
        index = len(self.nodes)
        self.nodes.append(node)
        if changes == "first":
            self._changed[node.inputs[0]] = index
        elif changes == "any":
            for i in dict.fromkeys(node.inputs):
                self._changed[i] = len(self.nodes)
                self.nodes.append(Node("changed in place", (i, index)))
        return Ref(index)

    def current(self, index: int) -> int:
        """The node that holds what the value of a node has become."""
        while index in self._changed:
            index = self._changed[index]
        return index

    def run(self, traced: Traced, inputs: Sequence[Any], path: str, place: Place) -> Any:
        """Adds what a traced call does with `inputs`; returns its value."""
        env: dict[fx.Node, Any] = dict(zip(traced.inputs, inputs))
        for number, step in enumerate(traced.steps):
            env[step.node] = self.step(step, env, path, (*place, number))
        return looked_up(traced.output, env)

    def step(self, step: Step, env: Mapping[fx.Node, Any], path: str, place: Place) -> Any:
        """Adds one step; returns its value."""
        if step.takes_nodes:
            args, kwargs = tuple([env[cast(fx.Node, node)] for node in step.node.args]), {}
        else:
            args, kwargs = looked_up((step.node.args, step.node.kwargs), env)
        if step.node.op == "get_attr":
            text = self._parts.descriptor(step.part)
            return self.emit(Node(text, shares=self._parts.shares(step.part, place)))
        if step.node.op == "call_module":
            return self._module(step.part, args, kwargs, _join(path, step.path), place)
        return self._function(step, args, kwargs)

    # -- modules ---------------------------------------------------------------------------------

    def _module(self, module: Any, args: Any, kwargs: dict[str, Any], path: str, place: Place) -> Any:
        if len(args) == 1 and type(args[0]) is Ref and not kwargs:
            template = self._parts.template(module)
            if template is not None:
                (descriptor, _, kind, _), changes = template
                if kind == "identity":
                    return args[0]
                shares = self._parts.shares(module, place) if kind == "operation" else ()
                return self.emit(Node(descriptor, (args[0].index,), kind, shares), changes)
        if isinstance(module, Choice):
            return self._choice(module, args, kwargs, path, place)
        if self._parts.holds_choice(module):
            return self._inline(module, args, kwargs, path, place)
        return self._opaque(module, args, kwargs, place)

    def _inline(self, function: Any, args: Any, kwargs: dict[str, Any], path: str, place: Place) -> Any:
        """Adds what a module or function does, step by step; as a whole if that cannot be traced."""
        traced = self._parts.traced(function, args, kwargs)
        if traced is not None:
            inputs: list[int] = []
            spelt((args, kwargs), inputs)
            return self.run(traced, [Ref(i) for i in inputs], path, place)
        if not self._parts.holds_choice(function):
            return self._opaque(function, args, kwargs, place)
        # Nobody can tell which of the labels decide what it does, so all of them count.
        self.asked.update(dict.fromkeys(self._sample))
        return self._opaque(function, args, kwargs, place, describe(dict(sorted(self._sample.items()))))

    def _opaque(self, thing: Any, args: Any, kwargs: dict[str, Any], place: Place, more: str = "") -> Ref:
        inputs: list[int] = []
        text = self._parts.descriptor(thing, spelt((args, kwargs), inputs) + more)
        node = Node(text, tuple(inputs), shares=self._parts.shares(thing, place))
        return self.emit(node, self._parts.changes(thing, args, kwargs))

    def _choice(self, choice: Choice, args: Any, kwargs: dict[str, Any], path: str, place: Place) -> Any:
        label, names = self._parts.labels_of(choice, path)
        self.asked.update(dict.fromkeys(names))
        self.of_layers.update(names)
        if isinstance(choice, LayerChoice):
            name = str(self._sample[label])
            return self._module(self._parts.candidate(choice, name), args, kwargs, _join(path, name), place)
        values = {name: self._sample[name] for name in names}
        if isinstance(choice, Cell):
            return self._cell(choice, values, label, args, path, place)
        given = args[0] if args else next(iter(kwargs.values()))
        if isinstance(choice, InputChoice):
            inputs, chosen_inputs = self._items(given, choice.n_candidates), choice.chosen(values, label)
            return self._reduced([inputs[i] for i in chosen_inputs.chosen], chosen_inputs.reduction)
        with self._parts.making():
            chosen = choice.chosen(values, label)
        if isinstance(choice, Repeat):
            value = given
            for number, block in enumerate(chosen.children()):
                value = self._module(block, (value,), {}, f"{path}.{number}", (*place, number))
            return value
        return self._module(chosen, args, kwargs, path, place)

    def _items(self, value: Any, count: int) -> list[Any]:
        """A list of `count` tensors as such, even if it is the result of one operation."""
        if isinstance(value, Ref):
            return [self.emit(Node(f"item {i}", (value.index,))) for i in range(count)]
        return list(value)

    def _reduced(self, inputs: list[Ref], reduction: str) -> Any:
        if reduction == "none":
            return inputs
        if len(inputs) <= 1:
            return inputs[0] if inputs else None
        if reduction == "concat":
            return self._concatenated(inputs, 1)
        total = self.emit(Node("", tuple(ref.index for ref in inputs), "sum"))
        return self.emit(Node(f"mean of {len(inputs)}", (total.index,))) if reduction == "mean" else total

    def _concatenated(self, inputs: Sequence[Ref], dim: int) -> Ref:
        if len(inputs) == 1:
            return inputs[0]
        return self.emit(Node(f"concatenated along {dim}", tuple(ref.index for ref in inputs)))

    def _cell(
        self, cell: Cell, values: Mapping[str, Any], label: str, args: Any, path: str, place: Place
    ) -> Any:
        is_one_list = len(args) == 1 and (isinstance(args[0], (list, tuple)) or cell.num_predecessors > 1)
        given = self._items(args[0] if is_one_list else args, cell.num_predecessors)
        states: Any = given
        if cell.preprocessor is not None:
            states = self._inline(cell.preprocessor, (given,), {}, f"{path}.preprocessor", (*place, -1))
        states = self._items(states, cell.num_predecessors)
        nodes = cell.genotype(values, label)
        for node, edges in zip(cell.nodes, nodes):
            results = []
            for k, (name, state) in enumerate(edges):
                operation = self._parts.operation(cell, name, node, k, state)
                where = f"{path}.operations.{node - cell.num_predecessors}.{k}"
                results.append(self._module(operation, (states[state],), {}, where, (*place, node, k)))
            states.append(self._reduced(results, "sum"))
        output: Any = self._concatenated([states[i] for i in cell.outputs(nodes)], cell.concat_dim)
        if cell.postprocessor is not None:
            where = f"{path}.postprocessor"
            output = self._inline(cell.postprocessor, (output, given), {}, where, (*place, -2))
        return output

    # -- functions -------------------------------------------------------------------------------

    def _function(self, step: Step, args: Any, kwargs: dict[str, Any]) -> Any:
        name = step.name
        changes: Changes = "none"
        if step.mutates:
            changes = "first" if args and isinstance(args[0], Ref) and "out" not in kwargs else "any"
        if name == "_operator.getitem" and isinstance(args[0], (list, tuple, dict)):
            return args[0][args[1]]
        is_list = args and isinstance(args[0], (list, tuple)) and all(isinstance(a, Ref) for a in args[0])
        if name in _CONCATENATIONS and is_list and set(kwargs) <= {"dim"}:
            return self._concatenated(args[0], kwargs.get("dim", (*args[1:], 0)[0]))
        for kind, names in _COMMUTATIVE.items():
            if name in names and not kwargs and all(map(self._is_operand, args)):
                # Python's `sum` starts from 0.
                terms = [a for a in args if not (kind == "sum" and a == 0 and type(a) is int)]
                if len(terms) == 1:
                    return terms[0]
                inputs = tuple(self._operand(term) for term in terms)
                return self.emit(Node("", inputs, kind), changes)
        refs: list[int] = []
        text = spelt((args, kwargs), refs)
        result = self.emit(Node(digest(name + text), tuple(refs)), changes)
        if name in _MEASURES or (name.startswith("_operator.") and self._measures.intersection(refs)):
            self._measures.add(result.index)
        return result

    def _is_operand(self, value: Any) -> bool:
        """Whether an order of addition cannot matter: a tensor or a number, but no shape or text."""
        if isinstance(value, Ref):
            return value.index not in self._measures
        return type(value) in (int, float)

    def _operand(self, value: Any) -> int:
        if isinstance(value, Ref):
            return value.index
        return self.emit(Node(f"constant {value!r}")).index


def looked_up(value: Any, env: Mapping[fx.Node, Any]) -> Any:
    """Arguments of a traced step, with the values of its inputs in their places."""
    return replaced(value, lambda leaf: env[leaf] if isinstance(leaf, fx.Node) else leaf)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
