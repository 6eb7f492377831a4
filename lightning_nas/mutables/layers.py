"""Choices among layers, among inputs and of depth, and the plain classes they leave behind."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import nn

from lightning_nas.errors import SpaceError
from lightning_nas.mutables.choice import Branch, Choice, Factory, candidates_of, stage_of
from lightning_nas.mutables.values import Traced, plain
from lightning_nas.space import Categorical, Domain, Subset

Reduction = Literal["sum", "mean", "concat", "none"]


class LayerChoice(Choice):
    """One of several layers.

    Used as it is, it runs the first candidate. In a built model the chosen layer stands in its
    place, under the choice's own name.

    Args:
        candidates: layers, as a list (the sample holds the index) or a dict (the sample holds
            the key). A candidate may be a function without arguments that makes the layer: then
            only the chosen one is made, and values chosen inside it belong to that candidate.
        label: the name of the choice in samples; its attribute path if None. Functions need one.
        prior: probabilities for random sampling, one per candidate; uniform if None.

    Raises:
        SpaceError: if there are no candidates, or `prior` does not sum to 1.
        TypeError: if a candidate is no layer, or is a function while there is no label.

    Source: Retiarii's `nn.LayerChoice` (Zhang et al., OSDI 2020).
    """

    def __init__(
        self,
        candidates: Sequence[nn.Module | Factory] | Mapping[str, nn.Module | Factory],
        *,
        label: str | None = None,
        prior: Sequence[float] | None = None,
    ) -> None:
        super().__init__(label, sys._getframe(1))
        named = candidates_of("LayerChoice", candidates, self.site)
        keys = tuple(named) if isinstance(candidates, Mapping) else tuple(range(len(named)))
        try:
            self._domain = Categorical(keys, None if prior is None else tuple(prior))
        except SpaceError as error:
            raise SpaceError(f"LayerChoice at {self.site}: {error}") from None
        self._names = tuple(named)
        self.functions = {n: c for n, c in named.items() if not isinstance(c, nn.Module)}
        if self.functions and label is None:
            raise TypeError(
                f"The LayerChoice at {self.site} has functions as candidates and needs a label: its attribute "
                "path is not known yet when they are called."
            )
        for name, candidate in named.items():
            if name not in self.functions:
                self.add_module(name, candidate)
        if self.functions:
            self._make_now()

    def _make_now(self) -> None:
        """Makes those candidates that are needed while the user's constructor still runs."""
        label = cast(str, self.label)
        stage = stage_of(self)
        if stage == "explore":
            self.choose(label)
            for name, clause, get in self.branches(label):
                if name in self.functions:
                    self.explore(clause, get)
        elif stage == "decided":
            self._child(self.choose(label)[label])
        elif stage == "default":
            self._child(self._domain.default)

    @property
    def candidates(self) -> tuple[str, ...]:
        """The names of the candidates, in order."""
        return self._names

    def candidate(self, name: str) -> nn.Module:
        """The candidate called `name`; a function is called the first time and the layer kept."""
        if name not in self._modules:
            self.add_module(name, self.functions[name]())
        return cast(nn.Module, self._modules[name])

    def _child(self, value: Any) -> nn.Module:
        return self.candidate(str(value))

    def domains(self, label: str) -> dict[str, Domain]:
        return {label: self._domain}

    def chosen(self, values: Mapping[str, Any], label: str) -> nn.Module:
        return self._child(values[label])

    def path_of_chosen(self, path: str, values: Mapping[str, Any], label: str) -> str:
        return f"{path}.{values[label]}"

    def branches(self, label: str) -> Iterable[Branch]:
        for name, value in zip(self._names, self._domain.values):
            yield name, {label: (value,)}, partial(self.candidate, name)

    def __len__(self) -> int:
        return len(self._names)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._child(self._domain.default)(*args, **kwargs)


def reduce_inputs(inputs: Sequence[torch.Tensor], reduction: str) -> Any:
    """Sum, mean or concatenation (along axis 1) of tensors; the list itself for "none".

    One tensor is returned as it is, unless the reduction is "none". No tensor gives None.
    """
    if reduction == "none":
        return list(inputs)
    if len(inputs) <= 1:
        return inputs[0] if inputs else None
    if reduction == "concat":
        return torch.cat(list(inputs), dim=1)
    total = inputs[0]
    for tensor in inputs[1:]:
        total = total + tensor
    return total / len(inputs) if reduction == "mean" else total


