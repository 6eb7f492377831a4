"""Laws of samples in spaces drawn by hypothesis; how often; and what is said of wrong samples."""

from __future__ import annotations

import json
import math
import pickle
from collections import Counter
from copy import deepcopy
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lightning_nas.errors import SampleError, SpaceError
from lightning_nas.space import Categorical, Condition, Float, Integer, SearchSpace, Subset
from lightning_nas.testing.domains import generators, samples, search_spaces

SPACE = SearchSpace(
    {
        "optimizer": Categorical(["adam", "sgd"]),
        "momentum": Categorical([0.0, 0.9]),
        "nesterov": Categorical([False, True]),
        "depth": Integer(1, 4),
        "kernel": Categorical([(3, 3), (5, 5)]),
    },
    {"momentum": Condition({"optimizer": ["sgd"]}), "nesterov": Condition({"momentum": [0.9]})},
)
SGD = {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "depth": 2, "kernel": (3, 3)}
ADAM = {"optimizer": "adam", "depth": 2, "kernel": (3, 3)}


@given(search_spaces(), generators())
def test_samples_lie_in_the_space(space: SearchSpace, rng: np.random.Generator) -> None:
    for sample in (space.sample(rng), space.default()):
        assert space.why_not(sample) is None
        assert space.contains(sample)
        assert list(sample) == space.active(sample)
        assert space.check(sample) == sample


