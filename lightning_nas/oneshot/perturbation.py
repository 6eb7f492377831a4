"""Selection by perturbation (DARTS-PT): what a trained supernet cannot do without is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_nas.errors import SearchError
from lightning_nas.oneshot.callback import OneShot
from lightning_nas.oneshot.mixed import Mixed, MixedCell, MixedInputs
from lightning_nas.oneshot.scoring import Runs
from lightning_nas.oneshot.supernet import Supernet
from lightning_nas.trial import Mode, Objective, Sample

_log = logging.getLogger(__name__)

Weights = dict[str, Tensor]


def perturbation_selection(
    search: OneShot,
    val_dataloaders: Any,
    monitor: str,
    *,
    mode: Mode | None = None,
    train_dataloaders: Any = None,
    tune_steps: int = 0,
    seed: int = 0,
    **trainer_kwargs: Any,
) -> Sample:
    """The sample that the trained supernet speaks for by its accuracy, rather than by its alphas.

    Row by row of the alphas, in random order, each candidate is left out once, and the one without which
    validation is worst is kept alone. Then each node of a cell keeps, among its edges, those without which
    it is worst. This takes a validation run for each candidate of each row, and one for each edge: 224 for
    the cells of DARTS with seven operations. The search's own weights are as before, unless they are tuned.

    Args:
        search: a search that has ended, such as `Darts`, with its module.
        val_dataloaders: a loader of validation data.
        monitor: what the module logs in validation, to choose by.
        mode: "max" or "min"; None infers it from the name, as `Objective` does.
        train_dataloaders, tune_steps: after each choice the module trains for so many steps on the loader,
            with optimizers made anew, so that the rest gets used to it; 0 leaves the weights alone.
        seed: decides the order.
        trainer_kwargs: arguments of the Trainers, such as the accelerator.

    Returns:
        A sample like any other.

    Raises:
        SearchError: if the search has not begun, has no alphas, or an `InputChoice` chooses several inputs.
        ValueError: if `tune_steps` is negative, or positive without data.
        MetricError: if `monitor` is not logged.

    Source: Wang et al., "Rethinking Architecture Selection in Differentiable NAS", ICLR 2021
    (arXiv:2108.04392), algorithm 1. As in its published code the other weights of a row are not raised when a
    candidate is left out. `none` is never kept, as no derived cell can hold it, and so not tried.
    """
    if tune_steps < 0 or (tune_steps > 0 and train_dataloaders is None):
        raise ValueError(
            f"`tune_steps` must be at least 0, and needs train_dataloaders, but got {tune_steps=}."
        )
    weights = search.weights()
    supernet = search.supernet
    if supernet is None or not weights:
        raise SearchError(f"{type(search).__name__} has no alphas that selection could start from.")
    for mixed in supernet.relaxed:
        if isinstance(mixed, MixedInputs) and mixed.n_chosen != 1:
            raise SearchError(
                f"The InputChoice {mixed.label!r} chooses several inputs, which selection by perturbation cannot."
            )
    runs, objective = Runs(trainer_kwargs), Objective(monitor, mode)

    def hand_over(weights: Weights) -> Callable[[Any], None]:
        def prepare(trainer: Any) -> None:
            device = trainer.lightning_module.device
            supernet.receive({label: weight.to(device) for label, weight in weights.items()})

        return prepare

    def score(weights: Weights) -> float:
        return objective.score(runs.validate(supernet.root, val_dataloaders, hand_over(weights)))

    def tune(weights: Weights) -> None:
        if tune_steps:
            runs.train(supernet.root, train_dataloaders, tune_steps, hand_over(weights))

    supernet.follow(None)
    for mixed in supernet.relaxed:
        if isinstance(mixed, Mixed):
            mixed.hard = None
    try:
        return supernet.derive(select(supernet, weights, score, tune, np.random.default_rng(seed)))
    finally:
        search.set_weights_for_training()


def select(
    supernet: Supernet,
    weights: Mapping[str, Tensor],
    score: Callable[[Weights], float],
    tune: Callable[[Weights], None],
    rng: np.random.Generator,
) -> Weights:
    """Weights with a single one in each row that is kept, and zeros in the rows of edges that are not.

    Args:
        supernet: whose choices.
        weights: of the candidates by label, to start from.
        score: of weights; higher is better.
        tune: gets the supernet used to weights.
        rng: for the order.
    """
    weights = {label: weight.clone() for label, weight in weights.items()}
    rows = [
        (label, row)
        for label, weight in weights.items()
        for row in range(weight.reshape(-1, weight.shape[-1]).shape[0])
    ]
    for label, row in (rows[i] for i in rng.permutation(len(rows))):
        k = weights[label].shape[-1]
        mixed = supernet.mixed(label)
        allowed = [i for i in range(k) if not (isinstance(mixed, MixedCell) and mixed.is_none[i])]
        losers = {i: score(_without(weights, label, row, i)) for i in allowed} if len(allowed) > 1 else {}
        kept = min(losers, key=lambda i: losers[i]) if losers else allowed[0]
        one_hot = torch.nn.functional.one_hot(torch.tensor(kept), k).to(weights[label])
        weights[label].view(-1, k)[row] = one_hot
        _log.info("%s, row %d: without each candidate %s; kept %d.", label, row, losers, kept)
        tune(weights)
    nodes = [(label, *node) for label in weights for node in _nodes(supernet, label)]
    for label, edges, n in (nodes[i] for i in rng.permutation(len(nodes))):
        if len(edges) <= n:
            continue
        losers = {row: score(_without(weights, label, row)) for row in edges}
        for row in sorted(edges, key=lambda row: losers[row])[n:]:
            weights[label][row] = 0
        _log.info("%s: without each edge %s.", label, losers)
        tune(weights)
    return weights


def _without(weights: Weights, label: str, row: int, candidate: int | None = None) -> Weights:
    """The weights with one candidate of a row, or the row, at zero."""
    changed = weights[label].clone()
    table = changed.view(-1, changed.shape[-1])
    table[row, slice(None) if candidate is None else candidate] = 0
    return {**weights, label: changed}


def _nodes(supernet: Supernet, label: str) -> list[tuple[list[int], int]]:
    """For each node of a cell the rows of its edges, and how many of them it keeps."""
    mixed = supernet.mixed(label)
    if not isinstance(mixed, MixedCell):
        return []
    rows = {node: [row for row, (end, _) in enumerate(mixed.edges) if end == node] for node in mixed.nodes}
    return [(edges, mixed.num_ops_per_node) for edges in rows.values()]