class ChosenInputs(nn.Module):
    """Takes the chosen ones of a list of tensors and reduces them.

    Args:
        chosen: indices into the list, in ascending order.
        reduction: "sum", "mean", "concat" (along axis 1), or "none" for a list.
    """

    def __init__(self, chosen: Sequence[int], reduction: str = "sum") -> None:
        super().__init__()
        self.chosen = list(chosen)
        self.reduction = reduction

    def extra_repr(self) -> str:
        return f"chosen={self.chosen}, reduction={self.reduction!r}"

    def forward(self, inputs: Sequence[torch.Tensor]) -> Any:
        return reduce_inputs([inputs[i] for i in self.chosen], self.reduction)


class InputChoice(Choice):
    """Some of several inputs, reduced to one tensor.

    `forward` takes the list of all `n_candidates` tensors. Used as it is, it takes the first
    `n_chosen` of them.

    Args:
        n_candidates: length of the list.
        n_chosen: how many are taken, all different; None for any number, also none at all.
        reduction: "sum", "mean", "concat" (along axis 1), or "none" for a list.
        label: the name of the choice in samples; its attribute path if None. The sample holds an
            index if `n_chosen` is 1, else a sorted list of indices.
        prior: probabilities of the inputs, only with `n_chosen=1`; uniform if None.

    Raises:
        SpaceError: unless `1 <= n_chosen <= n_candidates`.
        ValueError: for another reduction, or a prior with `n_chosen` other than 1.

    Source: Retiarii's `nn.InputChoice`; unlike its version 2, inputs never repeat.
    """

    def __init__(
        self,
        n_candidates: int,
        n_chosen: int | None = 1,
        reduction: Reduction = "sum",
        *,
        label: str | None = None,
        prior: Sequence[float] | None = None,
    ) -> None:
        super().__init__(label, sys._getframe(1))
        n_candidates, n_chosen = plain(n_candidates), plain(n_chosen)
        if n_candidates < 1 or (n_chosen is not None and not 1 <= n_chosen <= n_candidates):
            raise SpaceError(
                f"InputChoice at {self.site}: `1 <= n_chosen <= n_candidates` must hold, but got "
                f"({n_chosen=}, {n_candidates=})."
            )
        if reduction not in ("sum", "mean", "concat", "none"):
            raise ValueError(f"`reduction` must be 'sum', 'mean', 'concat' or 'none', but got {reduction!r}.")
        if prior is not None and n_chosen != 1:
            raise ValueError("A `prior` of an InputChoice needs `n_chosen=1`.")
        self.n_candidates = n_candidates
        self.n_chosen = n_chosen
        self.reduction = reduction
        indices = tuple(range(n_candidates))
        self._domain: Domain = (
            Categorical(indices, None if prior is None else tuple(prior))
            if n_chosen == 1
            else Subset(indices, n_chosen)
        )

    def domains(self, label: str) -> dict[str, Domain]:
        return {label: self._domain}

    def chosen(self, values: Mapping[str, Any], label: str) -> ChosenInputs:
        value = values[label]
        return ChosenInputs([value] if self.n_chosen == 1 else value, self.reduction)

    def extra_repr(self) -> str:
        return f"{self.n_candidates}, n_chosen={self.n_chosen}, reduction={self.reduction!r}, label={self.label!r}"

    def forward(self, inputs: Sequence[torch.Tensor]) -> Any:
        if len(inputs) != self.n_candidates:
            raise ValueError(
                f"InputChoice takes a list of {self.n_candidates} tensors, but got {len(inputs)}."
            )
        return reduce_inputs(inputs[: 1 if self.n_chosen is None else self.n_chosen], self.reduction)


