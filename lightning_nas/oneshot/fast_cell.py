"""A whole cell at once: the edges that leave one state share their work.

Of all edges from a state, pools and their batch-norms are computed once, as is the skip connection; `none`
never; the convolutions of one kind run as one grouped convolution; and a candidate's weight is the scale of
its last batch-norm, which has none of its own. The states that are there from the start go together.

The weights stay parameters of the candidates and are joined anew in each forward pass: one `cat` for a cell,
whose backward hands each parameter a view. So names, state dicts, optimizers, DDP and `Supernet.follow` know
nothing of the fast path. Stacked parameters would save less than 2 % of a small step (batch 16, C=8, L=5), and
less of a large one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_nas.hub.operations import (
    DilConv,
    FactorizedReduce,
    PoolBN,
    SepConv,
    avg_pool_3x3,
    max_pool_3x3,
)
from lightning_nas.mutables import Zero
from lightning_nas.oneshot.fast_ops import Shared, depthwise, join_rows, spread

Signature = tuple[Any, ...]

# Where the hub's operations keep their convolutions and batch-norms.
CONVOLUTIONS = {"separable": ("1", "2", "5", "6"), "dilated": ("1", "2"), "reduce": ("conv_1", "conv_2")}
NORMS = {"separable": ("3", "7"), "dilated": ("3",), "pool": ("1",), "reduce": ("bn",)}


def signature(module: nn.Module) -> Signature | None:
    """What a module computes, up to its weights: the types and settings of its parts; None if a part has hooks."""
    parts = list(module.named_modules())
    if any(_is_changed(part) for _, part in parts):
        return None
    return tuple((name, type(part), part.extra_repr()) for name, part in parts)


def _is_changed(module: nn.Module) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" in vars(module) or any(getattr(module, name) for name in hooks)


class Form(NamedTuple):
    """What a known operation is: its kind, stride, and the module it looks like."""

    kind: str
    stride: int
    settings: Signature


@cache
def _known(c: int) -> dict[Signature, Form]:
    """The hub's operations on c channels in their form for the search."""
    known: dict[Signature, Form] = {}

    def add(kind: str, stride: int, module: nn.Module) -> None:
        found = cast(Signature, signature(module))
        known[found] = Form(kind, stride, found)

    with torch.device("meta"):
        add("skip", 1, nn.Identity())
        if c % 2 == 0:
            add("reduce", 2, FactorizedReduce(c, c, affine=False))
        for stride in (1, 2):
            add("none", stride, Zero(stride))
            for pool in (max_pool_3x3(stride), avg_pool_3x3(stride)):
                add("pool", stride, PoolBN(pool, c))
            for kernel in (3, 5, 7):
                add("separable", stride, SepConv(c, kernel, stride, affine=False))
                add("dilated", stride, DilConv(c, kernel, stride, affine=False))
    return known


@dataclass(frozen=True)
class Part:
    """One candidate on all edges of a group.

    Attributes:
        form: what it is.
        column: where its weights stand among those of an edge.
        operations: on the group's edges, ordered by state, then node.
        rows: where these edges stand in the cell.
    """

    form: Form
    column: int
    operations: tuple[Any, ...]
    rows: tuple[int, ...]

    @property
    def kind(self) -> str:
        return self.form.kind

    def convolutions(self) -> list[list[nn.Conv2d]]:
        """Those that run as one."""
        names = CONVOLUTIONS.get(self.kind, ())
        return [[operation.get_submodule(name) for operation in self.operations] for name in names]

    def norms(self) -> list[list[nn.BatchNorm2d]]:
        """Those that run as one."""
        names = NORMS.get(self.kind, ())
        return [[operation.get_submodule(name) for operation in self.operations] for name in names]


