"""Mixed operations: what stands in a supernet where a choice stood in the model space.

Each keeps all candidates of its choice and sums what they put out, weighted by a tensor that it is
given before each forward pass. Parameters keep the names they had below the choice.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from lightning_nas.errors import SpaceError
from lightning_nas.hub.operations import PartialChannels
from lightning_nas.mutables import Cell, Choice, InputChoice, LayerChoice, Repeat, Zero
from lightning_nas.oneshot.fast_cell import FastCell, fast_cell
from lightning_nas.trial import Sample


class Relaxed(nn.Module, ABC):
    """A module whose output depends on weights of candidates, by label."""

    @abstractmethod
    def receive(self, weights: Mapping[str, Tensor]) -> None:
        """Takes the weights to use from now on. Changes itself."""

    @abstractmethod
    def follow(self, sample: Mapping[str, Any] | None) -> None:
        """From now on computes what `sample` says, without weights; None goes back to the mixture. Changes itself."""


class Mixed(Relaxed):
    """All candidates of one choice.

    Args:
        label: of the choice; the alphas are shared by label.
        shape: of the alphas: (k,), or (edges, k) for a cell.
        names: of the k candidates.
        rows: what each row of the alphas stands for, for people; one empty text where there is one row.
    """

    def __init__(
        self, label: str, shape: tuple[int, ...], names: Sequence[str], rows: Sequence[str] = ("",)
    ) -> None:
        super().__init__()
        self.label = label
        self.shape = shape
        self.names = tuple(names)
        self.rows = tuple(rows)
        self.weights: Tensor | None = None
        self.hard: tuple[int, ...] | None = None
        self.path: Any = None

    def receive(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights[self.label]

    def follow(self, sample: Mapping[str, Any] | None) -> None:
        try:
            path = None if sample is None else self.path_in(sample)
        except KeyError:  # it stands in a part that the sample leaves out
            path = None
        # Past `nn.Module`, which would take a candidate in a second time, and write it to checkpoints so.
        vars(self)["path"] = path

    def activate(self, alpha: Tensor) -> Tensor:
        """Alphas to weights: softmax over the candidates."""
        return alpha.softmax(-1)

    @abstractmethod
    def path_in(self, sample: Mapping[str, Any]) -> Any:
        """What `follow` keeps of a sample."""

    @abstractmethod
    def derive(self, weights: Tensor) -> Sample:
        """The values of its labels that `weights` (on the CPU) speak for."""

    @abstractmethod
    def kept(self, sample: Mapping[str, Any]) -> Iterable[nn.Module]:
        """The parts that are left under a derived sample; choices elsewhere are not active."""

    def extra_repr(self) -> str:
        return f"label={self.label!r}"


def add(total: Tensor | None, weight: Tensor | None, output: Any, label: str) -> Tensor:
    """`total + weight * output`; the weight may be None for 1, the total None for 0.

    Raises:
        SpaceError: if the output is no tensor, or its shape is not the total's.
    """
    if not isinstance(output, Tensor):
        raise SpaceError(
            f"A supernet adds up tensors, but a candidate of {label!r} puts out a {type(output).__name__}."
        )
    if total is not None and total.shape != output.shape:
        raise SpaceError(
            f"A supernet needs candidates of one output shape, but those of {label!r} put out "
            f"{tuple(total.shape)} and {tuple(output.shape)}."
        )
    term: Tensor = output if weight is None else weight * output
    return term if total is None else total + term


class MixedLayer(Mixed):
    """The candidates of a `LayerChoice`; alphas (k,)."""

    def __init__(self, choice: LayerChoice, label: str) -> None:
        names = choice.candidates
        super().__init__(label, (len(names),), names)
        domain = choice.domains(label)[label]
        self.values = tuple(cast(Iterable[Any], domain))
        for name in names:
            self.add_module(name, choice.candidate(name))

    def path_in(self, sample: Mapping[str, Any]) -> nn.Module:
        return cast(nn.Module, self._modules[str(sample[self.label])])

    def derive(self, weights: Tensor) -> Sample:
        return {self.label: self.values[int(weights.argmax())]}

    def kept(self, sample: Mapping[str, Any]) -> Iterable[nn.Module]:
        return [self.path_in(sample)]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.path is not None:
            return self.path(*args, **kwargs)
        weights = weights_of(self)
        total: Tensor | None = None
        for i in range(len(self.names)) if self.hard is None else self.hard:
            candidate = cast(nn.Module, self._modules[self.names[i]])
            # Zeros add nothing, unless there is nothing else.
            if isinstance(candidate, Zero) and self.hard is None and not self._is_all_zero():
                continue
            total = add(total, weights[i], candidate(*args, **kwargs), self.label)
        return total

    def _is_all_zero(self) -> bool:
        return all(isinstance(self._modules[name], Zero) for name in self.names)


def weights_of(mixed: Mixed) -> Tensor:
    """The weights that a mixed operation was given.

    Raises:
        RuntimeError: if it was given none: the supernet is used outside a search.
    """
    if mixed.weights is None:
        raise RuntimeError(
            f"The supernet has no weights for {mixed.label!r} yet; they are set by its search."
        )
    return mixed.weights


class MixedInputs(Mixed):
    """The inputs of an `InputChoice`; alphas (n,).

    One input of n: softmax, and the strongest is derived. m of n: m times the softmax, so that the sum
    has the scale it will have, and the m strongest. Any number: each its own sigmoid, those above 1/2.

    Raises:
        SpaceError: if the reduction is not a sum or mean where several inputs are chosen.
    """

    def __init__(self, choice: InputChoice, label: str) -> None:
        n = choice.n_candidates
        super().__init__(label, (n,), [str(i) for i in range(n)])
        if choice.n_chosen != 1 and choice.reduction not in ("sum", "mean"):
            raise SpaceError(
                f"The InputChoice {label!r} ({choice.site}) cannot be searched in one shot: what reduction="
                f"{choice.reduction!r} puts out depends on which inputs are chosen; use 'sum' or 'mean'."
            )
        self.n_chosen = choice.n_chosen
        self.reduction = choice.reduction

    def activate(self, alpha: Tensor) -> Tensor:
        if self.n_chosen is None:
            return alpha.sigmoid()
        return alpha.softmax(-1) * self.n_chosen

    def path_in(self, sample: Mapping[str, Any]) -> list[int]:
        value = sample[self.label]
        return [value] if self.n_chosen == 1 else list(value)

    def derive(self, weights: Tensor) -> Sample:
        if self.n_chosen == 1:
            return {self.label: int(weights.argmax())}
        if self.n_chosen is None:
            return {self.label: [i for i, w in enumerate(weights.tolist()) if w > 0.5]}
        return {self.label: sorted(weights.topk(self.n_chosen).indices.tolist())}

    def kept(self, sample: Mapping[str, Any]) -> Iterable[nn.Module]:
        return ()

    def forward(self, inputs: Sequence[Tensor]) -> Any:
        if len(inputs) != len(self.names):
            raise ValueError(f"InputChoice takes a list of {len(self.names)} tensors, but got {len(inputs)}.")
        total: Tensor | None = None
        scale: Any = 1
        if self.path is not None:
            for i in self.path:
                total = add(total, None, inputs[i], self.label)
            scale = max(len(self.path), 1)
        else:
            weights = weights_of(self)
            for i in range(len(inputs)) if self.hard is None else self.hard:
                total = add(total, weights[i], inputs[i], self.label)
            scale = weights.sum() if self.n_chosen is None else self.n_chosen
        if total is None:
            return None
        if self.reduction == "mean":
            total = total / scale
        return [total] if self.reduction == "none" else total


class MixedRepeat(Mixed):
    """The depths of a `Repeat`; alphas (k,), one for each depth. All blocks put out one shape.

    Args:
        choice, label: the choice of depth.
        depths: the candidates; those of the choice's own label if None.
    """

    def __init__(self, choice: Repeat, label: str, depths: Sequence[int] | None = None) -> None:
        depths = tuple(cast(Iterable[int], choice.domains(label)[label]) if depths is None else depths)
        super().__init__(label, (len(depths),), [str(depth) for depth in depths])
        self.depths = depths
        for index in range(max(depths)):
            self.add_module(str(index), choice.block(index))

    def path_in(self, sample: Mapping[str, Any]) -> int:
        return int(sample[self.label])

    def derive(self, weights: Tensor) -> Sample:
        return {self.label: self.depths[int(weights.argmax())]}

    def kept(self, sample: Mapping[str, Any]) -> Iterable[nn.Module]:
        return [cast(nn.Module, self._modules[str(i)]) for i in range(self.path_in(sample))]

    def forward(self, x: Any) -> Any:
        if self.path is not None:
            for index in range(self.path):
                x = self._block(index)(x)
            return x
        weights = weights_of(self)
        used = [self.depths[i] for i in range(len(self.depths)) if self.hard is None or i in self.hard]
        total: Tensor | None = None
        for depth in range(max(used) + 1):
            if depth > 0:
                x = self._block(depth - 1)(x)
            if depth in used:
                total = add(total, weights[self.depths.index(depth)], x, self.label)
        return total

    def _block(self, index: int) -> nn.Module:
        return cast(nn.Module, self._modules[str(index)])


class MixedCell(Mixed):
    """A whole `Cell`: every operation on every edge; alphas (edges, k), edges ordered by node, then state.

    Derived by the paper's rule: a node keeps the states whose best operation other than `none` (an
    `nn.Zero`) weighs most, strongest first, each with that operation.

    Args:
        choice, label: the cell and the common start of its labels.

    Attributes:
        fast: share work between edges (see `fast_cell.py`) where every candidate is one of the hub's; it
            looks at them anew whenever the mode changes. Hooks of candidates are kept to the plain path.

    Raises:
        SpaceError: if the cell concatenates its loose ends, or an operation made by a function holds a
            choice without a label.

    Source: Liu et al., "DARTS", ICLR 2019 (arXiv:1806.09055), section 2.2 and 2.4. Unlike the paper, a
    node with fewer states than edges takes the next best operations of the same states.
    """

    def __init__(self, choice: Cell, label: str) -> None:
        keys = tuple(choice.op_candidates)
        edges = [(node, state) for node in choice.nodes for state in range(node)]
        rows = [f"{node}_{state}" for node, state in edges]
        super().__init__(label, (len(edges), len(keys)), [str(key) for key in keys], rows)
        if choice.merge_op == "loose_end":
            raise SpaceError(
                f"The Cell {label!r} ({choice.site}) cannot be searched in one shot with merge_op='loose_end': "
                "what it puts out depends on its wiring; use 'all' or a list of states."
            )
        self.keys = keys
        self.edges = edges
        self.nodes = choice.nodes
        self.num_ops_per_node = choice.num_ops_per_node
        self.num_predecessors = choice.num_predecessors
        self.is_distinct = choice.distinct
        self.concat = choice.outputs([])
        self.concat_dim = choice.concat_dim
        self.preprocessor = choice.preprocessor
        self.operations = nn.ModuleDict()
        for node, state in edges:
            made = nn.ModuleDict()
            for key in keys:
                candidate = choice.op_candidates[key]
                if isinstance(candidate, nn.Module):
                    made[str(key)] = copy.deepcopy(candidate)
                else:
                    made[str(key)] = candidate(node, min(state, self.num_ops_per_node - 1), state)
                    _reject_unlabelled(made[str(key)], label, key)
            self.operations[f"{node}_{state}"] = made
        self.postprocessor = choice.postprocessor
        self.is_none = tuple(
            all(isinstance(_inner(self._on(edge)[i]), Zero) for edge in edges) for i in range(len(keys))
        )
        self.fast = False
        self._fast_cell: FastCell | None = None
        self._has_looked = False

    def train(self, mode: bool = True) -> MixedCell:
        super().train(mode)
        self._has_looked = False
        if self._compiled_call_impl is not None:
            self._look()
        return self

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As `nn.Module.compile`: the cell's own forward pass, in place."""
        self._look()  # while it is compiled, that would take minutes and cut the cell in pieces
        super().compile(*args, **kwargs)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _look(self) -> None:
        """Looks at the operations: can they be computed fast?"""
        is_uniform = all(part.training == self.training for part in self.operations.modules())
        form = fast_cell(self._on, self.edges, self.num_predecessors) if is_uniform else None
        # What has not changed stays: CUDA graphs and compiled code refer to its tensors.
        if form is None or self._fast_cell is None or form.groups != self._fast_cell.groups:
            self._fast_cell = form
        self._has_looked = True

    def _fast_form(self, states: Sequence[Tensor]) -> FastCell | None:
        """What computes the mixture fast, or None if the plain path must."""
        if not self.fast or self.hard is not None:
            return None
        if not self._has_looked:
            self._look()
        fits = self._fast_cell is not None and self._fast_cell.takes(states)
        return self._fast_cell if fits else None

    def _on(self, edge: tuple[int, int]) -> list[nn.Module]:
        """The operations on an edge, in order."""
        return list(cast(nn.ModuleDict, self.operations[f"{edge[0]}_{edge[1]}"]).values())

    def parameter_free(self) -> tuple[bool, ...]:
        """Which operations have no weights, on one edge at least."""
        return tuple(
            any(next(self._on(edge)[i].parameters(), None) is None for edge in self.edges)
            for i in range(len(self.keys))
        )

    def path_in(self, sample: Mapping[str, Any]) -> list[list[tuple[int, int]]]:
        """For each node its edges as (state, index of the operation)."""
        nodes = []
        for node in self.nodes:
            slots = range(self.num_ops_per_node)
            if self.is_distinct:
                states = list(sample[f"{self.label}/input_{node}"])
            else:
                states = [sample[f"{self.label}/input_{node}_{k}"] for k in slots]
            operations = [self.keys.index(sample[f"{self.label}/op_{node}_{k}"]) for k in slots]
            nodes.append(list(zip(states, operations)))
        return nodes

    def derive(self, weights: Tensor) -> Sample:
        sample: Sample = {}
        for node in self.nodes:
            chosen = strongest_edges(self._table(weights, node), self.is_none, self.num_ops_per_node)
            if self.is_distinct:
                chosen.sort()
                sample[f"{self.label}/input_{node}"] = [state for state, _ in chosen]
            for k, (state, operation) in enumerate(chosen):
                sample[f"{self.label}/op_{node}_{k}"] = self.keys[operation]
                if not self.is_distinct:
                    sample[f"{self.label}/input_{node}_{k}"] = state
        return sample

    def _table(self, weights: Tensor, node: int) -> list[list[float]]:
        """The weights of a node's edges, one row per state."""
        first = self.edges.index((node, 0))
        return cast("list[list[float]]", weights[first : first + node].tolist())

    def kept(self, sample: Mapping[str, Any]) -> Iterable[nn.Module]:
        parts = [part for part in (self.preprocessor, self.postprocessor) if isinstance(part, nn.Module)]
        for node, edges in zip(self.nodes, self.path_in(sample)):
            parts += [self._on((node, state))[operation] for state, operation in edges]
        return parts

    def forward(self, *inputs: Any) -> Any:
        """Takes the inputs one by one or as one list."""
        given = list(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)) else list(inputs)
        states = list(given) if self.preprocessor is None else list(self.preprocessor(given))
        if self.path is not None:
            nodes = self._followed(states)
        elif (fast := self._fast_form(states)) is not None:
            nodes = fast(states, weights_of(self), self.training)
        else:
            nodes = self._mixed(states)
        states += nodes
        output = torch.cat([states[i] for i in self.concat], dim=self.concat_dim)
        return output if self.postprocessor is None else self.postprocessor(output, given)

    def _followed(self, states: list[Tensor]) -> list[Tensor]:
        known = list(states)
        for node, edges in zip(self.nodes, self.path):
            total: Tensor | None = None
            for state, operation in edges:
                total = add(total, None, self._on((node, state))[operation](known[state]), self.label)
            known.append(cast(Tensor, total))
        return known[len(states) :]

    def _mixed(self, states: list[Tensor]) -> list[Tensor]:
        weights = weights_of(self)
        known = list(states)
        row = 0
        for node in self.nodes:
            total: Tensor | None = None
            for state in range(node):
                total = self._add_edge(total, (node, state), weights[row], row, known[state])
                row += 1
            if total is None:  # nothing but `none` on every edge
                total = cast(Tensor, self._on((node, 0))[self.is_none.index(True)](known[0]))
            known.append(total)
        return known[len(states) :]

    def _add_edge(
        self, total: Tensor | None, edge: tuple[int, int], weights: Tensor, row: int, x: Tensor
    ) -> Tensor | None:
        """`total` plus the mixture on one edge; operations on a part of the channels share what passes by."""
        operations = self._on(edge)
        used = range(len(operations)) if self.hard is None else (self.hard[row],)
        first = operations[used[0]]
        if not isinstance(first, PartialChannels):
            for i in used:
                if not self.is_none[i]:
                    total = add(total, weights[i], operations[i](x), self.label)
            return total
        part, rest = first.split(x)
        worked: Tensor | None = None
        for i in used:
            if not self.is_none[i] or worked is None:
                worked = add(worked, weights[i], _inner(operations[i])(part), self.label)
        scale = weights.sum() if self.hard is None else weights[used[0]]
        return add(total, None, first.join(cast(Tensor, worked), scale * rest), self.label)


