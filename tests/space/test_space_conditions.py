"""Conditions: their algebra, their words and their JSON."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_nas.errors import SpaceError
from lightning_nas.space import Categorical, Condition, Domain, value_key
from lightning_nas.testing.domains import conditions

DOMAINS: dict[str, Domain] = {label: Categorical([0, 1, True]) for label in "abc"}


def holds(condition: Condition, values: Mapping[str, Any]) -> bool:
    """As the docstring of `Condition` says."""
    return any(
        all(
            name in values and value_key(values[name]) in map(value_key, allowed)
            for name, allowed in clause.items()
        )
        for clause in condition.clauses
    )


def values() -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from("abc"), st.sampled_from([0, 1, True]))


@given(conditions(DOMAINS), conditions(DOMAINS), values())
def test_and_and_or_mean_what_they_say(one: Condition, other: Condition, sample: dict[str, Any]) -> None:
    assert holds(one & other, sample) == (holds(one, sample) and holds(other, sample))
    assert holds(one | other, sample) == (holds(one, sample) or holds(other, sample))


@given(conditions(DOMAINS))
def test_conditions_are_equal_by_content(condition: Condition) -> None:
    backwards = Condition(
        *({n: found[n][::-1] for n in reversed(list(found))} for found in reversed(condition.clauses))
    )
    read = Condition.from_json(json.loads(json.dumps(condition.to_json())))
    for again in (backwards, read, pickle.loads(pickle.dumps(condition)), eval(repr(condition))):
        assert again == condition
        assert hash(again) == hash(condition)


def test_values_of_conditions_are_told_apart_by_type() -> None:
    assert Condition({"a": [1]}) != Condition({"a": [True]})
    assert Condition({"a": [1, 1]}) == Condition({"a": {1}})
    assert Condition({"a": [[1, 2]]}) == Condition({"a": [(1, 2)]})


def test_a_condition_can_be_read_aloud() -> None:
    condition = Condition({"depth": [3, 4], "optimizer": ["sgd"]}, {"width": [64]})
    assert str(condition) == "depth is 3 or 4 and optimizer is 'sgd', or width is 64"
    assert str(Condition()) == "never"
    assert condition.labels == {"depth", "optimizer", "width"}


def test_a_condition_cannot_be_changed() -> None:
    condition = Condition({"a": [1]})
    with pytest.raises(TypeError):
        condition.clauses[0]["a"] = (2,)  # type: ignore[index]
    with pytest.raises(AttributeError):
        condition.clauses = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Condition({"depth": 3}), "gives 'depth' a list of at least one value, but got 3"),
        (lambda: Condition({"depth": []}), r"at least one value, but got \[\]"),
        (lambda: Condition({"depth": "abc"}), "but got 'abc'"),
        (lambda: Condition("depth"), "is a dict {label: values}, but got 'depth'"),
        (lambda: Condition({3: [1]}), "labels, which are strings, but got 3"),
        (lambda: Condition.from_json({"depth": [3]}), "is a list of clauses"),
    ],
)
def test_a_wrong_condition_is_refused(make: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make()