@dataclass(frozen=True)
class Group:
    """States that are known at the same time, and their edges, the same for each.

    Attributes:
        states: their numbers.
        nodes: the targets of each state's edges, in order.
        stride: of all edges.
        parts: the candidates other than `none`.
    """

    states: tuple[int, ...]
    nodes: tuple[int, ...]
    stride: int
    parts: tuple[Part, ...]

    def joined(self, other: Group) -> Group | None:
        """Both in one, or None if they differ in more than their states."""

        def what(group: Group) -> Any:
            return group.nodes, group.stride, [(part.form, part.column) for part in group.parts]

        if what(self) != what(other):
            return None
        parts = tuple(
            Part(a.form, a.column, a.operations + b.operations, a.rows + b.rows)
            for a, b in zip(self.parts, other.parts)
        )
        return Group(self.states + other.states, self.nodes, self.stride, parts)

    @property
    def mixed(self) -> list[Part]:
        """The candidates without convolutions: their edges differ in the candidate's weight alone."""
        return [part for part in self.parts if part.kind in ("pool", "skip")]

    def matrix_order(self) -> list[tuple[int, int]]:
        """Where the weights of `mixed` stand: for each node, candidate and state."""
        n, edges = len(self.states), len(self.nodes)
        return [
            (part.rows[s * edges + k], part.column)
            for k in range(edges)
            for part in self.mixed
            for s in range(n)
        ]


@dataclass
class Values:
    """What a part computes with in one forward pass.

    Attributes:
        weights: one stack for each of its convolutions.
        norms: mean and variance for each of its batch-norms: those to use, or in training zeros to write to.
        scale: the weight of the candidate on each channel; None for a skip connection.
    """

    weights: list[Tensor]
    norms: list[tuple[Tensor, Tensor]]
    scale: Tensor | None


def fast_cell(
    operations: Callable[[tuple[int, int]], Sequence[nn.Module]],
    edges: Sequence[tuple[int, int]],
    n_inputs: int,
) -> FastCell | None:
    """The fast form of a cell, or None if a candidate is not one of the hub's, in its form for the search.

    Args:
        operations: the candidates of an edge (node, state), in order.
        edges: all of them, ordered by node, then state.
        n_inputs: the states that are known from the start.
    """
    norms = (
        module
        for edge in edges
        for operation in operations(edge)
        for module in operation.modules()
        if isinstance(module, nn.BatchNorm2d)
    )
    c = next((norm.num_features for norm in norms), None)
    if c is None:
        return None
    groups: list[Group] = []
    for state in sorted({state for _, state in edges}):
        group = _group(state, operations, edges, c)
        if group is None:
            return None
        both = groups[-1].joined(group) if groups and state < n_inputs else None
        if both is None:
            groups.append(group)
        else:
            groups[-1] = both
    return FastCell(groups, c, len(operations(edges[0])))


def _group(
    state: int,
    operations: Callable[[tuple[int, int]], Sequence[nn.Module]],
    edges: Sequence[tuple[int, int]],
    c: int,
) -> Group | None:
    """The edges that leave one state, or None if they are not alike or not known."""
    rows = tuple(row for row, edge in enumerate(edges) if edge[1] == state)
    parts = []
    strides = set()
    for i, column in enumerate(zip(*(operations(edges[row]) for row in rows))):
        forms = {_known(c).get(signature(operation) or ()) for operation in column}
        form = forms.pop()
        if form is None or forms:
            return None
        strides.add(form.stride)
        if form.kind != "none":
            parts.append(Part(form, i, column, rows))
    if not parts or len(strides) > 1:
        return None
    return Group((state,), tuple(edges[row][0] for row in rows), strides.pop(), tuple(parts))


