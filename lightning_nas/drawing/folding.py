"""Folds the layers of an architecture into blocks."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lightning_nas.architecture import Architecture, Layer

MOST = 40
"""Layers beyond which an architecture is folded unless told otherwise."""


@dataclass(frozen=True)
class Part:
    """A layer, or a block of layers that run one after another.

    Args:
        name: the layer's, or the path of the block.
        kind: the class or function; of a block whose class is not known "".
        detail: of a layer.
        layers: what it is made of.
        params, macs: sums over the layers; `macs` is None if one is not known.
        shape: of what it puts out, with the batch first; None if that is no single tensor.
        choices: labels of the choices that its layers come from, in order.
        wiring: the edges between its layers, by their places in it.
        is_block: whether it stands for a module with parts.
    """

    name: str
    kind: str
    detail: str
    layers: tuple[Layer, ...]
    params: int
    macs: int | None
    shape: tuple[int, ...] | None
    choices: tuple[str, ...]
    wiring: tuple[tuple[int, int], ...]
    is_block: bool

    @property
    def is_chosen(self) -> bool:
        """Whether all of it comes from choices."""
        return all(layer.choice is not None for layer in self.layers)


def fold(
    architecture: Architecture, depth: int | None = None, opened: Collection[str] = ()
) -> tuple[list[Part], list[tuple[int, int]]]:
    """The parts of an architecture, in the order in which they run, and the edges between them.

    What runs without interruption in one block is one part, so that the parts never form a circle.

    Args:
        architecture: what to fold.
        depth: how many levels of modules within the blocks are opened: 0 keeps blocks whole. None opens
            all where there are at most `MOST` layers, else none.
        opened: paths of blocks that are opened by one level more.

    Raises:
        ValueError: if `depth` is negative.
    """
    if depth is None:
        depth = 0 if len(architecture.layers) > MOST else len(architecture.layers)
    if depth < 0:
        raise ValueError(f"`depth` must be at least 0, but got {depth}.")
    wanted = set(opened)
    groups = [_group(layer, architecture, depth, wanted) for layer in architecture.layers]
    runs = [list(run) for _, run in itertools.groupby(range(len(groups)), key=lambda i: groups[i] or i)]
    of_layer = {number: place for place, run in enumerate(runs) for number in run}
    edges = sorted({(of_layer[a], of_layer[b]) for a, b in architecture.edges if of_layer[a] != of_layer[b]})
    outside = {a for a, b in architecture.edges if of_layer[a] != of_layer[b]}
    after: dict[int, list[int]] = {number: [] for number in of_layer}
    for a, b in architecture.edges:
        after[a].append(b)
    parts = []
    for run in runs:
        layers = [architecture.layers[i] for i in run]
        group = groups[run[0]]
        if group is None or len(run) == 1:
            parts.append(_single(layers[0]))
        else:
            givers = [architecture.layers[i] for i in run if i in outside]
            shape = givers[0].shape if len(givers) == 1 else None
            wiring = [(a - run[0], b - run[0]) for a in run for b in after[a] if b <= run[-1]]
            parts.append(_block(group, architecture.kinds.get(group, ""), layers, wiring, shape))
    return parts, edges


def _group(layer: Layer, architecture: Architecture, depth: int, opened: Collection[str]) -> str | None:
    """The path of the block that a layer is folded into; None if it stands alone."""
    if not layer.block or layer.block == layer.name:
        return None
    levels = [layer.block]
    containers = layer.name.split(".")[:-1]
    for length in range(layer.block.count(".") + 2, len(containers) + 1):
        path = ".".join(containers[:length])
        if path in architecture.kinds:
            levels.append(path)
    while depth < len(levels) and levels[depth] in opened:
        depth += 1
    return levels[depth] if depth < len(levels) else None


def _single(layer: Layer) -> Part:
    choices = () if layer.choice is None else (layer.choice,)
    return Part(
        layer.name,
        layer.kind,
        layer.detail,
        (layer,),
        layer.params,
        layer.macs,
        layer.shape,
        choices,
        (),
        is_block=False,
    )


def _block(
    path: str,
    kind: str,
    layers: Sequence[Layer],
    wiring: Sequence[tuple[int, int]],
    shape: tuple[int, ...] | None,
) -> Part:
    macs = [layer.macs for layer in layers if layer.macs is not None]
    return Part(
        path,
        kind,
        "",
        tuple(layers),
        sum(layer.params for layer in layers),
        sum(macs) if len(macs) == len(layers) else None,
        shape,
        tuple(dict.fromkeys(layer.choice for layer in layers if layer.choice is not None)),
        tuple(wiring),
        is_block=True,
    )