@given(search_spaces(), st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_the_order_of_labels_does_not_matter(space: SearchSpace, seed: int, random: Any) -> None:
    labels = random.sample(list(space), len(space))
    other = SearchSpace(
        {label: space[label] for label in labels},
        {label: space.conditions[label] for label in labels if label in space.conditions},
    )
    assert other == space
    assert hash(other) == hash(space)
    assert repr(other) == repr(space)
    one, two = np.random.default_rng(seed), np.random.default_rng(seed)
    sample = space.sample(one)
    shuffled = {label: sample[label] for label in random.sample(list(sample), len(sample))}
    assert other.sample(two) == sample
    if any(space[label].size > 1 for label in sample):
        assert other.mutate(shuffled, two) == space.mutate(sample, one)


@given(search_spaces(), generators(), st.data())
def test_a_mutation_changes_one_label_and_what_follows(
    space: SearchSpace, rng: np.random.Generator, data: st.DataObject
) -> None:
    sample = data.draw(samples(space))
    before = deepcopy(sample)
    if all(space[label].size == 1 for label in sample):
        with pytest.raises(SampleError, match="cannot be mutated"):
            space.mutate(sample, rng)
        return
    child = space.mutate(sample, rng)
    assert sample == before
    assert space.contains(child)
    changed = [n for n in sample.keys() & child.keys() if space[n].key(sample[n]) != space[n].key(child[n])]
    assert len(changed) == 1
    follows = {n for n in space.conditions if changed[0] in space.conditions[n].labels}
    for _ in space:
        follows |= {n for n in space.conditions if space.conditions[n].labels & follows}
    assert sample.keys() ^ child.keys() <= follows


@given(search_spaces(finite=True, max_size=4), st.data())
def test_neighbours_are_all_samples_one_change_away(space: SearchSpace, data: st.DataObject) -> None:
    sample = data.draw(samples(space))
    neighbours = list(space.neighbours(sample))
    assert all(map(space.contains, neighbours))
    keys = {space.key(neighbour) for neighbour in neighbours}
    assert len(keys) == len(neighbours) == sum(int(space[label].size) - 1 for label in sample)
    assert space.key(sample) not in keys


@given(search_spaces(), generators(), st.data())
def test_completing_keeps_what_is_given(
    space: SearchSpace, rng: np.random.Generator, data: st.DataObject
) -> None:
    sample = data.draw(samples(space))
    assert space.complete(sample) == sample
    kept = data.draw(st.sets(st.sampled_from(sorted(sample)))) if sample else set()
    for generator in (rng, None):
        full = space.complete({label: sample[label] for label in kept}, generator)
        assert space.contains(full)
        assert all(full[label] == sample[label] for label in kept & full.keys())


@given(search_spaces(), st.data())
def test_samples_and_spaces_pass_through_json(space: SearchSpace, data: st.DataObject) -> None:
    written = space.to_json()
    assert json.loads(json.dumps(written)) == written
    read = SearchSpace.from_json(json.loads(json.dumps(written)))
    assert read == space
    sample = data.draw(samples(space))
    sample_read = json.loads(json.dumps(sample, sort_keys=True))
    assert space.contains(sample_read)
    assert space.check(sample_read) == sample
    assert read.key(sample_read) == space.key(sample)
    assert space.active(sample_read) == list(sample)
    if any(space[label].size > 1 for label in sample):
        one, two = (space.mutate(given, np.random.default_rng(1)) for given in (sample, sample_read))
        assert repr(one) == repr(two)


@given(search_spaces(), st.data())
def test_codes_can_be_read_back(space: SearchSpace, data: st.DataObject) -> None:
    sample = data.draw(samples(space))
    code = space.encode(sample)
    assert code.shape == (space.width,)
    assert np.all((code >= 0) & (code <= 1))
    decoded = space.decode(code)
    assert list(decoded) == list(sample)
    for label, value in sample.items():
        if space[label].size == math.inf:
            assert decoded[label] == pytest.approx(value, rel=1e-9, abs=1e-9)
        else:
            assert space[label].key(decoded[label]) == space[label].key(value)


@given(search_spaces(finite=True, max_size=3, max_labels=4))
def test_codes_and_keys_tell_all_samples_apart(space: SearchSpace) -> None:
    listed = list(space.enumerate())
    assert len({space.key(sample) for sample in listed}) == len(listed)
    assert len({space.encode(sample).tobytes() for sample in listed}) == len(listed)


@given(search_spaces(min_labels=1), st.data())
def test_a_sample_without_one_of_its_labels_is_refused(space: SearchSpace, data: st.DataObject) -> None:
    sample = data.draw(samples(space))
    assume(sample)
    label = data.draw(st.sampled_from(sorted(sample)))
    reason = space.why_not({n: v for n, v in sample.items() if n != label})
    assert reason is not None


@given(search_spaces())
def test_spaces_can_be_pickled(space: SearchSpace) -> None:
    for pickler in (pickle, cloudpickle):
        again = pickler.loads(pickler.dumps(space))
        assert again == space
        assert again.sample(np.random.default_rng(0)) == space.sample(np.random.default_rng(0))
    assert deepcopy(space) == space


@given(search_spaces(), search_spaces())
def test_joining_keeps_all_labels(one: SearchSpace, other: SearchSpace) -> None:
    other = SearchSpace(
        {f"2{label}": domain for label, domain in other.items()},
        {
            f"2{label}": Condition(*({f"2{n}": v for n, v in c.items()} for c in condition.clauses))
            for label, condition in other.conditions.items()
        },
    )
    joined = one | other
    assert joined.keys() == one.keys() | other.keys()
    assert joined == other | one
    assert joined | one == joined
    assert joined.size == (one.size * other.size if joined.is_finite else math.inf)


# -- how often ---------------------------------------------------------------------------------------


def test_each_active_label_is_mutated_alike() -> None:
    # Of 4000 mutations each of 4 labels gets 1000, with a standard deviation of 27; a right mutation is
    # outside of 5 of them, for any of the labels, with a chance of 2e-6.
    space = SPACE | {"fixed": Categorical(["only"])}
    sample = {**SGD, "momentum": 0.0, "fixed": "only"}
    del sample["nesterov"]
    rng = np.random.default_rng(0)
    counts: Counter[str] = Counter()
    for _ in range(4000):
        child = space.mutate(sample, rng)
        counts.update(label for label in sample if label not in child or child[label] != sample[label])
    counts["momentum"] -= counts["optimizer"]  # dropped along with it
    assert counts.keys() == {"optimizer", "momentum", "depth", "kernel"}
    assert all(abs(count - 1000) <= 5 * 27.4 for count in counts.values())


def test_sampling_is_uniform_per_active_label() -> None:
    # 4000 draws: P(sgd) = 1/2, P(0.9 and sgd) = 1/4, P(nesterov) = 1/8; 5 standard deviations, as above.
    rng = np.random.default_rng(0)
    drawn = [SPACE.sample(rng) for _ in range(4000)]
    for label, value, chance in (
        ("optimizer", "sgd", 1 / 2),
        ("momentum", 0.9, 1 / 4),
        ("nesterov", True, 1 / 8),
    ):
        count = sum(sample.get(label) == value for sample in drawn)
        assert abs(count - 4000 * chance) <= 5 * math.sqrt(4000 * chance * (1 - chance))


# -- by hand -----------------------------------------------------------------------------------------


def test_labels_come_after_those_they_depend_on_and_else_by_name() -> None:
    assert list(SPACE) == ["depth", "kernel", "optimizer", "momentum", "nesterov"]
    assert SPACE.active(ADAM) == ["depth", "kernel", "optimizer"]


def test_completing_drops_what_is_not_active() -> None:
    assert SPACE.complete({**SGD, "optimizer": "adam"}) == ADAM
    assert SPACE.complete({"optimizer": "sgd", "kernel": [5, 5]}) == {
        "depth": 1,
        "kernel": (5, 5),
        "optimizer": "sgd",
        "momentum": 0.0,
    }


def test_a_space_is_shown_as_a_table() -> None:
    assert repr(SPACE).splitlines() == [
        "SearchSpace(",
        "  depth      Integer(low=1, high=4, step=1, log=False)",
        "  kernel     Categorical([(3, 3), (5, 5)])",
        "  optimizer  Categorical(['adam', 'sgd'])",
        "  momentum   Categorical([0.0, 0.9])                    if optimizer is 'sgd'",
        "  nesterov   Categorical([False, True])                 if momentum is 0.9",
        ")",
    ]


def test_samples_are_encoded_with_a_flag_per_label() -> None:
    space = SearchSpace(
        {"a": Categorical(["x", "y"]), "b": Float(1, 100, log=True), "c": Subset([1, 2, 3])},
        {"b": Condition({"a": ["y"]})},
    )
    assert space.width == 3 + 4 + 2
    assert list(space) == ["a", "b", "c"]
    assert space.encode({"a": "x", "c": [1, 3]}).tolist() == [1, 1, 0, 0, 0, 1, 1, 0, 1]
    assert space.encode({"a": "y", "c": [], "b": 10.0}).tolist() == [1, 0, 1, 1, 0.5, 1, 0, 0, 0]
    with pytest.raises(ValueError, match=r"must have shape \(9,\), but has \(2,\)"):
        space.decode(np.zeros(2))


def test_conditions_are_written_as_the_domains_write_values() -> None:
    space = SearchSpace(
        {"rate": Float(0, 1, step=0.1), "inputs": Subset([0, 1, 2], size=2), "a": Categorical([0, 1])},
        {"a": Condition({"rate": [1], "inputs": [[2, 0]]})},
    )
    assert space.active({"rate": 1.0, "inputs": [0, 2]}) == ["inputs", "rate", "a"]
    assert space.active({"rate": 1, "inputs": (2, 0)}) == ["inputs", "rate", "a"]
    assert space.active({"rate": 1.0, "inputs": [0, 1]}) == ["inputs", "rate"]
    assert space.size == 11 * 3 + 1


def test_a_condition_that_always_holds_is_none() -> None:
    space = SearchSpace({"a": Categorical([0])}, {"a": Condition({})})
    assert space == SearchSpace({"a": Categorical([0])})
    assert not space.conditions


def test_a_space_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        SPACE.conditions["depth"] = Condition()  # type: ignore[index]
    with pytest.raises(AttributeError):
        SPACE.conditions = {}  # type: ignore[misc]


def test_a_model_space_joins_with_plain_domains() -> None:
    joined = SPACE | {"lr": Float(1e-4, 1e-1, log=True)}
    assert joined == {"lr": Float(1e-4, 1e-1, log=True)} | SPACE
    assert joined.conditions == SPACE.conditions
    with pytest.raises(TypeError):
        SPACE | 3  # type: ignore[operator]


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (
            {**SGD, "momentun": 0.9},
            "The label 'momentun' is not in this space; did you mean 'momentum'?",
        ),
        (
            {**SGD, "q": 0.9},
            "The label 'q' is not in this space; it has 'depth', 'kernel', 'optimizer', 'momentum', 'nesterov'.",
        ),
        ({**SGD, "depth": 9}, "The value of 'depth' is wrong: 9 is not a whole number from 1 to 4."),
        (
            {**SGD, "optimizer": "adam"},
            "The label 'momentum' is active only if optimizer is 'sgd', but 'optimizer' is 'adam'; leave it out.",
        ),
        (
            {**ADAM, "nesterov": True},
            "The label 'nesterov' is active only if momentum is 0.9, but 'momentum' is not active; leave it out.",
        ),
        (
            {"optimizer": "sgd", "nesterov": True, "depth": 2, "kernel": (3, 3)},
            "The sample has no value for 'momentum' (it is active as optimizer is 'sgd'); "
            "it takes a value of Categorical([0.0, 0.9]).",
        ),
        (
            {},
            "The sample has no value for 'depth'; it takes a value of Integer(low=1, high=4, step=1, log=False).",
        ),
        ([1], "A sample is a dict {label: value}, but got [1]."),
    ],
)
def test_what_is_wrong_with_a_sample_is_said(sample: Any, reason: str) -> None:
    assert SPACE.why_not(sample) == reason
    assert not SPACE.contains(sample)
    with pytest.raises(SampleError) as caught:
        SPACE.check(sample)
    assert str(caught.value) == reason


