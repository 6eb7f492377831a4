"""Laws of the six domains, and values computed by hand."""

from __future__ import annotations

import json
import math
import pickle
from enum import IntEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lightning_nas.errors import SampleError, SpaceError
from lightning_nas.space import (
    Categorical,
    Domain,
    Float,
    Integer,
    Normal,
    Quantized,
    Subset,
    domain_from_json,
    value_key,
)
from lightning_nas.testing.domains import domains, generators, normals


def same(one: Any, other: Any) -> bool:
    return value_key(one) == value_key(other) and type(one) is type(other)


@given(domains(), generators())
def test_what_is_drawn_lies_in_the_domain(domain: Domain, rng: np.random.Generator) -> None:
    value = domain.sample(rng)
    assert domain.why_not(value) is None
    assert value in domain
    assert same(domain.normalise(value), value)


@given(domains())
def test_the_default_lies_in_the_domain(domain: Domain) -> None:
    assert domain.default in domain


@given(domains(), generators())
def test_another_value_differs_and_lies_in_the_domain(domain: Domain, rng: np.random.Generator) -> None:
    assume(domain.size > 1)
    value = domain.sample(rng)
    other = domain.other(value, rng)
    assert other in domain
    assert domain.key(other) != domain.key(value)


@given(domains(finite=True))
def test_values_are_numbered_in_the_order_of_iteration(domain: Domain) -> None:
    values = list(domain)
    assert len(values) == domain.size
    assert len({domain.key(value) for value in values}) == domain.size
    for i, value in enumerate(values):
        assert domain.index(value) == i
        assert same(domain.at(i), value)


@given(domains(), generators())
def test_domains_and_values_pass_through_json(domain: Domain, rng: np.random.Generator) -> None:
    data = domain.to_json()
    assert json.loads(json.dumps(data)) == data
    assert domain_from_json(json.loads(json.dumps(data))) == domain
    value = domain.sample(rng)
    read = json.loads(json.dumps(value))
    assert domain.key(read) == domain.key(value)
    assert same(domain.normalise(read), value)


@given(domains())
def test_domains_are_equal_by_content(domain: Domain) -> None:
    again = pickle.loads(pickle.dumps(domain))
    assert again == domain
    assert hash(again) == hash(domain)
    assert eval(repr(domain)) == domain


@given(domains(), generators())
def test_codes_lie_between_zero_and_one_and_can_be_read_back(
    domain: Domain, rng: np.random.Generator
) -> None:
    value = domain.sample(rng)
    code = domain.encode(value)
    assert code.shape == (domain.width,)
    assert np.all((code >= 0) & (code <= 1))
    decoded = domain.decode(code)
    if domain.size == math.inf:
        assert decoded == pytest.approx(value, rel=1e-9, abs=1e-9)
    else:
        assert same(decoded, value)


