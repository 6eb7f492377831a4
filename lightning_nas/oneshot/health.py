"""How a search stands, and whether it collapses onto operations that have no weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_nas.oneshot.mixed import MixedCell, MixedLayer
from lightning_nas.oneshot.supernet import Supernet
from lightning_nas.trial import Metrics, Sample

_log = logging.getLogger(__name__)

SUSPICIOUS_SHARE = 0.5
"""Of parameter-free operations: DARTS' own good cells have at most 3 of 8 in a normal cell."""

UNDECIDED = 0.999
"""Above this mean entropy the strongest operations are those of the first, random alphas: nothing is stopped."""

DECIDED_ENTROPY = 0.99
"""Above this mean entropy it is too early to warn. A stop must come before that: at 0.99 the noise has won."""


@dataclass(frozen=True)
class Health:
    """Signs of collapse.

    Args:
        entropy: mean over the rows of all alphas, as a share of the largest possible; 1 is undecided, 0
            decided.
        parameter_free: the share of the derived operations that have no weights (skips, pools, `none`); NaN
            where there is no choice of operations.
        by_label: that share for each label.
        derived_score: of the derived network in validation, with the supernet's weights; NaN where it was not
            measured (see `Gap`).
        gap: by how much that is worse than the mixture's score; NaN likewise.
    """

    entropy: float
    parameter_free: float
    by_label: Mapping[str, float]
    derived_score: float = math.nan
    gap: float = math.nan

    def as_metrics(self) -> Metrics:
        """For loggers: what is known."""
        metrics = {
            "search/entropy": self.entropy,
            "search/parameter_free": self.parameter_free,
            "search/derived_score": self.derived_score,
            "search/gap": self.gap,
        }
        return {name: value for name, value in metrics.items() if not math.isnan(value)}


def health_of(supernet: Supernet, weights: Mapping[str, Tensor], sample: Sample) -> Health:
    """The signs of collapse under `weights`, from which `sample` was derived."""
    entropies: list[float] = []
    for weight in weights.values():
        rows = weight.double().reshape(-1, weight.shape[-1])
        if rows.shape[1] > 1:
            rows = rows / rows.sum(1, keepdim=True)
            entropies += (torch.special.entr(rows).sum(1) / math.log(rows.shape[1])).tolist()
    by_label: dict[str, list[bool]] = {}
    for label in weights:
        mixed = supernet.mixed(label)
        if isinstance(mixed, MixedLayer) and label in sample:
            candidate = mixed.path_in(sample)
            others = any(any(True for _ in part.parameters()) for part in mixed.children())
            if others:
                by_label[label] = [next(candidate.parameters(), None) is None]
        elif isinstance(mixed, MixedCell):
            free = mixed.parameter_free()
            by_label[label] = [free[i] for edges in mixed.path_in(sample) for _, i in edges]
    every = [free for found in by_label.values() for free in found]
    return Health(
        sum(entropies) / len(entropies) if entropies else 0.0,
        sum(every) / len(every) if every else math.nan,
        {label: sum(found) / len(found) for label, found in by_label.items()},
    )


def _is_suspicious(health: Health, label: str) -> bool:
    return health.entropy < DECIDED_ENTROPY and health.by_label[label] > SUSPICIOUS_SHARE


class Watch:
    """Warns once when the share of parameter-free operations grows suspicious, and stops if it was told to.

    It does neither before the alphas have moved far enough (`DECIDED_ENTROPY`, `UNDECIDED`).

    Args:
        warns: whether it warns.
        stop_at: the share that ends the search; None never does.

    Source: stopping when skips win is that of Liang et al., "DARTS+: Improved Differentiable Architecture
    Search with Early Stopping", 2019 (arXiv:1909.06035), criterion 1; here the share of all parameter-free
    operations counts, as collapse also ends in pools and noise (Zela et al., ICLR 2020, section 3).
    """

    def __init__(self, warns: bool, stop_at: float | None) -> None:
        self._warns = warns
        self._stop_at = stop_at

    def look(self, health: Health, trainer: Any) -> None:
        """Looks at the end of an epoch."""
        if health.entropy > UNDECIDED:
            return
        share = health.parameter_free
        worst = max(health.by_label, key=lambda label: health.by_label[label], default=None)
        if self._stop_at is not None and share >= self._stop_at:
            _log.warning(
                "The search stops in epoch %d: %.0f %% of the derived operations have no weights (limit %.0f %%).",
                trainer.current_epoch, 100 * share, 100 * self._stop_at,
            )  # fmt: skip
            trainer.should_stop = True
        elif self._warns and worst is not None and _is_suspicious(health, worst):
            self._warns = False
            _log.warning(
                "The search may be collapsing: in epoch %d, %.0f %% of the operations derived for %r have no weights "
                "(skips, pools), %.0f %% in all; alpha entropy is %.2f%s. Try stop_at_parameter_free, a larger weight "
                "decay of the weights, or perturbation_selection.",
                trainer.current_epoch, 100 * health.by_label[worst], worst, 100 * share, health.entropy,
                "" if math.isnan(health.gap) else f", and the derived network scores {health.gap:.3g} worse",
            )  # fmt: skip
