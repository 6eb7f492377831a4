"""Search spaces in NNI's format: what each type means, and what is said of a wrong one."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_nas.errors import SampleError, SpaceError
from lightning_nas.hpo import ConfigError, read_space, write_space
from lightning_nas.space import Categorical, Condition, Float, Integer, Normal, Quantized, SearchSpace

NESTED = {
    "layer": {
        "_type": "choice",
        "_value": [
            {"_name": "empty"},
            {
                "_name": "conv",
                "kernel": {"_type": "choice", "_value": [3, 5]},
                "norm": {
                    "_type": "choice",
                    "_value": [
                        {"_name": "none"},
                        {"_name": "batch", "eps": {"_type": "uniform", "_value": [0, 1]}},
                    ],
                },
            },
        ],
    },
    "lr": {"_type": "loguniform", "_value": [0.001, 0.1]},
}


@pytest.mark.parametrize(
    ("kind", "value", "domain"),
    [
        ("choice", [3, "a", None, 0.5], Categorical([3, "a", None, 0.5])),
        ("choice", [1, 1, 2], Categorical([1, 2], prior=[2 / 3, 1 / 3])),
        ("randint", [2, 5], Integer(2, 4)),
        ("uniform", [0, 1], Float(0, 1)),
        ("quniform", [2, 10, 5], Quantized(2, 10, 5)),
        ("loguniform", [0.001, 1], Float(0.001, 1, log=True)),
        ("qloguniform", [1, 100, 3], Quantized(1, 100, 3, log=True)),
        ("normal", [1, 2], Normal(1, 2)),
        ("qnormal", [1, 2, 0.5], Normal(1, 2, step=0.5)),
        ("lognormal", [1, 2], Normal(1, 2, log=True)),
        ("qlognormal", [1, 2, 0.5], Normal(1, 2, log=True, step=0.5)),
    ],
)
def test_each_type_has_its_domain(kind: str, value: list[Any], domain: Any) -> None:
    space = read_space({"x": {"_type": kind, "_value": value}}).space
    assert space == SearchSpace({"x": domain})
    if getattr(domain, "prior", None) is None:
        assert read_space(write_space(space)).space == space


def reference(kind: str, value: list[float], rng: np.random.Generator) -> float:
    """A draw by the definition of each rounded type."""
    if "uniform" in kind:
        low, high, q = value
        log = kind == "qloguniform"
        drawn = math.exp(rng.uniform(math.log(low), math.log(high))) if log else rng.uniform(low, high)
        return min(max(round(drawn / q) * q, low), high)
    drawn = rng.normal(value[0], value[1])
    return round((math.exp(drawn) if kind == "qlognormal" else drawn) / value[2]) * value[2]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("quniform", [2, 10, 5]),
        ("quniform", [100, 1000, 300]),
        ("qloguniform", [1, 100, 10]),
        ("qnormal", [3, 2, 1]),
        ("qlognormal", [0.5, 1, 2]),
    ],
)
def test_samples_are_distributed_as_by_the_definition(kind: str, value: list[float]) -> None:
    space = read_space({"x": {"_type": kind, "_value": value}}).space
    n, mine, theirs = 4000, np.random.default_rng(1), np.random.default_rng(2)
    ours = Counter(round(space.sample(mine)["x"], 6) for _ in range(n))
    expected = Counter(round(reference(kind, value, theirs), 6) for _ in range(n))
    for x in ours | expected:
        # Two binomial counts differ by five standard deviations once in 10**6.
        share = (ours[x] + expected[x]) / (2 * n)
        assert abs(ours[x] - expected[x]) <= 5 * math.sqrt(2 * n * share * (1 - share)) + 1


def test_a_nested_choice_becomes_conditions_and_its_samples_dicts_again() -> None:
    found = read_space(NESTED)
    assert found.space.conditions == {
        "layer/conv/kernel": Condition({"layer": ["conv"]}),
        "layer/conv/norm": Condition({"layer": ["conv"]}),
        "layer/conv/norm/batch/eps": Condition({"layer/conv/norm": ["batch"]}),
    }
    sample = {
        "layer": "conv",
        "layer/conv/kernel": 5,
        "layer/conv/norm": "batch",
        "layer/conv/norm/batch/eps": 0.5,
        "lr": 0.01,
    }
    parameters = found.parameters(sample)
    assert parameters == {
        "layer": {"_name": "conv", "kernel": 5, "norm": {"_name": "batch", "eps": 0.5}},
        "lr": 0.01,
    }
    assert found.sample(parameters) == sample
    assert found.parameters({"layer": "empty", "lr": 0.01}) == {"layer": {"_name": "empty"}, "lr": 0.01}
    assert write_space(found.space) == NESTED
    for i in range(50):
        drawn = found.space.sample(np.random.default_rng(i))
        assert found.sample(json.loads(json.dumps(found.parameters(drawn)))) == drawn


def test_values_of_a_plain_choice_come_back_as_they_were() -> None:
    found = read_space({"x": {"_type": "choice", "_value": [[1, [2]], {"a": 1}, True, 1]}})
    values = [found.parameters({"x": value})["x"] for value in found.space["x"]]
    assert values == [[1, [2]], {"a": 1}, True, 1]
    assert [type(value) for value in values] == [list, dict, bool, int]
    assert [found.sample({"x": value})["x"] for value in values] == list(found.space["x"])
    with pytest.raises(SampleError, match="'x' must be one of"):
        found.sample({"x": 2})
    with pytest.raises(SampleError, match=r"must have the keys \['x'\]"):
        found.sample({"y": 2})


@pytest.mark.parametrize(
    "text",
    [
        '{\n\t"lr":\t{"_type": "loguniform", "_value": [1e-4, 0.1]},\n\t"b":{"_type": "choice", "_value":[",]",2,],},}',
        'lr:\n  _type: loguniform\n  _value: [1e-4, 0.1]\nb:\n  _type: choice\n  _value:\n    - ",]"\n    - 2\n',
        'lr: {_type: loguniform, _value: [1E-4, 0.1]}\nb:\n\t_type: choice\n\t_value: [",]", 2,]\n',
        '\ufeff{"lr": {"_type": "loguniform", "_value": [0.0001, 0.1]}, "b": {"_type": "choice", "_value": [",]", 2]}}',
    ],
)
def test_json_and_yaml_are_read_as_people_write_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "search_space.json"
    path.write_text(text, encoding="utf-8")
    expected = SearchSpace({"lr": Float(1e-4, 0.1, log=True), "b": Categorical([",]", 2])})
    assert read_space(path).space == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "lr:\n  _type: loguniform\n  _value: [1, 2, 3, 4]\n",
            r"line 1, 'lr': loguniform takes \[low, high\], but",
        ),
        ('{"lr": {"_type": "uniform", "_value": [2, 1]}}', "'lr': uniform takes .* with low < high, but got"),
        ('{"lr": {"_type": "loguniform", "_value": [0, 1]}}', "with low > 0, but got"),
        ('{"lr": {"_type": "randint", "_value": [0.5, 2]}}', "with whole numbers, but got"),
        ('{"lr": {"_type": "normal", "_value": [0, 0]}}', "with deviation > 0, but got"),
        ('{"lr": {"_type": "quniform", "_value": [0, 1, 0]}}', "with q > 0, but got"),
        ('{"lr": {"_type": "quniform", "_value": [0, 1]}}', r"quniform takes \[low, high, q\], but got"),
        (
            '{"lr": {"_type": "uniform", "_value": ["a", 1]}}',
            r"uniform takes \[low, high\], but got \['a', 1\]",
        ),
        ('{"lr": {"_type": "choice", "_value": []}}', "choice takes at least one value"),
        ('{"lr": {"_type": "unifrom", "_value": [0, 1]}}', "'_type' must be one of .* but is 'unifrom'"),
        ('{"lr": [0, 1]}', "'lr': it must be a mapping with '_type' and '_value'"),
        ('{"lr": {"_type": "uniform", "_value": [0, 1], "q": 1}}', r"but got \['q'\]"),
        ('{"lr": {"_type": "uniform", "_value": [0, 1]}, "lr": 1}', "the key is there twice"),
        ("lr: 1\nlr: 2\n", "line 2, 'lr': the key is there twice"),
        ("[1, 2]", "a search space is a mapping such as"),
        ("lr: [0, 1\n", "line 2: it is neither JSON nor YAML"),
        ("", "it is empty"),
        ("x: !!python/object/apply:os.system ['touch hacked']\n", "could not determine a constructor"),
        ("[" * 5000, "neither JSON nor YAML|nested too deeply"),
    ],
)
def test_a_wrong_file_gets_one_line_with_its_name_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_space(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) == 1
    assert not Path("hacked").exists()


def test_very_large_spaces_are_refused(tmp_path: Path) -> None:
    entry = {"_type": "uniform", "_value": [0, 1]}
    with pytest.raises(ConfigError, match="it has 1000000 keys; at most 10000 are searched"):
        read_space(dict.fromkeys(map(str, range(10**6)), entry))
    path = tmp_path / "space.json"
    path.write_text(" " * (4 * 2**20 + 1))
    with pytest.raises(ConfigError, match="it has more than 4 MiB"):
        read_space(path)
    bomb = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 1}]" for i in range(9))
    path.write_text(bomb)
    with pytest.raises(ConfigError, match="more than 200000 values"):
        read_space(path)


def test_a_missing_file_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere.json: there is no such file"):
        read_space(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (SearchSpace({"x": Integer(1, 9, log=True)}), "NNI has no type for 'x'"),
        (SearchSpace({"x": Categorical([1, 2], prior=[0.9, 0.1])}), "NNI has no type for 'x'"),
        (
            SearchSpace({"a": Categorical(["u", "v"]), "b": Float(0, 1)}, {"b": Condition({"a": ["v"]})}),
            "'b' is active if a is 'v'; NNI knows only labels inside one option",
        ),
    ],
)
def test_what_nni_cannot_say_is_not_written(space: SearchSpace, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        write_space(space)


def test_a_grid_of_equally_likely_numbers_is_written_as_a_choice() -> None:
    space = SearchSpace({"x": Integer(16, 64, step=16), "y": Float(0, 1, step=0.5)})
    assert write_space(space) == {
        "x": {"_type": "choice", "_value": [16, 32, 48, 64]},
        "y": {"_type": "choice", "_value": [0.0, 0.5, 1.0]},
    }
