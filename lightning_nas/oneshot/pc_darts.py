"""PC-DARTS: DARTS on a part of the channels, with weights of the edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_nas.errors import SearchError
from lightning_nas.oneshot.callback import OneShot
from lightning_nas.oneshot.mixed import MixedCell
from lightning_nas.oneshot.step import Step, alpha_gradients, frozen
from lightning_nas.oneshot.supernet import Supernet


class PCDarts(OneShot):
    """First-order DARTS whose cells also weigh their edges: `DartsSpace(..., search=True, partial_channels=4)`.

    Each edge has a beta; a softmax over the edges into a node weighs them, and the weight of an operation is
    the product of both softmaxes, by which cells are derived too. The space offers the partial channels: its
    operations work on 1/K of them, so that a step takes less memory and a larger batch fits.

    Args:
        learning_rate, warmup_epochs: the paper's, for 50 epochs at a batch size of 256 with SGD(0.1).
        options: as in `OneShot`.

    In `fit`, SearchError is raised if there is no `Cell`: without one it would be `Darts`.

    Source: Xu et al., "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search", ICLR
    2020 (arXiv:1907.05737), equations 2 and 3 and section 4.1; betas start as the alphas do, as in its code.
    """

    def __init__(self, learning_rate: float = 6e-4, warmup_epochs: int = 15, **options: Any) -> None:
        super().__init__(learning_rate=learning_rate, warmup_epochs=warmup_epochs, **options)

    def first_alphas(self, supernet: Supernet, generator: torch.Generator) -> dict[str, Tensor]:
        alphas = super().first_alphas(supernet, generator)
        cells = [label for label in sorted(supernet.shapes) if isinstance(supernet.mixed(label), MixedCell)]
        if not cells:
            raise SearchError("PCDarts weighs the edges of cells, but there is no Cell; use Darts.")
        betas = {
            _beta(label): 1e-3 * torch.randn(alphas[label].shape[0], generator=generator) for label in cells
        }
        return {**alphas, **betas}

    def activate(self) -> dict[str, Tensor]:
        supernet = self._supernet()
        weights = supernet.activate({label: self.alphas[label] for label in supernet.shapes})
        for label in weights:
            cell = supernet.mixed(label)
            if isinstance(cell, MixedCell):
                incoming = [sum(node == end for end, _ in cell.edges) for node in cell.nodes]
                weights[label] = weights[label] * edge_weights(self.alphas[_beta(label)], incoming)[:, None]
        return weights

    def search_gradients(
        self, loss_of: Callable[[Any], Tensor], search_batch: Any, step: Step
    ) -> list[Tensor]:
        with frozen(step.module.parameters()):
            self._supernet().receive(self.activate())
            return alpha_gradients(loss_of(search_batch), self.alphas)


def _beta(label: str) -> str:
    """The name of a cell's betas among the alphas."""
    return f"{label}/edges"


def edge_weights(beta: Tensor, incoming: list[int]) -> Tensor:
    """A softmax over the edges into each node.

    Args:
        beta: shape (edges,), ordered by node.
        incoming: how many edges each node has; they sum up to the number of edges.

    Source: Xu et al., ICLR 2020 (arXiv:1907.05737), equation 3.
    """
    return torch.cat([part.softmax(0) for part in torch.split(beta, incoming)])
