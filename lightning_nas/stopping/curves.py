"""Learning curves continued by parametric ones.

Every curve is `c - a g(x)` with `a >= 0` and a shape `g` that falls towards 0, so it rises from step to step
towards `c`. For given `g` the best `a` and `c` are those of a straight line through the points (g(x), y);
what else a shape depends on is searched on a grid. So no fit depends on a starting point or can fail.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_EXPONENTS = np.geomspace(0.1, 4.0, 24)
_SHIFTS = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
_RATES = np.geomspace(1e-3, 3.0, 24)
_POWERS = np.array([0.5, 0.75, 1.0, 1.5, 2.0])
_EXACT = 1e-6  # of the curve's range: a fit as close as this is as good as exact


def extrapolated(curve: Sequence[float], step: int) -> float | None:
    """The value that `curve` is going to have at `step`, for a curve that rises on the whole.

    Four families are fitted by least squares: pow4 `(x + b)^-k`, exp4 `exp(-(k x)^b)` (the same as Weibull and
    Janoschek), MMF `1 / (1 + (k x)^b)` (with Hill's) and ilog2 `1 / log(x + 1)`. They count by their likelihood
    under normal noise, less half the logarithm of the number of points per parameter (BIC).

    Args:
        curve: values at the steps 1, 2, ..., n.
        step: counts from 1; more than n.

    Returns:
        The weighted mean of the families; None for fewer than 2 values or if one is not finite.

    Source: Domhan et al., IJCAI 2015, section 3.1 and table 1. Unlike the paper, no distribution of the
    parameters is sampled, curves are weighted by how well they fit, and its vapor pressure, log log
    linear and log power curves are left out.
    """
    y = np.asarray(curve, dtype=float)
    n = len(y)
    if n < 2 or not np.isfinite(y).all():
        return None
    low, height = y.min(), np.ptp(y)
    if height == 0:
        return float(low)
    y = (y - low) / height
    x = np.append(np.arange(1, n + 1), step).astype(float)
    fits = [_fit(shapes, y) for shapes in _families(x)]
    errors = np.array([error for _, error, _ in fits])
    parameters = np.array([parameters for _, _, parameters in fits])
    criterion = -0.5 * n * np.log(np.maximum(errors / n, _EXACT**2)) - 0.5 * np.log(n) * parameters
    weights = np.exp(criterion - criterion.max())
    return float(low + height * (weights @ [value for value, _, _ in fits]) / weights.sum())


def _families(x: np.ndarray) -> list[np.ndarray]:
    """For each family its shapes at the steps `x`: shape (k, n + 1), one row per point of the grid."""
    exponents, shifts = (grid.reshape(-1, 1) for grid in np.meshgrid(_EXPONENTS, _SHIFTS))
    rates, powers = (grid.reshape(-1, 1) for grid in np.meshgrid(_RATES, _POWERS))
    return [
        (x + shifts) ** -exponents,
        np.exp(-((rates * x) ** powers)),
        1 / (1 + (rates * x) ** powers),
        1 / np.log(x + 1)[None],
    ]


def _fit(shapes: np.ndarray, y: np.ndarray) -> tuple[float, float, int]:
    """The best curve of one family.

    Args:
        shapes: shape (k, n + 1); the last column is the step to be predicted.
        y: shape (n,).

    Returns:
        Its value at that step, the sum of its squared errors, and how many parameters it has.
    """
    seen, wanted = shapes[:, :-1], shapes[:, -1]
    means = seen.mean(1, keepdims=True)
    spread = ((seen - means) ** 2).sum(1)
    slope = ((seen - means) * (y - y.mean())).sum(1) / np.maximum(spread, np.finfo(float).tiny)
    a = np.maximum(-slope, 0.0)  # a curve that falls is taken for a flat one
    c = y.mean() + a * means[:, 0]
    errors = ((c[:, None] - a[:, None] * seen - y) ** 2).sum(1)
    best = int(errors.argmin())
    return float(c[best] - a[best] * wanted[best]), float(errors[best]), 2 + 2 * (len(shapes) > 1)