def _inner(operation: nn.Module) -> nn.Module:
    """What works on the channels: the operation itself, or that on a part of them."""
    return operation.operation if isinstance(operation, PartialChannels) else operation


def strongest_edges(
    table: Sequence[Sequence[float]], is_none: Sequence[bool], n: int
) -> list[tuple[int, int]]:
    """The n edges a node keeps, strongest first, as (state, operation).

    Args:
        table: weights, one row per state and one column per operation.
        is_none: which operations are no connection, and so never kept unless there is nothing else.
        n: edges to keep. Where there are fewer states, the next best operations fill up.

    Source: Liu et al., "DARTS", ICLR 2019, section 2.4; ties go to the earlier state and operation.
    """
    allowed = [i for i, none in enumerate(is_none) if not none] or list(range(len(is_none)))
    pairs = [(state, i) for state in range(len(table)) for i in allowed]
    pairs.sort(key=lambda pair: -table[pair[0]][pair[1]])
    best: dict[int, tuple[int, int]] = {}
    for pair in pairs:
        best.setdefault(pair[0], pair)
    chosen = list(best.values())[:n]
    rest = [pair for pair in pairs if pair not in chosen]
    while len(chosen) < n:
        chosen.append(rest.pop(0) if rest else chosen[0])
    return chosen


def _reject_unlabelled(operation: nn.Module, label: str, key: Any) -> None:
    for module in operation.modules():
        if isinstance(module, Choice) and module.label is None:
            raise SpaceError(
                f"The choice at {module.site}, inside the operation {key!r} of the cell {label!r}, needs a label: "
                "in a supernet each edge has its own copy of it."
            )
