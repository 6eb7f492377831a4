"""Genotypes: the cells that papers publish, in text and as samples.

Source of the form: Liu et al., "DARTS", ICLR 2019, and its published code; of the networks: NASNet-A
(Zoph et al., CVPR 2018), AmoebaNet-A (Real et al., AAAI 2019), DARTS first and second order (Liu et
al., ICLR 2019), PC-DARTS on CIFAR-10 and ImageNet (Xu et al., ICLR 2020).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_nas.errors import SampleError
from lightning_nas.trial import Sample

Edge = tuple[str, int]

_FORM = "Genotype(normal=[('op', state), ...], normal_concat=[...], reduce=[...], reduce_concat=[...])"


@dataclass(frozen=True)
class Genotype:
    """Two cells: for each node two edges `(operation, state)`, and the states that are concatenated.

    States 0 and 1 are the cell's inputs, state i the node i. `str` and `Genotype.parse` speak the form
    of the DARTS code.

    Raises:
        SampleError: if a node has not two edges, or an edge or a concatenation names a state that does
            not exist yet.
    """

    normal: tuple[Edge, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Edge, ...]
    reduce_concat: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("normal", "reduce"):
            edges = tuple((str(operation), int(state)) for operation, state in getattr(self, name))
            concat = tuple(getattr(self, f"{name}_concat"))
            object.__setattr__(self, name, edges)
            object.__setattr__(self, f"{name}_concat", concat)
            if len(edges) % 2:
                raise SampleError(
                    f"Each node of a genotype has two edges, but {name} has {len(edges)} in all."
                )
            for position, (operation, state) in enumerate(edges):
                node = position // 2 + 2
                if not 0 <= state < node:
                    raise SampleError(
                        f"The edge ({operation!r}, {state}) into node {node} of {name} must come from a state "
                        f"below {node}."
                    )
            if not concat or not all(0 <= state < len(edges) // 2 + 2 for state in concat):
                raise SampleError(
                    f"{name}_concat must hold states from 0 to {len(edges) // 2 + 1}, but is {concat}."
                )

    @property
    def nodes(self) -> int:
        """Nodes per cell."""
        return len(self.normal) // 2

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations it uses, sorted."""
        return tuple(sorted({operation for operation, _ in self.normal + self.reduce}))

    @property
    def concat(self) -> dict[str, tuple[int, ...]]:
        """The states that make up the outputs, by cell: `DartsSpace`'s `concat`."""
        return {"normal": self.normal_concat, "reduce": self.reduce_concat}

    def __str__(self) -> str:
        return (
            f"Genotype(normal={list(self.normal)}, normal_concat={list(self.normal_concat)}, "
            f"reduce={list(self.reduce)}, reduce_concat={list(self.reduce_concat)})"
        )

    @classmethod
    def parse(cls, text: str) -> Genotype:
        """Reads what `str` writes, and what the DARTS code prints (`range(2, 6)` for a concatenation).

        Raises:
            SampleError: if `text` is not of that form.
        """
        try:
            call = ast.parse(text.strip(), mode="eval").body
            if not isinstance(call, ast.Call) or call.args:
                raise ValueError("not a call with named arguments")
            return cls(**{str(keyword.arg): _value(keyword.value) for keyword in call.keywords})
        except (SyntaxError, TypeError, ValueError) as error:
            if isinstance(error, SampleError):
                raise
            raise SampleError(f"A genotype is written {_FORM}, but got {text!r}.") from None

    def sample(self, *, distinct: bool = False) -> Sample:
        """This genotype as a sample of `DartsSpace`.

        Args:
            distinct: for a space whose nodes choose distinct states together.

        Raises:
            SampleError: with `distinct`, if a node takes one state twice.
        """
        sample: Sample = {}
        for cell, edges in (("normal", self.normal), ("reduce", self.reduce)):
            for node in range(2, self.nodes + 2):
                pair = list(edges[2 * node - 4 : 2 * node - 2])
                if distinct:
                    pair.sort(key=lambda edge: edge[1])
                    states = [state for _, state in pair]
                    if states[0] == states[1]:
                        raise SampleError(
                            f"Node {node} of {cell} takes the state {states[0]} twice; states must differ."
                        )
                    sample[f"{cell}/input_{node}"] = states
                for k, (operation, state) in enumerate(pair):
                    sample[f"{cell}/op_{node}_{k}"] = operation
                    if not distinct:
                        sample[f"{cell}/input_{node}_{k}"] = state
        return sample

    @classmethod
    def from_sample(
        cls, sample: Mapping[str, Any], concat: Mapping[str, Sequence[int]] | None = None
    ) -> Genotype:
        """The genotype of a sample of `DartsSpace`, in our form or as NNI exported it.

        Args:
            sample: labels such as `normal/op_2_0` and `normal/input_2_0` (or `normal/input_2`).
            concat: the concatenated states by cell; all nodes if None.

        Raises:
            SampleError: if a label is missing.
        """
        cells: dict[str, list[Edge]] = {"normal": [], "reduce": []}
        for cell, edges in cells.items():
            node = 2
            while f"{cell}/op_{node}_0" in sample:
                try:
                    together = sample.get(f"{cell}/input_{node}")
                    for k in (0, 1):
                        state = sample[f"{cell}/input_{node}_{k}"] if together is None else together[k]
                        edges.append(
                            (
                                sample[f"{cell}/op_{node}_{k}"],
                                state[0] if isinstance(state, (list, tuple)) else state,
                            )
                        )
                except KeyError as error:
                    raise SampleError(
                        f"The sample has no value for {error.args[0]!r}, which a genotype needs."
                    ) from None
                node += 1
        every = {cell: range(2, len(edges) // 2 + 2) for cell, edges in cells.items()}
        states = {cell: tuple((concat or every)[cell]) for cell in cells}
        return cls(tuple(cells["normal"]), states["normal"], tuple(cells["reduce"]), states["reduce"])


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        return tuple(range(*(ast.literal_eval(argument) for argument in node.args)))
    return ast.literal_eval(node)


NASNET_A = Genotype(
    normal=(
        ("sep_conv_5x5", 1),
        ("sep_conv_3x3", 0),
        ("sep_conv_5x5", 0),
        ("sep_conv_3x3", 0),
        ("avg_pool_3x3", 1),
        ("skip_connect", 0),
        ("avg_pool_3x3", 0),
        ("avg_pool_3x3", 0),
        ("sep_conv_3x3", 1),
        ("skip_connect", 1),
    ),
    normal_concat=(2, 3, 4, 5, 6),
    reduce=(
        ("sep_conv_5x5", 1),
        ("sep_conv_7x7", 0),
        ("max_pool_3x3", 1),
        ("sep_conv_7x7", 0),
        ("avg_pool_3x3", 1),
        ("sep_conv_5x5", 0),
        ("skip_connect", 3),
        ("avg_pool_3x3", 2),
        ("sep_conv_3x3", 2),
        ("max_pool_3x3", 1),
    ),
    reduce_concat=(4, 5, 6),
)

AMOEBANET_A = Genotype(
    normal=(
        ("avg_pool_3x3", 0),
        ("max_pool_3x3", 1),
        ("sep_conv_3x3", 0),
        ("sep_conv_5x5", 2),
        ("sep_conv_3x3", 0),
        ("avg_pool_3x3", 3),
        ("sep_conv_3x3", 1),
        ("skip_connect", 1),
        ("skip_connect", 0),
        ("avg_pool_3x3", 1),
    ),
    normal_concat=(4, 5, 6),
    reduce=(
        ("avg_pool_3x3", 0),
        ("sep_conv_3x3", 1),
        ("max_pool_3x3", 0),
        ("sep_conv_7x7", 2),
        ("sep_conv_7x7", 0),
        ("avg_pool_3x3", 1),
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 1),
        ("conv_7x1_1x7", 0),
        ("sep_conv_3x3", 5),
    ),
    reduce_concat=(3, 4, 6),
)

DARTS_V1 = Genotype(
    normal=(
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0),
        ("skip_connect", 0),
        ("sep_conv_3x3", 1),
        ("skip_connect", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0),
        ("skip_connect", 2),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 1),
        ("skip_connect", 2),
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 0),
        ("skip_connect", 2),
        ("skip_connect", 2),
        ("avg_pool_3x3", 0),
    ),
    reduce_concat=(2, 3, 4, 5),
)

