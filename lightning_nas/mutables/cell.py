"""Cells: small graphs whose operations and wiring are chosen, and the plain class they leave behind."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from lightning_nas.errors import SpaceError
from lightning_nas.mutables.choice import Branch, Choice, Factory, candidates_of, stage_of
from lightning_nas.space import Categorical, Domain, Subset

Edge = tuple[Any, int]
"""An operation (a key or an index of the candidates) and the state it is applied to."""


class ChosenCell(nn.Module):
    """A cell with its operations and wiring settled.

    States are numbered: first the inputs, then the nodes. A node is the sum of its edges; each
    edge applies an operation to an earlier state.

    Args:
        operations: candidates by key or index: modules (copied), or functions of the indices of
            node, edge and state that make one.
        nodes: the edges of each node, `(operation, state)`.
        num_predecessors: how many inputs the cell has.
        concat: the states that make up the output, concatenated.
        preprocessor: turns the list of inputs into the list of the first states; None leaves it.
        postprocessor: turns the output and the list of inputs into what the cell returns.
        concat_dim: the axis of the concatenation.
    """

    def __init__(
        self,
        operations: Sequence[Any] | Mapping[Any, Any],
        nodes: Sequence[Sequence[Edge]],
        num_predecessors: int,
        concat: Sequence[int],
        preprocessor: Callable[[list[torch.Tensor]], list[torch.Tensor]] | None = None,
        postprocessor: Callable[[torch.Tensor, list[torch.Tensor]], Any] | None = None,
        concat_dim: int = 1,
    ) -> None:
        super().__init__()
        self.preprocessor = preprocessor
        self.operations: Any = nn.ModuleList()
        for node, edges in enumerate(nodes, start=num_predecessors):
            made = nn.ModuleList()
            for k, (name, state) in enumerate(edges):
                operation = operations[name]
                is_module = isinstance(operation, nn.Module)
                made.append(copy.deepcopy(operation) if is_module else operation(node, k, state))
            self.operations.append(made)
        self.postprocessor = postprocessor
        self.states = [[state for _, state in edges] for edges in nodes]
        self.num_predecessors = num_predecessors
        self.concat = list(concat)
        self.concat_dim = concat_dim

    def forward(self, *inputs: Any) -> Any:
        """Takes the inputs one by one or as one list."""
        given = list(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)) else list(inputs)
        states = list(given) if self.preprocessor is None else list(self.preprocessor(given))
        for operations, sources in zip(self.operations, self.states):
            edges = [operation(states[source]) for operation, source in zip(operations, sources)]
            total = edges[0]
            for edge in edges[1:]:
                total = total + edge
            states.append(total)
        output = torch.cat([states[i] for i in self.concat], dim=self.concat_dim)
        return output if self.postprocessor is None else self.postprocessor(output, given)


class Cell(Choice):
    """A small directed graph: each node sums chosen operations on chosen earlier states.

    Labels are NNI's, for node i (counted from `num_predecessors`) and its edge k:
    `{label}/op_{i}_{k}` and `{label}/input_{i}_{k}`. Cells of one label are alike. A built model
    has a `ChosenCell` in its place. Used as it is, it takes the first operation on the first states.

    Args:
        op_candidates: operations, as a list (the sample holds the index) or a dict (the key): modules,
            of which each edge gets a copy, or functions `(node, edge, state) -> module`.
        num_nodes: nodes that compute, at least 1.
        num_ops_per_node: edges into each node.
        num_predecessors: inputs of the cell, the first states.
        merge_op: what the output concatenates: "all" nodes, the nodes at a "loose_end" (used by
            no other), or a list of states.
        preprocessor: turns the list of inputs into the list of the first states (a module or function).
        postprocessor: turns the output and the list of inputs into what the cell returns.
        concat_dim: the axis of the concatenation.
        label: the common start of its labels.
        distinct: choose the states of a node together, all different: one label
            `{label}/input_{i}` holding a sorted list, as the DARTS paper counts.

    Raises:
        SpaceError: if there are no candidates, a count is below 1, `distinct` asks for more states than
            there are, or `merge_op` is none of these.
        TypeError: without a label.

    Shape: as the operations make it; the output has the nodes' size times their number along `concat_dim`.

    Source: NASNet's search space (Zoph et al., CVPR 2018); names as in Retiarii's `nn.Cell`.
    """

    def __init__(
        self,
        op_candidates: Sequence[nn.Module | Factory] | Mapping[str, nn.Module | Factory],
        num_nodes: int,
        num_ops_per_node: int = 1,
        num_predecessors: int = 1,
        merge_op: str | Sequence[int] = "all",
        preprocessor: Callable[[list[torch.Tensor]], list[torch.Tensor]] | None = None,
        postprocessor: Callable[[torch.Tensor, list[torch.Tensor]], Any] | None = None,
        concat_dim: int = 1,
        *,
        label: str | None = None,
        distinct: bool = False,
    ) -> None:
        if label is None:
            raise TypeError("A Cell needs a label, the common start of its labels, such as 'normal'.")
        super().__init__(label, sys._getframe(1))
        named = candidates_of("Cell", op_candidates, self.site)
        keyed = isinstance(op_candidates, Mapping)
        if min(num_nodes, num_ops_per_node, num_predecessors) < 1:
            raise SpaceError(
                f"Cell at {self.site}: all counts must be at least 1, but got "
                f"({num_nodes=}, {num_ops_per_node=}, {num_predecessors=})."
            )
        if distinct and num_ops_per_node > num_predecessors:
            raise SpaceError(
                f"Cell at {self.site}: distinct states need `num_ops_per_node <= num_predecessors`, but got "
                f"({num_ops_per_node=}, {num_predecessors=})."
            )
        states = num_predecessors + num_nodes
        is_list = (
            not isinstance(merge_op, str) and all(0 <= s < states for s in merge_op) and len(merge_op) > 0
        )
        if merge_op not in ("all", "loose_end") and not is_list:
            raise SpaceError(
                f"Cell at {self.site}: `merge_op` must be 'all', 'loose_end' or states below {states}, "
                f"but got {merge_op!r}."
            )
        for name, candidate in named.items():
            if isinstance(candidate, nn.Module):
                _label_inside(candidate, f"{label}/{name}")
        self.op_candidates = dict(zip(named if keyed else range(len(named)), named.values()))
        self._names = tuple(self.op_candidates)
        self.num_predecessors = num_predecessors
        self.num_ops_per_node = num_ops_per_node
        self.nodes = range(num_predecessors, states)
        self.merge_op = merge_op
        self.concat_dim = concat_dim
        self.distinct = distinct
        self.preprocessor = preprocessor
        self.postprocessor = postprocessor
        self._made: nn.Module | None = None
        stage = stage_of(self)
        if stage == "explore":
            self.choose(label)
            for _, clause, get in self._edge_branches(label):
                self.explore(clause, get)
        elif stage == "decided":
            self._made = self._make(self.choose(label), label)
        elif stage == "default":
            self.default = self._make({n: d.default for n, d in self.domains(label).items()}, label)

    def domains(self, label: str) -> dict[str, Domain]:
        domains: dict[str, Domain] = {}
        for node in self.nodes:
            for k in range(self.num_ops_per_node):
                domains[f"{label}/op_{node}_{k}"] = Categorical(self._names)
                if not self.distinct:
                    domains[f"{label}/input_{node}_{k}"] = Categorical(tuple(range(node)))
            if self.distinct:
                domains[f"{label}/input_{node}"] = Subset(tuple(range(node)), self.num_ops_per_node)
        return domains

    def genotype(self, values: Mapping[str, Any], label: str) -> list[list[Edge]]:
        """The edges `(operation, state)` of each node under a sample's values."""
        nodes = []
        for node in self.nodes:
            slots = range(self.num_ops_per_node)
            if self.distinct:
                states = list(values[f"{label}/input_{node}"])
            else:
                states = [values[f"{label}/input_{node}_{k}"] for k in slots]
            nodes.append([(values[f"{label}/op_{node}_{k}"], states[k]) for k in slots])
        return nodes

    def outputs(self, nodes: Sequence[Sequence[Edge]]) -> list[int]:
        """The states that the output concatenates, given the edges of each node."""
        if self.merge_op == "all":
            return list(self.nodes)
        if self.merge_op == "loose_end":
            used = {state for edges in nodes for _, state in edges}
            return [node for node in self.nodes if node not in used]
        return list(cast(Sequence[int], self.merge_op))

    def _make(self, values: Mapping[str, Any], label: str) -> ChosenCell:
        nodes = self.genotype(values, label)
        return ChosenCell(
            self.op_candidates,
            nodes,
            self.num_predecessors,
            self.outputs(nodes),
            self.preprocessor,
            self.postprocessor,
            self.concat_dim,
        )

    def chosen(self, values: Mapping[str, Any], label: str) -> nn.Module:
        return self._make(values, label) if self._made is None else self._made

    def origins(self, module: nn.Module, label: str) -> Iterable[tuple[str, nn.Module]]:
        for node, operations in zip(self.nodes, cast(ChosenCell, module).operations):
            for k, operation in enumerate(operations):
                yield f"{label}/op_{node}_{k}", operation

    def made(self) -> Iterable[tuple[str, nn.Module]]:
        yield "", self.default

    def branches(self, label: str) -> Iterable[Branch]:
        for name in ("preprocessor", "postprocessor"):
            part = getattr(self, name)
            if isinstance(part, nn.Module):
                yield name, {}, partial(_same, part)
        yield from self._edge_branches(label)

    def _edge_branches(self, label: str) -> Iterable[Branch]:
        """Every operation in every slot, on the first and on the last state it may be applied to."""
        for node in self.nodes:
            for k in range(self.num_ops_per_node):
                for name in self._names:
                    clause = {f"{label}/op_{node}_{k}": (name,)}
                    for state in {0, node - 1}:
                        path = f"operations.{node - self.num_predecessors}.{k}"
                        yield path, clause, self._operation(name, node, k, state)

    def _operation(self, name: Any, node: int, k: int, state: int) -> Callable[[], nn.Module]:
        candidate = self.op_candidates[name]
        if isinstance(candidate, nn.Module):
            return partial(_same, candidate)
        return partial(candidate, node, k, state)

    def forward(self, *inputs: Any) -> Any:
        return self.default(*inputs)


def _label_inside(candidate: nn.Module, prefix: str) -> None:
    """Labels the choices inside a candidate, in place: its copies stand at paths that depend on what is chosen."""
    for path, module in candidate.named_modules():
        if isinstance(module, Choice) and module.label is None:
            module.label = f"{prefix}.{path}" if path else prefix


def _same(module: nn.Module) -> nn.Module:
    return module
