"""Hypothesis draws domains, conditions, search spaces and samples.

Use them to state laws that must hold in every space:

    @given(search_spaces(), generators())
    def test_samples_lie_in_the_space(space, rng):
        assert space.contains(space.sample(rng))
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from lightning_nas.space import (
    Categorical,
    Condition,
    Domain,
    Float,
    Integer,
    Normal,
    Quantized,
    SearchSpace,
    Subset,
    value_key,
)

_SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 999),
    st.floats(-10, 10, allow_nan=False).map(lambda x: round(x, 3)),
    st.text("abcxyz_13", max_size=5),
)
_VALUES = st.one_of(_SCALARS, st.lists(_SCALARS, max_size=2).map(tuple))
_LABELS = st.text("abcd_/.01", min_size=1, max_size=6)


def generators() -> st.SearchStrategy[np.random.Generator]:
    """Generators of random numbers, by seed; a failing example shows the seed's state only."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


def domains(*, finite: bool = False, max_size: int | None = None) -> st.SearchStrategy[Domain]:
    """Domains of all six kinds, among them those of one value and Categoricals with a prior.

    Args:
        finite: leave out continuous domains.
        max_size: finite domains have no more values than this; None for as many as come.
    """
    kinds: list[st.SearchStrategy[Domain]] = [categoricals(), integers(), subsets(), floats(continuous=False)]
    kinds.append(quantized())
    if not finite:
        kinds += [floats(continuous=True), normals()]
    return st.one_of(kinds).filter(lambda d: max_size is None or d.size == math.inf or d.size <= max_size)


@st.composite
def categoricals(draw: st.DrawFn, max_values: int = 4) -> Categorical:
    """Categoricals of up to `max_values` values, half of them with a prior."""
    values = draw(st.lists(_VALUES, min_size=1, max_size=max_values, unique_by=value_key))
    if draw(st.booleans()):
        return Categorical(values)
    weights = draw(st.lists(st.integers(0, 5), min_size=len(values), max_size=len(values)))
    weights[draw(st.integers(0, len(values) - 1))] += 1
    return Categorical(values, prior=[weight / sum(weights) for weight in weights])


@st.composite
def integers(draw: st.DrawFn, max_size: int = 4) -> Integer:
    """Integers of up to `max_size` values, in steps, some of them logarithmic."""
    log, step = draw(st.booleans()), draw(st.integers(1, 3))
    low = draw(st.integers(step // 2 + 1, 50) if log else st.integers(-50, 50))
    return Integer(low, low + draw(st.integers(0, max_size * step - 1)), step, log)


@st.composite
def floats(draw: st.DrawFn, continuous: bool = True, max_size: int = 4) -> Float:
    """Floats, continuous or on a grid of up to `max_size` values, some of them logarithmic."""
    log = draw(st.booleans())
    if continuous:
        low = draw(st.floats(1e-5, 10) if log else st.floats(-10, 10))
        return Float(low, low + draw(st.floats(1e-3, 10)), log)
    step = draw(st.sampled_from([0.1, 0.25, 0.3, 1.0, 1e-4]))
    low = draw(st.integers(1, 20) if log else st.integers(-20, 20)) * step
    return Float(low, low + (draw(st.integers(0, max_size - 1)) + 0.1) * step, log, step)


@st.composite
def quantized(draw: st.DrawFn, max_size: int = 4) -> Quantized:
    """Quantized of up to `max_size` values, the ends multiples or not, some of them logarithmic."""
    log, step = draw(st.booleans()), draw(st.sampled_from([0.1, 0.25, 0.3, 1.0, 1e-4]))
    low = draw(st.integers(1, 200) if log else st.integers(-200, 200)) * step / 10
    return Quantized(low, low + draw(st.integers(0, (max_size - 1) * 10 - 1)) * step / 10, step, log)


@st.composite
def normals(draw: st.DrawFn, rounded: bool = False) -> Normal:
    """Normals, some of them logarithmic.

    Args:
        rounded: to a grid. Few values of it are likely then, so that searches of it end early: `domains`
            has none of these.
    """
    step = draw(st.sampled_from([0.1, 1.0])) if rounded else None
    return Normal(draw(st.floats(-3, 3)), draw(st.floats(0.1, 3)), draw(st.booleans()), step)


@st.composite
def subsets(draw: st.DrawFn, max_values: int = 4) -> Subset:
    """Subsets of up to `max_values` values, of a fixed, bounded or any size."""
    values = draw(st.lists(_VALUES, min_size=1, max_size=max_values, unique_by=value_key))
    low = draw(st.integers(0, len(values)))
    high = draw(st.integers(low, len(values)))
    return Subset(values, draw(st.sampled_from([low, (low, high), None])))


@st.composite
def conditions(draw: st.DrawFn, domains: Mapping[str, Domain]) -> Condition:
    """Conditions of up to two clauses on up to two labels each, of finite `domains`.

    A few always hold (an empty clause) or never do (no clause, or two that exclude each other).
    """
    labels = sorted(domains)
    clauses = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 2, 0]))):
        on = draw(st.lists(st.sampled_from(labels), max_size=2, min_size=draw(st.sampled_from([1, 1, 1, 0]))))
        clauses.append({label: draw(_some_of(list(domains[label]))) for label in on})
    return Condition(*clauses)


@st.composite
def search_spaces(
    draw: st.DrawFn,
    max_labels: int = 6,
    conditions: bool = True,
    *,
    min_labels: int = 0,
    finite: bool = False,
    max_size: int | None = None,
) -> SearchSpace:
    """Search spaces of `min_labels` to `max_labels` labels.

    Args:
        max_labels, min_labels: how many labels, both included.
        conditions: about half of the labels depend on others, also on some that depend on others.
        finite, max_size: of the domains, as of `domains`.
    """
    names = draw(st.lists(_LABELS, min_size=min_labels, max_size=max_labels, unique=True))
    found = {name: draw(domains(finite=finite, max_size=max_size)) for name in names}
    given = {}
    for i, name in enumerate(names):
        earlier = {n: found[n] for n in names[:i] if found[n].size != math.inf}
        if conditions and earlier and draw(st.booleans()):
            given[name] = draw(_conditions(earlier))
    return SearchSpace(found, given)


@st.composite
def samples(draw: st.DrawFn, space: SearchSpace) -> dict[str, Any]:
    """Samples of a space."""
    return space.sample(draw(generators()))


def _some_of(values: Sequence[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3)


_conditions = conditions