DARTS_V2 = Genotype(
    normal=(
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1),
        ("skip_connect", 0),
        ("skip_connect", 0),
        ("dil_conv_3x3", 2),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 1),
        ("skip_connect", 2),
        ("max_pool_3x3", 1),
        ("max_pool_3x3", 0),
        ("skip_connect", 2),
        ("skip_connect", 2),
        ("max_pool_3x3", 1),
    ),
    reduce_concat=(2, 3, 4, 5),
)

PC_DARTS_CIFAR = Genotype(
    normal=(
        ("sep_conv_3x3", 1),
        ("skip_connect", 0),
        ("sep_conv_3x3", 0),
        ("dil_conv_3x3", 1),
        ("sep_conv_5x5", 0),
        ("sep_conv_3x3", 1),
        ("avg_pool_3x3", 0),
        ("dil_conv_3x3", 1),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("sep_conv_5x5", 1),
        ("max_pool_3x3", 0),
        ("sep_conv_5x5", 1),
        ("sep_conv_5x5", 2),
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 3),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 2),
    ),
    reduce_concat=(2, 3, 4, 5),
)

PC_DARTS_IMAGE = Genotype(
    normal=(
        ("skip_connect", 1),
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 0),
        ("skip_connect", 1),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 3),
        ("sep_conv_3x3", 1),
        ("dil_conv_5x5", 4),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("sep_conv_3x3", 0),
        ("skip_connect", 1),
        ("dil_conv_5x5", 2),
        ("max_pool_3x3", 1),
        ("sep_conv_3x3", 2),
        ("sep_conv_3x3", 1),
        ("sep_conv_5x5", 0),
        ("sep_conv_3x3", 3),
    ),
    reduce_concat=(2, 3, 4, 5),
)
