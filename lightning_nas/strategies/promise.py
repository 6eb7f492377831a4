"""A linear model of the trials so far, which says what other samples promise."""

from __future__ import annotations

import numpy as np

from lightning_nas.space import Categorical, Domain, Sample, SearchSpace, Subset

_KNOTS = np.linspace(0.0, 1.0, 5)


def features(space: SearchSpace, sample: Sample) -> np.ndarray:
    """`sample` as numbers in [0, 1] of which a linear model can make much.

    Returns:
        Shape (d,), the same d for all samples of `space`: for each label 1 if it is active, then a
        Categorical one-hot, a Subset with a 1 for each member, and a number by hat functions on five
        evenly spaced knots of its range (in the logarithm if it is logarithmic), so that its effect is
        piecewise linear. All zeros where a label is not active.
    """
    parts: list[np.ndarray] = []
    for label, domain in space.items():
        if label in sample:
            parts += [np.ones(1), _coded(domain, sample[label])]
        else:
            parts.append(np.zeros(1 + _width(domain)))
    return np.concatenate(parts) if parts else np.zeros(0)


def _is_number(domain: Domain) -> bool:
    return not isinstance(domain, (Categorical, Subset))


def _width(domain: Domain) -> int:
    return len(_KNOTS) if _is_number(domain) else domain.width


def _coded(domain: Domain, value: object) -> np.ndarray:
    code = domain.encode(value)
    if not _is_number(domain):
        return code
    return np.maximum(0.0, 1.0 - np.abs(code - _KNOTS) * (len(_KNOTS) - 1))


def promise(known: np.ndarray, scores: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """How good other samples may be, by a linear model of the trials so far.

    Args:
        known: shape (n, d), the features of the trials that are over.
        scores: shape (n,), their scores, higher is better; -inf for failed trials, all of which rank last.
        ahead: shape (m, d), the features of the samples to judge.

    Returns:
        Shape (m,), no unit, higher is better: what a ridge regression with penalty 1 predicts, plus
        the standard error of that for noise of variance 1. The regression is on minus the logarithm of
        the rank, the best being 1: how the best differ counts more than how the worst do.

    Source: Li et al., "A Contextual-Bandit Approach to Personalized News Article Recommendation", WWW
    2010, Algorithm 1 with alpha = 1 (arXiv:1003.0146).
    """
    order = np.argsort(-scores, kind="stable")
    target = np.empty(len(scores))
    target[order] = -np.log(np.arange(1, len(scores) + 1))
    target[np.isneginf(scores)] = -np.log(len(scores))
    precision = known.T @ known + np.eye(known.shape[1])
    weights = np.linalg.solve(precision, known.T @ (target - target.mean()))
    variance = np.einsum("md,dm->m", ahead, np.linalg.solve(precision, ahead.T))
    return np.asarray(ahead @ weights + np.sqrt(variance))