def test_completing_refuses_unknown_labels_and_values() -> None:
    with pytest.raises(SampleError, match="did you mean 'depth'"):
        SPACE.complete({"depht": 2})
    with pytest.raises(SampleError, match="value of 'depth' is wrong: 9"):
        SPACE.complete({"depth": 9})


def test_neighbours_of_a_continuous_label_cannot_be_listed() -> None:
    space = SearchSpace({"rate": Float(0, 1)})
    with pytest.raises(SpaceError, match="'rate' is continuous"):
        space.neighbours({"rate": 0.5})


def test_newly_active_neighbours_take_defaults_or_draws() -> None:
    space = SearchSpace({"a": Categorical([0, 1]), "b": Integer(1, 10**9)}, {"b": Condition({"a": [1]})})
    assert list(space.neighbours({"a": 0})) == [{"a": 1, "b": 1}]
    assert next(space.neighbours({"a": 0}, np.random.default_rng(0)))["b"] > 1


A = Categorical([0, 1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SearchSpace({"a": [0, 1]}), r"maps labels to domains, but got 'a': \[0, 1\]"),
        (lambda: SearchSpace({1: A}), "maps labels to domains, but got 1"),
        (lambda: SearchSpace({"a": A}, {"b": Condition({"a": [1]})}), "for 'b', which is no label"),
        (lambda: SearchSpace({"a": A}, {"a": Condition({"b": [1]})}), "'a' is on 'b', which is no label"),
        (
            lambda: SearchSpace({"a": A, "b": A}, {"a": Condition({"b": [1, 2]})}),
            r"'a' is on a value that 'b' cannot have: 2 \(int\) is not among \[0, 1\]",
        ),
        (
            lambda: SearchSpace({"a": A, "b": Float(0, 1)}, {"a": Condition({"b": [0.5]})}),
            "'a' is on 'b', which is continuous .*give it a step",
        ),
        (lambda: SearchSpace({"a": A}, {"a": {"a": [1]}}), "'a' must be a Condition, but got {'a'"),
        (lambda: SearchSpace({"a": A}, {"a": Condition({"a": [1]})}), "in circles: 'a' needs 'a'"),
        (
            lambda: SearchSpace(
                {"a": A, "b": A, "c": A, "d": A},
                {n: Condition({on: [1]}) for n, on in (("a", "b"), ("b", "c"), ("c", "b"), ("d", "a"))},
            ),
            "in circles: 'b' needs 'c' needs 'b'",
        ),
        (
            lambda: SearchSpace({"a": A}) | {"a": Categorical([0, 2])},
            r"'a' is in both spaces, but not the same: Categorical\(\[0, 1\]\) and Categorical\(\[0, 2\]\)",
        ),
        (
            lambda: SPACE | {"momentum": Categorical([0.0, 0.9])},
            r"'momentum' is in both .* if optimizer is 'sgd' and Categorical\(\[0.0, 0.9\]\). Rename",
        ),
        (
            lambda: SearchSpace.from_json({"a": {}}),
            "is an object with the objects 'domains' .* but got {'a': {}}",
        ),
        (lambda: SearchSpace.from_json({"domains": []}), "with the objects 'domains'"),
        (
            lambda: SearchSpace.from_json({"domains": {"a": {"type": "categorical", "values": []}}}),
            "domain of 'a' cannot be read: Categorical needs at least one value",
        ),
    ],
)
def test_a_wrong_space_is_refused(make: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make()
