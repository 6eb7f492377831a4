"""One step of the search on the library's supernet, as the callback does it, in a loop of one's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_nas.hub.darts import DARTS_OPERATIONS, DartsSpace
from lightning_nas.oneshot import frozen, relax


class SupernetSearch:
    """Steps of the search: the weights stand still in one on the alphas, and the alphas in one on the weights.

    Args:
        channels, layers: of the network, C and L in the paper.
        fast: whether edges share their work.
        memory_format: of the network's weights and images.
    """

    def __init__(
        self,
        channels: int,
        layers: int,
        fast: bool,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        space = DartsSpace(channels, layers, operations=("none", *DARTS_OPERATIONS), search=True)
        self.supernet = relax(space, fast)
        self.net = self.supernet.root.to(memory_format=memory_format)
        self.memory_format = memory_format
        self.alphas = {
            label: (1e-3 * torch.randn(shape)).requires_grad_()
            for label, shape in self.supernet.shapes.items()
        }
        alphas = list(self.alphas.values())
        self.arch_optimizer = torch.optim.Adam(
            alphas, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3, foreach=True
        )
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4, foreach=True
        )

    def alpha_gradients(self, batch: Sequence[Tensor]) -> list[Tensor]:
        self.supernet.receive(self.supernet.activate(self.alphas))
        with frozen(self.net.parameters()):
            return list(torch.autograd.grad(self._loss(batch), list(self.alphas.values())))

    def step(self, train: Sequence[Tensor], search: Sequence[Tensor]) -> Tensor:
        """Takes batches `(images, labels)` of both halves; the training loss."""
        for alpha, gradient in zip(self.alphas.values(), self.alpha_gradients(search)):
            alpha.grad = gradient
        self.arch_optimizer.step()
        self.arch_optimizer.zero_grad()

        with torch.no_grad():
            self.supernet.receive(self.supernet.activate(self.alphas))
        self.optimizer.zero_grad()
        loss = self._loss(train)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0, foreach=True)
        self.optimizer.step()
        return loss.detach()

    def _loss(self, batch: Sequence[Tensor]) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.net(images.contiguous(memory_format=self.memory_format)), labels)
