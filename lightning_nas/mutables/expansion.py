"""Puts a sample into the traced graph of a model space: choices become the operations chosen."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, cast

import torch
from torch import fx, nn

from lightning_nas.mutables.canonical import Node
from lightning_nas.mutables.cell import Cell
from lightning_nas.mutables.choice import Choice
from lightning_nas.mutables.fingerprint import describe
from lightning_nas.mutables.layers import InputChoice, LayerChoice, Repeat, Zero
from lightning_nas.mutables.tracing import Slot, Step, Traced, mutates_its_input, replaced, trace

Place = tuple[int, ...]
"""Where in a model a call stands: the number of the step, then of the step inside it, and so on."""

_SUMS = ("_operator.add", "_operator.iadd", "torch.add", "Tensor.add", "Tensor.add_")
_PRODUCTS = ("_operator.mul", "_operator.imul", "torch.mul", "Tensor.mul", "Tensor.mul_")
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
        self._may_mutate: dict[str, bool] = {}
        self._holds_choice: dict[int, bool] = {}
        self._operations: dict[tuple[Any, ...], nn.Module] = {}
        self._templates: dict[int, tuple[Node, bool]] = {}
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

    def may_mutate(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        """Whether a module or function may change its inputs in place."""
        key = self.descriptor(function)
        if key not in self._may_mutate:
            traced = self.traced(function, args, kwargs)
            self._may_mutate[key] = traced is None or mutates_its_input(traced)
        return self._may_mutate[key]

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

    def template(self, module: Any) -> tuple[Node, bool] | None:
        """The node of a module that is one operation on one tensor, and whether it may change that in place.

        None for what is more than one operation: choices, and modules that hold any.
        """
        found = self._templates.get(id(module))
        if found is None:
            self._kept[id(module)] = module
            if isinstance(module, Choice) or self.holds_choice(module):
                return None
            args: tuple[Any, ...] = (Ref(0),)
            if type(module) is nn.Identity:
                found = Node("", kind="identity"), False
            elif type(module) is Zero:
                found = Node("zero", kind="zero"), False
            else:
                found = (
                    Node(self.descriptor(module, spelt((args, {}), []))),
                    self.may_mutate(module, args, {}),
                )
            self._templates[id(module)] = found
        return found

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
        if key not in self._operations:
            self._kept[id(cell)] = cell
            candidate = cell._operations[name]
            with self.making():
                is_module = isinstance(candidate, nn.Module)
                made = copy.deepcopy(candidate) if is_module else candidate(node, k, state)
            self._operations[key] = made
        return self._operations[key]


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
        self._mutating: set[int] = set()
        self._measures: set[int] = set()

    def emit(self, node: Node, *, mutates: bool = False) -> Ref:
        """Adds a node."""
        self.nodes.append(node)
        if mutates:
            self._mutating.add(len(self.nodes) - 1)
        return Ref(len(self.nodes) - 1)

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
                (descriptor, _, kind, _), mutates = template
                if kind == "identity":
                    return args[0]
                shares = self._parts.shares(module, place) if kind == "operation" else ()
                return self.emit(Node(descriptor, (args[0].index,), kind, shares), mutates=mutates)
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
        mutates = self._parts.may_mutate(thing, args, kwargs)
        return self.emit(Node(text, tuple(inputs), shares=self._parts.shares(thing, place)), mutates=mutates)

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
        if isinstance(choice, InputChoice):
            chosen_inputs = choice.chosen(values, label)
            return self._reduced([args[0][i] for i in chosen_inputs.chosen], chosen_inputs.reduction)
        with self._parts.making():
            chosen = choice.chosen(values, label)
        if isinstance(choice, Repeat):
            value = args[0]
            for number, block in enumerate(chosen.children()):
                value = self._module(block, (value,), {}, f"{path}.{number}", (*place, number))
            return value
        return self._module(chosen, args, kwargs, path, place)

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
        given = list(args[0]) if len(args) == 1 and isinstance(args[0], (list, tuple)) else list(args)
        states = given
        if cell.preprocessor is not None:
            states = self._inline(cell.preprocessor, (given,), {}, f"{path}.preprocessor", (*place, 0))
            if isinstance(states, Ref):
                whole = states.index
                states = [self.emit(Node(f"item {i}", (whole,))) for i in range(cell.num_predecessors)]
        states = list(states)
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
            output = self._inline(cell.postprocessor, (output, given), {}, where, (*place, 1))
        return output

    # -- functions -------------------------------------------------------------------------------

    def _function(self, step: Step, args: Any, kwargs: dict[str, Any]) -> Any:
        name = step.name
        if name == "_operator.getitem" and isinstance(args[0], (list, tuple, dict)):
            return args[0][args[1]]
        if name in _CONCATENATIONS and args and set(kwargs) <= {"dim"}:
            return self._concatenated(args[0], kwargs.get("dim", (*args[1:], 0)[0]))
        for kind, names in (("sum", _SUMS), ("product", _PRODUCTS)):
            if name in names and not kwargs and all(map(self._is_operand, args)):
                # Python's `sum` starts from 0.
                terms = [a for a in args if not (kind == "sum" and a == 0 and type(a) is int)]
                if len(terms) == 1:
                    return terms[0]
                inputs = tuple(self._operand(term) for term in terms)
                return self.emit(Node("", inputs, kind), mutates=step.mutates)  # type: ignore[arg-type]
        refs: list[int] = []
        text = spelt((args, kwargs), refs)
        result = self.emit(Node(digest(name + text), tuple(refs)), mutates=step.mutates)
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

    def in_order(self) -> list[Node]:
        """The nodes, with an edge wherever one must run after another because of a change in place.

        A node that changes a value in place runs after those that use the value before it, and
        before those that use it after. Views of the value are not followed.
        """
        if not self._mutating:
            return self.nodes
        users: dict[int, list[int]] = {}
        for v, node in enumerate(self.nodes):
            for i in dict.fromkeys(node.inputs):
                users.setdefault(i, []).append(v)
        after: dict[int, list[int]] = {}
        for v in self._mutating:
            for i in dict.fromkeys(self.nodes[v].inputs):
                for user in users[i]:
                    if user != v:
                        after.setdefault(max(user, v), []).append(min(user, v))
        result = list(self.nodes)
        for v, earlier in after.items():
            node = result[v]
            if node.kind != "zero":
                text = f"{node.kind} {node.descriptor} after {len(earlier)}"
                result[v] = node._replace(
                    descriptor=text, inputs=(*node.inputs, *sorted(earlier)), kind="operation"
                )
        return result


def looked_up(value: Any, env: Mapping[fx.Node, Any]) -> Any:
    """Arguments of a traced step, with the values of its inputs in their places."""
    return replaced(value, lambda leaf: env[leaf] if isinstance(leaf, fx.Node) else leaf)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