@given(domains(), st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_any_numbers_decode_to_a_value(domain: Domain, numbers: list[float]) -> None:
    assert domain.decode(np.array(numbers[: domain.width])) in domain


@given(domains(), generators())
def test_a_seed_gives_one_value(domain: Domain, rng: np.random.Generator) -> None:
    state = rng.bit_generator.state
    first = domain.sample(rng)
    rng.bit_generator.state = state
    assert same(domain.sample(rng), first)


def test_values_are_told_apart_by_type() -> None:
    domain = Categorical([1, 1.0, True, "1", None])
    assert [domain.index(value) for value in (1, 1.0, True, "1", None)] == [0, 1, 2, 3, 4]
    assert type(domain.normalise(True)) is bool
    assert Categorical([1]) != Categorical([True])
    assert Categorical([(0, 1)]) != Categorical([(False, 1)])
    assert Categorical([1]) != Subset([1])
    assert Integer(1, 2) != Float(1, 2, step=1)


class Colour(IntEnum):
    RED = 1


def test_values_are_kept_as_plain_python() -> None:
    domain = Categorical([np.int64(3), np.float32(0.5), [1, [2]], Colour.RED])
    assert domain.values == (3, 0.5, (1, (2,)), 1)
    assert [type(value) for value in domain.values] == [int, float, tuple, int]
    assert type(domain.normalise(np.int32(3))) is int
    assert domain.normalise([1, [2]]) == (1, (2,))
    assert type(Integer(np.int64(1), 3).normalise(np.int64(2))) is int
    assert type(Float(0, 1).normalise(np.float32(0.5))) is float
    assert Subset(["a", "b", "c"]).normalise(("c", "a")) == ["a", "c"]


def test_a_whole_number_is_a_float_but_not_the_other_way_round() -> None:
    assert same(Float(0, 2).normalise(1), 1.0)
    assert Integer(0, 2).why_not(1.0) == "1.0 is not a whole number from 0 to 2."
    assert Integer(0, 2).why_not(True) == "True is not a whole number from 0 to 2."


def test_grids_are_decimal() -> None:
    assert list(Float(0.1, 0.7, step=0.1)) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert list(Float(-0.3, 0.2, step=0.2)) == [-0.3, -0.1, 0.1]
    assert Float(0, 1, step=0.3).high == 0.9
    assert Float(0, 0.1 * 3, step=0.1).size == 4
    assert Float(0, 1, step=0.1).normalise(0.1 + 0.2) == 0.3
    assert Float(0, 1, step=0.1).why_not(0.25) == "0.25 is not a number from 0 to 1 in steps of 0.1."
    assert Integer(1, 10, step=4) == Integer(1, 9, step=4)
    assert Float(1e6, 1e6 + 1e-6, step=1e-7).size == 11


def test_subsets_are_counted_and_listed_by_size() -> None:
    assert Subset(range(5), size=2).size == 10
    assert Subset(range(5)).size == 32
    assert list(Subset(["a", "b"])) == [[], ["a"], ["b"], ["a", "b"]]
    assert Subset(range(200), size=(3, 150)).size == sum(math.comb(200, k) for k in range(3, 151))


@given(st.integers(0, math.comb(60, 20) - 1))
def test_a_large_subset_is_found_by_its_number(index: int) -> None:
    domain = Subset(range(60), size=20)
    assert domain.index(domain.at(index)) == index


@given(st.integers(2**32, 10**40), generators())
def test_integers_may_be_of_any_size(size: int, rng: np.random.Generator) -> None:
    domain = Integer(0, size - 1)
    assert 0 <= domain.sample(rng) < size
    assert domain.other(size - 1, rng) < size - 1


# -- how often ---------------------------------------------------------------------------------------
#
# Each count is within 5 standard deviations of its mean. A count of a right sampler is outside with a
# chance of 6e-7; with fewer than 40 counts in all, a fresh seed would fail here once in 40,000.

N_DRAWS = 4000


def assert_drawn_as(counts: dict[Any, int], chances: dict[Any, float]) -> None:
    assert counts.keys() <= chances.keys()
    for value, chance in chances.items():
        spread = math.sqrt(N_DRAWS * chance * (1 - chance))
        assert abs(counts.get(value, 0) - N_DRAWS * chance) <= 5 * spread, value


def counted(draw: Any) -> dict[Any, int]:
    counts: dict[Any, int] = {}
    for _ in range(N_DRAWS):
        value = draw()
        key = tuple(value) if isinstance(value, list) else value
        counts[key] = counts.get(key, 0) + 1
    return counts


def test_a_prior_decides_how_often_a_value_is_drawn() -> None:
    rng = np.random.default_rng(0)
    domain = Categorical(["a", "b", "c", "d"], prior=[0.1, 0.6, 0.3, 0.0])
    assert_drawn_as(counted(lambda: domain.sample(rng)), {"a": 0.1, "b": 0.6, "c": 0.3, "d": 0.0})


def test_all_values_are_drawn_alike_without_a_prior() -> None:
    rng = np.random.default_rng(0)
    for domain in (Categorical(["a", "b", "c"]), Integer(0, 12, step=4), Float(0, 1, step=0.25)):
        chances = dict.fromkeys(domain, 1 / domain.size)
        assert_drawn_as(counted(lambda domain=domain: domain.sample(rng)), chances)


def test_all_subsets_are_drawn_alike() -> None:
    rng = np.random.default_rng(0)
    domain = Subset(["a", "b", "c"], size=(1, 2))
    assert_drawn_as(counted(lambda: domain.sample(rng)), {tuple(value): 1 / 6 for value in domain})


def test_a_logarithmic_integer_is_drawn_by_its_share_of_the_logarithm() -> None:
    rng = np.random.default_rng(0)
    whole = math.log(4.5 / 0.5)
    chances = {n: math.log((n + 0.5) / (n - 0.5)) / whole for n in (1, 2, 3, 4)}
    assert_drawn_as(counted(lambda: Integer(1, 4, log=True).sample(rng)), chances)
    assert_drawn_as(counted(lambda: int(Float(1, 4, log=True, step=1).sample(rng))), chances)


def test_a_logarithmic_float_falls_alike_into_each_decade() -> None:
    rng = np.random.default_rng(0)
    domain = Float(1e-4, 1e-1, log=True)
    counts = counted(lambda: math.floor(math.log10(domain.sample(rng))))
    assert_drawn_as(counts, dict.fromkeys((-4, -3, -2), 1 / 3))


def test_a_float_falls_alike_into_each_third() -> None:
    rng = np.random.default_rng(0)
    assert_drawn_as(counted(lambda: int(Float(-3, 6).sample(rng) + 3) // 3), dict.fromkeys((0, 1, 2), 1 / 3))


def test_other_values_are_drawn_alike_whatever_the_prior() -> None:
    rng = np.random.default_rng(0)
    domain = Categorical(["a", "b", "c"], prior=[0.1, 0.1, 0.8])
    assert_drawn_as(counted(lambda: domain.other("b", rng)), {"a": 0.5, "c": 0.5})


def test_large_numbers_are_drawn_alike() -> None:
    rng = np.random.default_rng(0)
    domain = Integer(0, 3 * 2**62 - 1)
    assert_drawn_as(counted(lambda: domain.sample(rng) >> 62), dict.fromkeys((0, 1, 2), 1 / 3))


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Categorical([]), "at least one value"),
        (lambda: Categorical("abc"), "takes a list of values, but got 'abc'"),
        (lambda: Categorical([3, 5, 3]), "must be distinct, but 3 is there twice"),
        (lambda: Categorical([{}]), "{} is of type dict"),
        (lambda: Categorical([math.nan]), "must be finite, but got nan"),
        (lambda: Categorical([1, 2], prior=[0.5, 0.6]), r"must sum to 1, but \[0.5, 0.6\] sums to 1.1"),
        (lambda: Categorical([1, 2], prior=[1.0]), r"must hold 2 numbers >= 0, .* but got \[1.0\]"),
        (lambda: Categorical([1, 2], prior=[1.5, -0.5]), "numbers >= 0"),
        (lambda: Categorical([1, 2], prior=["a", 1]), "numbers >= 0"),
        (lambda: Integer(3, 1), r"`low <= high` must hold for Integer, but got \(low=3, high=1"),
        (lambda: Integer(1, 2.5), "`high` of Integer must be a whole number, but got 2.5"),
        (lambda: Integer(1, 2, step=0), "`step > 0` must hold"),
        (lambda: Integer(0, 2, log=True), "`low > step / 2` must hold for Integer with log=True"),
        (lambda: Integer(1, 9, 1, "log"), "`log` of Integer must be True or False, but got 'log'"),
        (lambda: Float(0, 1, log=True), "`low > 0` must hold for Float with log=True"),
        (lambda: Float(0.1, 1, log=True, step=0.3), "`low > step / 2` must hold"),
        (lambda: Float(1, 0), "`low <= high` must hold for Float"),
        (lambda: Float(0, math.inf), "`high` of Float must be a finite number, but got inf"),
        (lambda: Float(-1.7e308, 1.7e308), "`high - low` must be finite"),
        (lambda: Float(0, 1, step=-0.1), "`step > 0` must hold"),
        (lambda: Subset([1, 2], size=3), "must be a number from 0 to 2, a pair .* but got 3"),
        (lambda: Subset([1, 2], size=(2, 1)), r"but got \(2, 1\)"),
        (lambda: Subset([]), "Subset needs at least one value"),
        (
            lambda: domain_from_json({"type": "weibull"}),
            r"'type' among \['categorical', .* but got {'type': 'weibull'}",
        ),
        (lambda: domain_from_json([1]), r"but got \[1\]"),
        (lambda: domain_from_json({"type": "float", "low": 1}), r"has the fields \['high', 'low'\]"),
        (lambda: domain_from_json({"type": "integer", "low": 1, "high": 2, "q": 1}), "'q'"),
    ],
)
def test_a_wrong_domain_is_refused(make: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make()


def test_a_wrong_value_is_refused_with_what_would_be_right() -> None:
    assert Categorical([1, 2]).why_not("1") == "'1' (str) is not among [1, 2]; 1 there is of type int."
    assert Categorical(["a"]).why_not({}) == "{} (dict) is not among ['a']."
    assert Subset([1, 2, 3], size=2).why_not([1, 1]) == (
        "[1, 1] is not a list of 2 different values among [1, 2, 3]."
    )
    assert Float(0, 1).why_not(math.nan) == "nan is not a number from 0 to 1."
    for domain in (Categorical([1, 2]), Subset([1, 2]), Integer(1, 2), Float(1, 2, step=1), Float(1, 2)):
        for wrong in ("x", [7], {}, np.zeros(2), math.inf, object()):
            assert wrong not in domain
            with pytest.raises(SampleError, match="is not"):
                domain.normalise(wrong)


def test_a_domain_of_one_value_has_no_other() -> None:
    rng = np.random.default_rng(0)
    for domain in (Categorical(["a"]), Integer(2, 2), Float(2, 2), Subset([1, 2], size=2)):
        assert domain.size == 1
        with pytest.raises(SampleError, match="has no value besides"):
            domain.other(domain.default, rng)


def test_a_continuous_domain_cannot_be_listed() -> None:
    for ask in (iter, lambda domain: domain.at(0), lambda domain: domain.index(0.5)):
        with pytest.raises(SpaceError, match=r"Float\(low=0.0, high=1.0.* is continuous"):
            ask(Float(0, 1))


@pytest.mark.parametrize(
    ("domain", "masses"),
    [
        # 2 to 10 in fives: below 2.5 it is 0, cut off to 2; at 7.5 begins 10. Eighths of the range.
        (Quantized(2, 10, 5), {2.0: 0.5 / 8, 5.0: 5 / 8, 10.0: 2.5 / 8}),
        (
            Quantized(0.005, 0.025, 0.005),
            {0.005: 1 / 8, 0.01: 1 / 4, 0.015: 1 / 4, 0.02: 1 / 4, 0.025: 1 / 8},
        ),
        # 4 is rounded to 5, so it is no value.
        (Quantized(4, 10, 5), {5.0: 3.5 / 6, 10.0: 2.5 / 6}),
        (Quantized(1, 8, 4, log=True), {1.0: 1 / 3, 4.0: math.log2(3) / 3, 8.0: (2 - math.log2(3)) / 3}),
    ],
)
def test_a_quantized_value_has_the_mass_that_is_rounded_to_it(
    domain: Quantized, masses: dict[float, float]
) -> None:
    assert list(domain) == list(masses)
    drawn = [domain.sample(np.random.default_rng([7, i])) for i in range(4000)]
    for value, mass in masses.items():
        # Five standard deviations: fails for a right domain once in 10**6.
        assert abs(drawn.count(value) / 4000 - mass) < 5 * math.sqrt(mass * (1 - mass) / 4000)


def test_a_normal_is_distributed_as_its_quantiles_say() -> None:
    rng = np.random.default_rng(3)
    for domain in (Normal(2, 0.5), Normal(-1, 1.5, log=True)):
        shares = sorted(float(domain.encode(domain.sample(rng))[0]) for _ in range(2000))
        # Kolmogorov-Smirnov: 2 / sqrt(n) is exceeded with a probability of 2 exp(-8), one in 1500.
        assert max(abs(share - i / 2000) for i, share in enumerate(shares)) < 2 / math.sqrt(2000)
    assert Normal(10, 4, step=5).normalise(15) == 15.0
    assert Normal(0, 1, log=True, step=2).sample(np.random.default_rng(0)) in (0.0, 2.0)
    assert Normal(5, 2).default == 5.0
    assert Normal(0, 1, step=1).decode(np.array([0.0])) == -8.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Quantized(1, 2, 0), "`step > 0` must hold for Quantized"),
        (lambda: Quantized(3, 2, 1), "`low <= high` must hold for Quantized"),
        (lambda: Quantized(0, 2, 1, log=True), "`low > 0` must hold for Quantized with log=True"),
        (lambda: Quantized("1", 2, 1), "`low` of Quantized must be a finite number, but got '1'"),
        (lambda: Normal(0, 0), "`deviation > 0` and `step > 0` must hold"),
        (lambda: Normal(0, 1, log=1), "`log` of Normal must be True or False"),
        (lambda: Normal(10, 100, log=True), "beyond floating point"),
        (lambda: Normal(0, 1).at(0), "cannot be listed"),
        (lambda: Normal(0, 1).index(0.0), "cannot be numbered"),
    ],
)
def test_a_wrong_rounded_domain_is_refused(make: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make()


def test_a_rounded_domain_says_what_a_value_should_be() -> None:
    assert Quantized(2, 10, 5).why_not(7) == "7 is none of the multiples of 5 from 2 to 10, ends included."
    assert Normal(0, 1, log=True).why_not(-1) == "-1 is not a number above 0."
    assert Normal(0, 1, step=2).why_not(3) == "3 is not a multiple of 2."
    assert Normal(0, 1).why_not("3") == "'3' is not a finite number."


@given(normals(rounded=True), generators())
def test_rounded_normals_keep_the_laws(domain: Normal, rng: np.random.Generator) -> None:
    value = domain.sample(rng)
    assert value in domain
    assert same(domain.normalise(value), value)
    assert domain_from_json(json.loads(json.dumps(domain.to_json()))) == domain
    other = domain.other(value, rng)
    assert other in domain
    assert other != value
    assert domain.decode(np.array([rng.random()])) in domain