class FastCell:
    """Computes the nodes of a cell; see the module's docstring. `fast_cell` makes it.

    Args:
        groups: the cell's edges, earlier states first.
        c: channels of every state.
        n_candidates: of an edge.
    """

    def __init__(self, groups: list[Group], c: int, n_candidates: int) -> None:
        self.groups = groups
        self.c = c
        self.parts = [part for group in groups for part in group.parts]
        stacks = [stack for part in self.parts for stack in part.convolutions()]
        self._convolutions = [convolution for stack in stacks for convolution in stack]
        self._shapes = [(len(s) * len(s[0].weight), *s[0].weight.shape[1:]) for s in stacks]
        self.norms = [norms for part in self.parts for norms in part.norms()]
        first: Any = self.norms[0][0]
        self.eps, self.momentum = float(first.eps), float(first.momentum)
        order = [place for group in groups for place in group.matrix_order()]
        self._n_in_matrices = len(order)
        for part in self.parts:
            if part.kind != "skip":
                order += [(row, part.column) for row in part.rows]
        self._order = _index([row * n_candidates + column for row, column in order], torch.device("cpu"))
        # In training a pool has one row of statistics for each state, and all edges of a state share it.
        self._n_statistics: list[int] = []
        self._rows: list[int] = []
        for group in groups:
            edges = len(group.nodes)
            for part in group.parts:
                for norms in part.norms():
                    start, step = sum(self._n_statistics), edges if part.kind == "pool" else 1
                    self._n_statistics.append(len(norms) // step)
                    self._rows += [start + i // step for i in range(len(norms))]

    def takes(self, states: Sequence[Tensor]) -> bool:
        """Whether these first states have the shapes it computes with."""
        return all(x.dim() == 4 and x.shape == states[0].shape and x.shape[1] == self.c for x in states)

    def __call__(self, states: Sequence[Tensor], weights: Tensor, training: bool) -> list[Tensor]:
        """The nodes.

        Args:
            states: the first states, each (b, c, h, w).
            weights: of the candidates, shape (edges, candidates).
            training: whether batch-norms take the batch's statistics, and update their running ones.
        """
        stacked = self._stacked()
        matrices, scales = self._spread_weights(weights.to(stacked[0].dtype) if stacked else weights)
        statistics = self._statistics(training)
        sizes = self._n_statistics if training else [len(norms) for norms in self.norms]
        sizes = [size * self.c for size in sizes]
        norms = iter(list(zip(*(torch.split(each, sizes) for each in statistics))))
        convolutions = iter(stacked)
        known = dict(enumerate(states))
        totals: dict[int, Tensor] = {}
        for group, matrix in zip(self.groups, matrices):
            values = [
                Values(
                    [next(convolutions) for _ in CONVOLUTIONS.get(part.kind, ())],
                    [next(norms) for _ in NORMS.get(part.kind, ())],
                    None if part.kind == "skip" else next(scales),
                )
                for part in group.parts
            ]
            given = [known[state] for state in group.states]
            x = (given[0] if len(given) == 1 else torch.cat(given, 1)).contiguous(
                memory_format=torch.channels_last
            )
            terms = _terms(group, values, matrix, x, training, self.eps)
            for node, term in zip(group.nodes, terms):
                totals[node] = totals[node] + term if node in totals else term
            complete = max(group.states) + 1
            if complete in totals:
                known[complete] = totals[complete].permute(0, 3, 1, 2)
        if training:
            self._update(statistics)
        return [known[node] for node in sorted(totals)]

    def _stacked(self) -> list[Tensor]:
        """The weights of each stack of convolutions, joined."""
        if not self._convolutions:
            return []
        flat = torch.cat([conv.weight.flatten() for conv in self._convolutions])
        sizes = [math.prod(shape) for shape in self._shapes]
        return [part.view(shape) for part, shape in zip(torch.split(flat, sizes), self._shapes)]

    def _spread_weights(self, weights: Tensor) -> tuple[list[Tensor], Iterator[Tensor]]:
        """The weights of the groups' `mixed`, (edges, terms), and the scales of the batch-norms."""
        if self._order.device != weights.device:
            self._order = _index(self._order.tolist(), weights.device)
        chosen = weights.flatten().index_select(0, self._order)
        matrices, scales = torch.split(chosen, [self._n_in_matrices, len(chosen) - self._n_in_matrices])
        shapes = [(len(g.nodes), len(g.mixed) * len(g.states)) for g in self.groups]
        # The scales must be contiguous: the CPU's batch-norm takes others and silently returns wrong gradients.
        wide = scales.unsqueeze(1).expand(-1, self.c).flatten()
        sizes = [len(part.rows) * self.c for part in self.parts if part.kind != "skip"]
        parts = torch.split(matrices, [rows * columns for rows, columns in shapes])
        return [part.view(shape) for part, shape in zip(parts, shapes)], iter(torch.split(wide, sizes))

    def _statistics(self, training: bool) -> Tensor:
        """Means and variances of all batch-norms, (2, channels): the running ones, or zeros to write to."""
        if training:
            like = cast(Tensor, self.norms[0][0].running_mean)
            return like.new_zeros(2, sum(self._n_statistics) * self.c)
        modules: list[Any] = [norm for norms in self.norms for norm in norms]
        joined = torch.cat([m.running_mean for m in modules] + [m.running_var for m in modules])
        return joined.view(2, -1)

    @torch.no_grad()
    def _update(self, statistics: Tensor) -> None:
        """Moves the running statistics of every candidate towards the batch's."""
        modules: list[Any] = [norm for norms in self.norms for norm in norms]
        means, variances = (each.view(-1, self.c).unbind() for each in statistics)
        running = [m.running_mean for m in modules] + [m.running_var for m in modules]
        batch = [means[row] for row in self._rows] + [variances[row] for row in self._rows]
        torch._foreach_lerp_(running, batch, self.momentum)
        torch._foreach_add_([m.num_batches_tracked for m in modules], 1)


def _index(places: list[int], device: torch.device) -> Tensor:
    """Places to select; Lightning validates in inference mode, whose tensors no gradient can use later."""
    with torch.inference_mode(False):
        return torch.tensor(places, device=device)


def _terms(
    group: Group, values: Sequence[Values], matrix: Tensor, x: Tensor, training: bool, eps: float
) -> Sequence[Tensor]:
    """What a group adds to each of its nodes, shape (b, h, w, c).

    Args:
        group: states and candidates.
        values: of each candidate.
        matrix: the weights of the candidates without convolutions, (edges of a state, terms).
        x: the states side by side, (b, n * c, h, w).
        training, eps: as for batch-norm.
    """
    n, edges = len(group.states), len(group.nodes)

    def norm(y: Tensor, statistics: tuple[Tensor, Tensor], scale: Tensor | None = None) -> Tensor:
        # With momentum 1 the zeros become the batch's statistics.
        return F.batch_norm(y, *statistics, scale, None, training, 1.0, eps)

    def pointwise(y: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(y, weight, groups=n * edges)

    shared = Shared(x, n, edges, group.stride)
    wide: list[Tensor] = []  # (b, n * edges * c, h, w)
    apart: list[Tensor] = []  # the same, with even and odd rows apart
    mixed: list[Tensor] = []  # (b, h, w, c)
    columns: list[int] = []  # of the matrix, for each of `mixed`
    place = 0  # of the part's first column in the matrix
    for part, given in zip(group.parts, values):
        w, norms, scale = given.weights, given.norms, given.scale
        if part.kind == "separable":
            y = depthwise(shared.spread, w[0], group.stride)
            y = norm(pointwise(y, w[1]), norms[0]).relu_()
            wide.append(norm(pointwise(depthwise(y, w[2]), w[3]), norms[1], scale))
        elif part.kind == "dilated":
            y, rows_are_apart = shared.dilated(w[0])
            y = norm(pointwise(y, w[1]), norms[0], scale)
            (apart if rows_are_apart else wide).append(y)
        elif part.kind == "reduce":
            halves = [
                F.conv2d(shared.relu[:, :, shift::2, shift::2], w[shift], groups=n).permute(0, 2, 3, 1)
                for shift in (0, 1)
            ]
            y = torch.cat([torch.unflatten(half, 3, (n * edges, -1)) for half in halves], 4)
            wide.append(norm(y.flatten(3).permute(0, 3, 1, 2), norms[0], scale))
        else:
            first, place = place, place + n
            y = x if part.kind == "skip" else part.operations[0][0](x)
            if part.kind == "pool" and not training:  # running statistics may differ between edges
                wide.append(norm(spread(y, n, edges), norms[0], scale))
                continue
            if part.kind == "pool":
                y = norm(y, norms[0])
            columns += range(first, first + n)
            rows = y.permute(0, 2, 3, 1)
            mixed += [rows] if n == 1 else torch.unflatten(rows, 3, (n, -1)).unbind(3)
    if apart:
        wide.append(join_rows(_sum(apart)))
    total = None
    if wide:
        by_edge = torch.unflatten(_sum(wide).permute(0, 2, 3, 1), 3, (n, edges, -1))
        total = by_edge.squeeze(3) if n == 1 else reduce(torch.add, by_edge.unbind(3))
    if mixed:
        terms = torch.stack(mixed)
        # A list as an index would go to the device, and the host would wait for it.
        is_whole = len(columns) == matrix.shape[1]
        used = matrix if is_whole else torch.stack([matrix[:, i] for i in columns], 1)
        sums = (used @ terms.flatten(1)).view(edges, *terms.shape[1:]).permute(1, 2, 3, 0, 4)
        total = sums if total is None else total + sums
    return cast(Tensor, total).unbind(3)


def _sum(terms: list[Tensor]) -> Tensor:
    """The sum, in the memory of the first."""
    return reduce(torch.Tensor.add_, terms)