class Repeat(Choice):
    """A block repeated a chosen number of times; a built model has a `Sequential` in its place.

    Used as it is, it has its smallest depth, or that of the default of a ValueChoice.

    Args:
        blocks: a layer (its copies share the choices inside), a function of the block's index, or
            a list of either, of which the first `depth` are used.
        depth: a number (also a `ValueChoice`), or `(low, high)`, both included, for a choice of its own.
        label: the name of that choice in samples; its attribute path if None. Functions need one.

    Raises:
        SpaceError: unless `0 <= low <= high`, and no more than there are blocks in a list.
        TypeError: if a block is made by a function, `depth` is a pair and there is no label.

    Source: Retiarii's `nn.Repeat`.
    """

    def __init__(
        self,
        blocks: nn.Module | Factory | Sequence[nn.Module | Factory],
        depth: int | tuple[int, int],
        *,
        label: str | None = None,
    ) -> None:
        super().__init__(label, sys._getframe(1))
        is_pair = isinstance(depth, (tuple, list)) and not isinstance(depth, Traced)
        low, high = map(plain, cast(tuple[int, int], depth)) if is_pair else (plain(depth), plain(depth))
        limit = len(blocks) if isinstance(blocks, (list, tuple, nn.ModuleList)) else None
        if not 0 <= low <= high or (limit is not None and high > limit):
            raise SpaceError(
                f"Repeat at {self.site}: `0 <= low <= high` must hold"
                + ("" if limit is None else f", with {limit} blocks at hand")
                + f", but got {depth=}."
            )
        self.depth = depth
        self._domain = Categorical(tuple(range(low, high + 1))) if is_pair else None
        self._fixed_depth: int = low
        self.source = Blocks(blocks)
        if self._domain is not None and self.source.has_functions and label is None:
            raise TypeError(
                f"The Repeat at {self.site} has functions as blocks and needs a label: its attribute path is "
                "not known yet when they are called."
            )
        if self._domain is None:
            self._extend(low)
        elif not self.source.has_functions:
            self._extend(high)
        else:
            self._make_now(cast(str, label))

    def _make_now(self, label: str) -> None:
        """Makes those blocks that are needed while the user's constructor still runs."""
        stage = stage_of(self)
        if stage == "explore":
            self.choose(label)
            for _, clause, get in self.branches(label):
                self.explore(clause, get)
        elif stage == "decided":
            self._extend(self.choose(label)[label])
        elif stage == "default":
            self._extend(self._fixed_depth)

    def _extend(self, depth: int) -> None:
        for index in range(len(self._modules), depth):
            self.add_module(str(index), self.source.make(index))

    def block(self, index: int) -> nn.Module:
        """The block at `index`, made the first time."""
        self._extend(index + 1)
        return cast(nn.Module, self._modules[str(index)])

    def domains(self, label: str) -> dict[str, Domain]:
        return {} if self._domain is None else {label: self._domain}

    def chosen(self, values: Mapping[str, Any], label: str) -> nn.Sequential:
        depth = values.get(label, self._fixed_depth)
        return nn.Sequential(*(self.block(i) for i in range(depth)))

    def origins(self, module: nn.Module, label: str) -> Iterable[tuple[str, nn.Module]]:
        for index, block in enumerate(module.children()):
            if self._domain is not None and index >= self._domain.values[0]:
                yield label, block

    def branches(self, label: str) -> Iterable[Branch]:
        if self._domain is None:
            for index in range(self._fixed_depth):
                yield str(index), {}, partial(self.block, index)
            return
        depths = self._domain.values
        for index in range(depths[-1]):
            clause = {} if index < depths[0] else {label: tuple(d for d in depths if d > index)}
            yield str(index), clause, partial(self.block, index)

    def forward(self, x: Any) -> Any:
        for index in range(self._fixed_depth):
            x = self.block(index)(x)
        return x


class Blocks:
    """Makes the block of an index out of what the user gave."""

    def __init__(self, blocks: Any) -> None:
        self.given = blocks
        listed = blocks if isinstance(blocks, (list, tuple, nn.ModuleList)) else [blocks]
        self.has_functions = any(not isinstance(block, nn.Module) for block in listed)

    def make(self, index: int) -> nn.Module:
        if isinstance(self.given, (list, tuple, nn.ModuleList)):
            block = self.given[index]
            return block if isinstance(block, nn.Module) else block(index)
        if isinstance(self.given, nn.Module):
            return copy.deepcopy(self.given)
        return cast(nn.Module, self.given(index))


class Zero(nn.Module):
    """The declared zero: no connection. Zeros of its input's shape, sub-sampled by `stride`.

    Args:
        stride: step over the last two axes, as of a convolution.

    Shape: (b, c, h, w) -> (b, c, ceil(h / stride), ceil(w / stride)); any shape when `stride` is 1.
    """

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def extra_repr(self) -> str:
        return f"stride={self.stride}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x if self.stride == 1 else x[..., :: self.stride, :: self.stride])
