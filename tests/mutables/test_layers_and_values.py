from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spaces import has_choice_or_trace

import lightning_nas.nn as nn
from lightning_nas import errors
from lightning_nas.mutables import model_wrapper
from lightning_nas.mutables.values import Expression, expression_of, traced


def _of(value):
    return traced(value, Expression.of_label("x"))


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 9))
def test_expressions_recompute_what_arithmetic_gave(first: int, second: int, k: int) -> None:
    def calculate(x):
        y = (x * k + 1) // 2 - (-x % 5)
        return nn.ValueChoice.max(y, nn.ValueChoice.condition(x > 20, x**2, 3 + x)), (x, [k, x * 2.5])

    value = calculate(_of(first))
    assert expression_of(value).evaluate({"x": second}) == calculate(second)
    assert value == calculate(first)


def test_traced_values_behave_as_their_type() -> None:
    assert [0] * _of(3) == [0, 0, 0]
    assert {3: "a"}[_of(3)] == "a"
    assert f"{_of(3)} {_of('relu')}" == "3 relu"
    assert list(range(_of(2))) == [0, 1]
    assert torch.empty(_of(2), 3).shape == (2, 3)
    assert getattr(torch.nn.functional, _of("relu")) is torch.nn.functional.relu
    assert not (_of(3) > 5)
    assert nn.ValueChoice.to_int(_of(2.7)) == 2
    assert expression_of(nn.ValueChoice.to_float(_of(2))).evaluate({"x": 7}) == 7.0


def test_helpers_of_value_choice_work_on_plain_values_too() -> None:
    assert nn.ValueChoice.max([1, 3, 2]) == 3
    assert nn.ValueChoice.min(4, 2) == 2
    assert nn.ValueChoice.condition(False, 1, 2) == 2


def test_a_layer_choice_lists_its_candidates_and_runs_the_first() -> None:
    choice = nn.LayerChoice({"relu": nn.ReLU(), "neg": nn.Softsign()})
    assert choice.candidates == ("relu", "neg")
    assert len(choice) == 2
    assert choice(torch.tensor(-1.0)) == 0


def test_only_the_chosen_function_is_called() -> None:
    calls = []

    def make(kind):
        calls.append(kind.__name__)
        return kind()

    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.op = nn.LayerChoice([lambda: make(nn.ReLU), lambda: make(nn.GELU)], label="op")

    net = Net()
    assert calls == ["ReLU"]
    _ = net.search_space
    calls.clear()
    assert isinstance(net.build({"op": 1}).op, nn.GELU)
    assert calls == ["GELU"]


@pytest.mark.parametrize("reduction", ["sum", "mean", "concat", "none"])
def test_input_choices_reduce_as_they_say(reduction: str) -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pick = nn.InputChoice(3, 2, reduction, label="pick")

    inputs = [torch.full((1, 2), float(i)) for i in range(3)]
    result = Net().build({"pick": [1, 2]}).pick(inputs)
    expected = {
        "sum": [[3.0, 3.0]],
        "mean": [[1.5, 1.5]],
        "concat": [[1.0, 1.0, 2.0, 2.0]],
    }
    if reduction == "none":
        assert [t.tolist() for t in result] == [[[1.0, 1.0]], [[2.0, 2.0]]]
    else:
        assert result.tolist() == expected[reduction]


def test_any_number_of_inputs_may_be_chosen() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pick = nn.InputChoice(3, None, label="pick")

    net = Net()
    assert net.search_space.size == 8
    assert net.build({"pick": []}).pick([torch.ones(1)] * 3) is None


@model_wrapper
class Deep(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        block = {
            "module": lambda: nn.LayerChoice([nn.ReLU(), nn.Tanh()]),
            "function": lambda: lambda i: nn.LayerChoice([nn.ReLU(), nn.Tanh()], label=f"act{i}"),
            "list": lambda: [nn.LayerChoice([nn.ReLU(), nn.Tanh()]) for _ in range(3)],
        }[kind]()
        self.body = nn.Repeat(block, (1, 3), label="depth")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@pytest.mark.parametrize(
    ("kind", "size"),
    [("module", 3 * 2), ("function", 2 + 4 + 8), ("list", 2 + 4 + 8)],
    ids=["copies share choices", "functions do not", "lists do not"],
)
def test_repeat_counts_the_choices_of_its_blocks(kind: str, size: int) -> None:
    net = Deep(kind)
    assert net.search_space.size == size
    for sample in net.search_space.enumerate():
        model = net.build(sample)
        assert isinstance(model.body, nn.Sequential)
        assert len(model.body) == sample["depth"]
        assert not has_choice_or_trace(model)
    assert net(torch.ones(1)).shape == (1,)


def test_repeat_takes_its_depth_from_a_value() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            depth = nn.ValueChoice([1, 2], label="d")
            self.body = nn.Repeat(lambda i: nn.LayerChoice([nn.ReLU(), nn.Tanh()], label=f"a{i}"), depth)

    net = Net()
    assert net.search_space.size == 2 + 4
    assert len(net.build({"d": 2, "a0": 0, "a1": 1}).body) == 2


@pytest.mark.parametrize("depth", [(2, 1), (-1, 2), (1, 4)])
def test_impossible_depths_are_refused(depth: tuple) -> None:
    with pytest.raises(errors.SpaceError, match="low <= high"):
        nn.Repeat([nn.ReLU(), nn.ReLU(), nn.ReLU()], depth)


@pytest.mark.parametrize("n_chosen", [0, 4])
def test_impossible_numbers_of_inputs_are_refused(n_chosen: int) -> None:
    with pytest.raises(errors.SpaceError, match="n_candidates"):
        nn.InputChoice(3, n_chosen)


@pytest.mark.parametrize("name", ["", "a.b", "forward"])
def test_names_that_cannot_be_children_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot call a candidate"):
        nn.LayerChoice({name: nn.ReLU()})


def test_the_declared_zero_sub_samples() -> None:
    x = torch.full((1, 2, 5, 5), float("nan"))
    assert torch.equal(nn.Zero(stride=2)(x), torch.zeros(1, 2, 3, 3))
    assert torch.equal(nn.Zero()(x), torch.zeros(1, 2, 5, 5))
