"""Single-path one-shot: weights that every path shares, trained on uniformly sampled paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from lightning_nas.errors import SearchError
from lightning_nas.oneshot.callback import OneShot
from lightning_nas.oneshot.paths import check_parameters_may_rest, draws
from lightning_nas.oneshot.step import Step
from lightning_nas.oneshot.supernet import Supernet
from lightning_nas.trial import Report, Sample


class SPOS(OneShot):
    """Trains a supernet for `SharedWeights`: each weight step trains one path, drawn uniformly.

    The weights then score the candidates of any strategy, without training them:

        trainer = Trainer(max_epochs=120, callbacks=[SPOS()], strategy=...)
        trainer.fit(lit_module, datamodule)
        scores = SharedWeights(lit_module, val_dataloaders=..., train_dataloaders=...)
        Experiment(net, scores, RegularizedEvolution()).run()

    There are no alphas and no search half: the weights see all training data. All ranks train the same path,
    which follows from the seed and the number of the step. Validation scores one path, always the same.

    Args:
        seed: decides the paths and the order of the data.
        guard, stop_at_parameter_free and the rest of `OneShot` have no meaning here.

    In `fit`, SearchError is raised if DDP does not look for unused parameters.

    Source: Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV 2020
    (arXiv:1904.00420), section 3.2. For cells, which the paper does not have: a node takes two different
    states and operations other than `none`.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(search_data=(), seed=seed, guard=False)  # nothing is split off: no alphas need data
        self._step = 0

    def first_alphas(self, supernet: Supernet, generator: torch.Generator) -> dict[str, Tensor]:
        return {}

    def search_gradients(
        self, loss_of: Callable[[Any], Tensor], search_batch: Any, step: Step
    ) -> NoReturn:  # pragma: no cover
        raise AssertionError("There are no alphas, so that no search step is taken.")

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        check_parameters_may_rest("SPOS", trainer)
        super().on_fit_start(trainer, pl_module)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._step = trainer.global_step
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def set_weights_for_training(self) -> None:
        self._supernet().follow(self.path(self._step))

    def set_weights_for_validation(self) -> None:
        self._supernet().follow(uniform_path(self._supernet(), draws(self.seed, 0, purpose=1)))

    def path(self, step: int) -> Sample:
        """The path that a weight step trains.

        Args:
            step: how many weight steps were taken before.
        """
        return uniform_path(self._supernet(), draws(self.seed, step))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._raise_if_bad()
        self.history.append({"epoch": trainer.current_epoch, "step": trainer.global_step})

    def sample(self) -> NoReturn:
        raise SearchError(
            "SPOS trains weights and derives nothing; give the trained module to SharedWeights, an evaluator with "
            "which a strategy such as RegularizedEvolution finds the best path."
        )

    def search(self, net: nn.Module, evaluator: Any, report: Report) -> NoReturn:
        self.sample()


def uniform_path(supernet: Supernet, rng: Any) -> Sample:
    """A path with each choice drawn uniformly and independently.

    Args:
        supernet: whose choices.
        rng: a `numpy.random.Generator`.
    """
    # The strongest of independent uniform weights is each candidate with the same probability, the m
    # strongest are each subset of m, and each weight is above 1/2 in half of the cases.
    shapes = sorted(supernet.shapes.items())
    return supernet.derive({label: torch.from_numpy(rng.random(shape)) for label, shape in shapes})
