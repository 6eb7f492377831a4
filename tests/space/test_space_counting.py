"""`size` and `enumerate` against brute force, and against numbers known in closed form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings

from lightning_nas.errors import SpaceError
from lightning_nas.space import Categorical, Condition, Float, Integer, SearchSpace, Subset, value_key
from lightning_nas.testing.domains import search_spaces

SMALL = search_spaces(max_labels=6, finite=True, max_size=3)


def brute_force(space: SearchSpace) -> set[Hashable]:
    """All samples, from all values of all labels and the plain meaning of a condition."""

    def is_active(label: str, values: Mapping[str, Any]) -> bool:
        if label not in space.conditions:
            return True
        return any(
            all(
                is_active(name, values) and value_key(values[name]) in map(value_key, allowed)
                for name, allowed in clause.items()
            )
            for clause in space.conditions[label].clauses
        )

    found = set()
    for combination in itertools.product(*space.values()):
        values = dict(zip(space, combination))
        found.add(frozenset((label, value_key(values[label])) for label in space if is_active(label, values)))
    return found


@settings(max_examples=150)
@given(SMALL)
def test_size_and_enumeration_are_those_of_brute_force(space: SearchSpace) -> None:
    expected = brute_force(space)
    listed = [
        frozenset((label, value_key(value)) for label, value in sample.items())
        for sample in space.enumerate()
    ]
    assert set(listed) == expected
    assert len(listed) == len(expected)
    assert space.size == len(expected)


@given(SMALL)
def test_enumeration_is_in_lexicographic_order(space: SearchSpace) -> None:
    # A label that is not active comes before all values; two samples first differ at an active label.
    positions = [
        [space[label].index(sample[label]) if label in sample else -1 for label in space]
        for sample in space.enumerate()
    ]
    assert positions == sorted(positions)


def choices(count: int, *labels: str) -> dict[str, Categorical]:
    return {label: Categorical(range(count)) for label in labels}


def test_the_empty_space_has_one_sample() -> None:
    assert SearchSpace({}).size == 1
    assert list(SearchSpace({}).enumerate()) == [{}]


def test_a_label_that_is_never_active_does_not_count() -> None:
    space = SearchSpace(
        choices(3, "a", "b", "c"),
        {"b": Condition({"a": [0]}) & Condition({"a": [1]}), "c": Condition({"b": [0]})},
    )
    assert space.size == 3
    assert [list(sample) for sample in space.enumerate()] == [["a"]] * 3


def test_darts_cells_have_the_sizes_that_were_published() -> None:
    # Two cells of 4 nodes, 2 operations each; node i (from 2) has i predecessors.
    def cells(n_operations: int, distinct: bool = False) -> SearchSpace:
        domains: dict[str, Any] = {}
        for cell, node in itertools.product(("normal", "reduce"), range(2, 6)):
            for k in range(2):
                domains[f"{cell}/op_{node}_{k}"] = Categorical(range(n_operations))
                if not distinct:
                    domains[f"{cell}/input_{node}_{k}"] = Categorical(range(node))
            if distinct:
                domains[f"{cell}/input_{node}"] = Subset(range(node), size=2)
        return SearchSpace(domains)

    assert cells(7).size == 6_891_180_482_912_463_360_000 == 83_013_134_400**2
    assert cells(7, distinct=True).size == 1_076_746_950_455_072_400 == 1_037_664_180**2
    assert cells(8).size == 58_366_651_170_721_628_160_000


def test_many_independent_labels_are_counted() -> None:
    assert SearchSpace(choices(8, *(f"op_{i}" for i in range(64)))).size == 8**64


def test_layers_under_depths_are_counted() -> None:
    # As in MobileNetV3: four stages of 2 to 4 layers, a kernel and an expansion for each layer.
    domains, conditions = {}, {}
    for stage, layer in itertools.product(range(4), range(4)):
        domains.update(choices(3, f"{stage}/depth"))
        for name in ("kernel", "expansion"):
            domains.update(choices(3, f"{stage}/{layer}/{name}"))
            if layer >= 2:
                conditions[f"{stage}/{layer}/{name}"] = Condition(
                    {f"{stage}/depth": [d for d in range(3) if d + 2 > layer]}
                )
    assert SearchSpace(domains, conditions).size == (9**2 + 9**3 + 9**4) ** 4


@pytest.mark.parametrize("names_ancestors", [False, True])
def test_deep_chains_are_counted(names_ancestors: bool) -> None:
    depth = 100
    labels = [f"x{i:03}" for i in range(depth)]
    conditions = {
        labels[i]: Condition({name: [1] for name in labels[0 if names_ancestors else i - 1 : i]})
        for i in range(1, depth)
    }
    assert SearchSpace(choices(3, *labels), conditions).size == 2 * depth + 1


def test_a_long_row_of_labels_that_share_dependants_is_counted() -> None:
    # c_i is active unless both its neighbours are 0: a transfer matrix over the value of x_i.
    n = 150
    domains = {f"x{i:03}": Categorical([0, 1]) for i in range(n)} | {
        f"c{i:03}": Categorical(range(5)) for i in range(n - 1)
    }
    conditions = {f"c{i:03}": Condition({f"x{i:03}": [1]}, {f"x{i + 1:03}": [1]}) for i in range(n - 1)}
    ending_in = [1, 1]
    for _ in range(n - 1):
        ending_in = [ending_in[0] + 5 * ending_in[1], 5 * sum(ending_in)]
    assert SearchSpace(domains, conditions).size == sum(ending_in)


def test_a_label_that_depends_on_any_of_many_is_counted() -> None:
    n = 60
    condition = Condition(*({f"x{i}": [1]} for i in range(n)))
    space = SearchSpace(choices(3, *(f"x{i}" for i in range(n)), "last"), {"last": condition})
    assert space.size == 3 * (3**n - 2**n) + 2**n


def test_a_large_domain_under_a_condition_is_not_listed() -> None:
    space = SearchSpace(
        {"n": Integer(1, 10**30), "a": Categorical(range(4))}, {"a": Condition({"n": [1, 10**30]})}
    )
    assert space.size == 10**30 - 2 + 2 * 4


def test_a_continuous_label_makes_the_space_infinite_where_it_can_be_active() -> None:
    domains = {"a": Categorical([0, 1]), "rate": Float(0, 1)} | choices(10, *(f"x{i}" for i in range(400)))
    assert SearchSpace(domains).size == math.inf
    assert SearchSpace(domains, {"rate": Condition({"a": [1]})}).size == math.inf
    never = SearchSpace(domains, {"rate": Condition()})
    assert never.size == 2 * 10**400
    assert next(never.enumerate())["a"] == 0


def test_an_infinite_space_cannot_be_listed() -> None:
    space = SearchSpace({"rate": Float(0, 1)})
    assert not space.is_finite
    with pytest.raises(SpaceError, match=r"'rate' is continuous .*give it a step"):
        space.enumerate()


def test_listing_is_lazy_and_not_recursive() -> None:
    space = SearchSpace(choices(2, *(f"x{i:04}" for i in range(3000))))
    first, second = itertools.islice(space.enumerate(), 2)
    assert sum(first.values()) == 0
    assert {label for label in second if second[label]} == {"x2999"}
