"""From choices to mixed operations, and from weights back to a sample."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import lightning_nas.nn as nn
from lightning_nas import SpaceError, model_wrapper
from lightning_nas.hub import DARTS_OPERATIONS, DartsSpace, MobileNetV3Space, NasBench201Space
from lightning_nas.mutables import SkipConnections
from lightning_nas.oneshot import relax
from lightning_nas.oneshot.mixed import MixedCell, strongest_edges


def one_hot(supernet: Any, chosen: Mapping[str, int]) -> dict[str, Tensor]:
    """All weight on one candidate of each label."""
    return {
        label: torch.nn.functional.one_hot(torch.tensor(chosen.get(label, 0)), shape[-1])
        .float()
        .expand(shape)
        for label, shape in supernet.shapes.items()
    }


def uniform(supernet: Any) -> dict[str, Tensor]:
    return supernet.activate({label: torch.zeros(shape) for label, shape in supernet.shapes.items()})


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LayerChoice([nn.Linear(4, 4), nn.Identity()], label="first")
        self.second = nn.LayerChoice({"zero": nn.Zero(), "wide": nn.Linear(4, 4)}, label="second")

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + x


def test_the_supernet_of_darts_has_the_published_number_of_weights() -> None:
    net = DartsSpace(16, 8, operations=("none", *DARTS_OPERATIONS), search=True)
    supernet = relax(net)
    assert sum(p.numel() for p in net.parameters()) == 1_930_618
    assert supernet.shapes == {"normal": (14, 8), "reduce": (14, 8)}


def test_a_layer_choice_becomes_the_weighted_sum_of_its_candidates() -> None:
    net = Two()
    linear, wide, x = net.first.candidate("0"), net.second.candidate("wide"), torch.randn(3, 4)
    supernet = relax(net)
    supernet.receive({"first": torch.tensor([0.3, 0.7]), "second": torch.tensor([0.4, 0.6])})
    mixed = 0.3 * linear(x) + 0.7 * x
    torch.testing.assert_close(net(x), 0.6 * wide(mixed) + x)


def test_parameters_keep_their_names() -> None:
    net = Two()
    before = {name: id(p) for name, p in net.named_parameters()}
    relax(net)
    assert {name: id(p) for name, p in net.named_parameters()} == before


def test_a_supernet_without_weights_says_who_sets_them() -> None:
    net = Two()
    relax(net)
    with pytest.raises(RuntimeError, match="no weights for 'first' yet"):
        net(torch.zeros(1, 4))


def test_shared_labels_share_alphas() -> None:
    net = nn.Sequential(*(nn.LayerChoice([nn.Linear(2, 2), nn.Identity()], label="same") for _ in range(3)))
    assert relax(net).shapes == {"same": (2,)}


def test_a_label_with_other_candidates_elsewhere_is_refused() -> None:
    net = nn.Sequential(
        nn.LayerChoice([nn.Linear(2, 2), nn.Identity()], label="same"),
        nn.LayerChoice([nn.Linear(2, 2), nn.Identity(), nn.ReLU()], label="same"),
    )
    with pytest.raises(SpaceError, match="'same' is used twice"):
        relax(net)


def test_what_is_nested_in_a_losing_candidate_is_not_derived() -> None:
    inner = nn.LayerChoice([nn.Linear(2, 2), nn.Identity()], label="inner")
    net = nn.Sequential(nn.LayerChoice([nn.Sequential(inner), nn.Linear(2, 2)], label="outer"))
    supernet = relax(net)
    assert set(supernet.shapes) == {"inner", "outer"}
    assert supernet.derive(one_hot(supernet, {"outer": 0, "inner": 1})) == {"outer": 0, "inner": 1}
    assert supernet.derive(one_hot(supernet, {"outer": 1, "inner": 1})) == {"outer": 1}


@pytest.mark.parametrize(("n_chosen", "expected"), [(1, 2), (2, [1, 2]), (None, [0, 1, 2])])
def test_inputs_are_derived_by_their_strength(n_chosen: int | None, expected: Any) -> None:
    net = nn.Sequential(nn.InputChoice(3, n_chosen, label="in"))
    supernet = relax(net)
    weights = supernet.activate({"in": torch.tensor([0.1, 0.5, 0.9])})
    assert supernet.derive(weights) == {"in": expected}


def test_several_inputs_keep_the_scale_of_their_sum() -> None:
    net = nn.Sequential(nn.InputChoice(4, 2, label="in"))
    supernet = relax(net)
    supernet.receive(uniform(supernet))
    torch.testing.assert_close(net([torch.ones(2)] * 4), 2 * torch.ones(2))


def test_inputs_that_are_concatenated_cannot_be_relaxed() -> None:
    with pytest.raises(SpaceError, match="InputChoice 'in' .* reduction='concat'"):
        relax(nn.Sequential(nn.InputChoice(3, 2, "concat", label="in")))


def test_depths_are_mixed() -> None:
    net = nn.Sequential(nn.Repeat(lambda i: nn.Linear(3, 3), (1, 3), label="depth"))
    supernet = relax(net)
    blocks, x = list(net[0].children()), torch.randn(2, 3)
    supernet.receive({"depth": torch.tensor([0.2, 0.3, 0.5])})
    one, two = blocks[0](x), blocks[1](blocks[0](x))
    torch.testing.assert_close(net(x), 0.2 * one + 0.3 * two + 0.5 * blocks[2](two))
    assert supernet.derive({"depth": torch.tensor([0.2, 0.5, 0.3])}) == {"depth": 2}


def test_a_cell_is_the_sum_over_all_its_edges() -> None:
    cell = nn.Cell({"a": nn.Linear(2, 2), "none": nn.Zero()}, 2, 1, 1, label="c")
    net = nn.Sequential(cell)
    supernet = relax(net)
    assert supernet.shapes == {"c": (3, 2)}
    x = torch.randn(5, 2)
    weights = torch.rand(3, 2)
    supernet.receive({"c": weights})
    operations = net[0].operations
    one = weights[0, 0] * operations["1_0"]["a"](x)
    two = weights[1, 0] * operations["2_0"]["a"](x) + weights[2, 0] * operations["2_1"]["a"](one)
    torch.testing.assert_close(net(x), torch.cat([one, two], 1))


def test_the_two_strongest_edges_are_kept_by_their_best_operation_other_than_none() -> None:
    # Three states; columns none, a, b. `none` is strongest everywhere and never counts.
    table = [[0.9, 0.05, 0.04], [0.5, 0.1, 0.4], [0.4, 0.3, 0.2]]
    assert strongest_edges(table, (True, False, False), 2) == [(1, 2), (2, 1)]


def test_where_states_are_few_the_next_best_operations_fill_up() -> None:
    assert strongest_edges([[0.1, 0.5, 0.4]], (False, False, False), 2) == [(0, 1), (0, 2)]


def test_a_derived_cell_can_be_built() -> None:
    space = DartsSpace(4, 3, operations=("none", *DARTS_OPERATIONS), search=True)
    final = DartsSpace(4, 3)
    supernet = relax(space)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        weights = {label: torch.rand(shape, generator=generator) for label, shape in supernet.shapes.items()}
        sample = supernet.derive(weights)
        assert "none" not in sample.values()
        final.build(sample)


def test_a_supernet_that_follows_a_sample_computes_what_its_model_computes() -> None:
    space = DartsSpace(4, 3, operations=("none", *DARTS_OPERATIONS), search=True).eval()
    sample = space.sample(3)
    built = space.build(sample).eval()
    supernet = relax(space)
    cells = [m for m in space.modules() if isinstance(m, MixedCell)]
    for mixed, cell in zip(cells, built.cells):
        for node, (edges, operations) in enumerate(zip(mixed.path_in(sample), cell.operations), start=2):
            for (state, index), operation in zip(edges, operations):
                chosen = list(mixed.operations[f"{node}_{state}"].values())[index]
                operation.load_state_dict(chosen.state_dict())
        cell.preprocessor.load_state_dict(mixed.preprocessor.state_dict())
    for name in ("stem", "classifier"):
        getattr(built, name).load_state_dict(getattr(space, name).state_dict())
    x = torch.randn(2, 3, 16, 16)
    supernet.follow(sample)
    torch.testing.assert_close(space(x), built(x))
    supernet.follow(None)
    with pytest.raises(RuntimeError, match="no weights"):
        space(x)


def test_nas_bench_201_is_relaxed_by_its_six_edges() -> None:
    space = NasBench201Space(4, 1)
    supernet = relax(space)
    assert set(supernet.shapes.values()) == {(5,)}
    assert len(supernet.shapes) == 6
    supernet.receive(uniform(supernet))
    assert space(torch.randn(2, 3, 8, 8)).shape == (2, 10)
    NasBench201Space(4, 1).build(supernet.derive(uniform(supernet)))


def test_candidates_made_late_have_the_type_of_the_model() -> None:
    space = DartsSpace(4, 3, operations=("none", *DARTS_OPERATIONS), search=True).double()
    supernet = relax(space)
    supernet.receive({label: weight.double() for label, weight in uniform(supernet).items()})
    assert space(torch.randn(2, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64


def test_a_cell_of_loose_ends_is_refused_by_name() -> None:
    with pytest.raises(SpaceError, match="Cell 'c' .* merge_op='loose_end'"):
        relax(nn.Sequential(nn.Cell([nn.Linear(2, 2)], 2, merge_op="loose_end", label="c")))


def test_a_choice_without_a_label_inside_an_operation_made_by_a_function_is_refused() -> None:
    def operation(node: int, edge: int, state: int) -> nn.Module:
        return nn.Sequential(nn.LayerChoice([nn.Linear(2, 2), nn.Identity()]))

    with pytest.raises(SpaceError, match="inside the operation 0 of the cell 'c', needs a label"):
        relax(nn.Sequential(nn.Cell([operation], 2, label="c")))


def test_candidates_of_several_shapes_are_refused_with_the_shapes() -> None:
    net = nn.Sequential(nn.LayerChoice([nn.Linear(2, 3), nn.Linear(2, 1)], label="odd"))
    supernet = relax(net)
    supernet.receive(uniform(supernet))
    with pytest.raises(SpaceError, match=r"those of 'odd' put out \(5, 3\) and \(5, 1\)"):
        net(torch.zeros(5, 2))


def test_a_module_without_choices_is_refused() -> None:
    with pytest.raises(SpaceError, match="Linear has no choices to search"):
        relax(nn.Linear(1, 1))


def test_mutators_are_refused() -> None:
    @model_wrapper(mutators=[SkipConnections("skip", lambda module: True)])
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    with pytest.raises(SpaceError, match="Net has mutators"):
        relax(Net())


def test_choices_in_lists_are_found_too() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.LayerChoice([nn.Linear(2, 2), nn.Identity()], label="a")
            self.order = [self.a]

        def forward(self, x: Tensor) -> Tensor:
            return self.order[0](x)

    net = Net()
    supernet = relax(net)
    supernet.receive(uniform(supernet))
    assert net(torch.zeros(1, 2)).shape == (1, 2)


# -- searched values ---------------------------------------------------------------------------------


@model_wrapper
class Valued(nn.Module):
    """A kernel, channels, features, a normalisation and a dropout, all searched; `hidden` in two layers."""

    def __init__(self) -> None:
        super().__init__()
        kernel = nn.ValueChoice([1, 3, 5], label="kernel")
        c = nn.ValueChoice([2, 4], label="channels")
        self.conv = nn.Conv2d(1, c, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(c)
        self.depthwise = nn.Conv2d(c, c, 3, padding=1, groups=c)
        hidden = nn.ValueChoice([3, 6], label="hidden")
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc1 = nn.Linear(c * 4, hidden * 2)
        self.layer_norm = nn.LayerNorm(hidden * 2)
        self.dropout = nn.Dropout(nn.ValueChoice([0.0, 0.5], label="p"))
        self.fc2 = nn.Linear(hidden * 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.depthwise(self.norm(self.conv(x)).relu())).flatten(1)
        return self.fc2(self.dropout(self.layer_norm(self.fc1(x))))


def sliced_like(wide: Tensor, like: Tensor) -> Tensor:
    """The prefix of each axis; the centre of kernels."""
    index = []
    for axis, (a, b) in enumerate(zip(wide.shape, like.shape)):
        start = (a - b) // 2 if axis >= 2 else 0
        index.append(slice(start, start + b))
    return wide[tuple(index)]


SAMPLES = [
    {"kernel": 5, "channels": 4, "hidden": 6, "p": 0.0},
    {"kernel": 1, "channels": 2, "hidden": 3, "p": 0.5},
    {"kernel": 3, "channels": 4, "hidden": 3, "p": 0.5},
]


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("how", ["follow", "receive"])
def test_with_all_weight_on_one_value_a_supernet_is_the_model_of_that_value(
    sample: dict[str, Any], how: str
) -> None:
    net = Valued().eval()
    supernet = relax(net)
    built = Valued().build(sample).eval()
    wide = net.state_dict()
    built.load_state_dict(
        {name: sliced_like(wide[name], tensor) for name, tensor in built.state_dict().items()}
    )
    if how == "follow":
        supernet.follow(sample)
    else:
        indices = {"kernel": [1, 3, 5], "channels": [2, 4], "hidden": [3, 6], "p": [0.0, 0.5]}
        supernet.receive(
            one_hot(supernet, {label: values.index(sample[label]) for label, values in indices.items()})
        )
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(net(x), built(x))


def test_values_are_derived() -> None:
    supernet = relax(Valued())
    weights = one_hot(supernet, {"kernel": 2, "channels": 1, "hidden": 0, "p": 1})
    assert supernet.derive(weights) == {"kernel": 5, "channels": 4, "hidden": 3, "p": 0.5}


def test_every_value_gets_a_gradient() -> None:
    net = Valued()
    supernet = relax(net)
    alphas = {label: torch.zeros(shape, requires_grad=True) for label, shape in supernet.shapes.items()}
    supernet.receive(supernet.activate(alphas))
    net(torch.randn(8, 1, 8, 8)).square().sum().backward()
    assert all(alpha.grad is not None and bool(alpha.grad.abs().sum() > 0) for alpha in alphas.values())


def test_a_dropped_unit_is_scaled_as_each_candidate_would_scale_it() -> None:
    net = Valued().train()
    supernet = relax(net)
    supernet.receive(one_hot(supernet, {"p": 1}))
    values = net.dropout(torch.ones(20_000))
    # One unit in two is dropped (standard deviation 0.0035), the others are doubled.
    assert set(values.unique().tolist()) == {0.0, 2.0}
    assert abs(float(values.mean()) - 1) < 0.05


def test_a_space_with_values_is_made_anew_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lightning_nas"):
        relax(Valued())
    assert "made anew at its widest, with fresh weights" in caplog.text


def test_a_depth_that_is_a_value_is_relaxed_as_a_repeat() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Repeat(nn.Linear(2, 2), nn.ValueChoice([1, 3], label="depth"))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    net = Net()
    supernet = relax(net)
    assert supernet.names == {"depth": (("",), ("1", "3"))}
    supernet.receive(uniform(supernet))
    assert net(torch.zeros(1, 2)).shape == (1, 2)


def refused(constructor: Any) -> str:
    """Why a model space of this constructor cannot be relaxed."""

    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            constructor(self)

    with pytest.raises(SpaceError) as error:
        relax(Net())
    return str(error.value)


def test_a_value_that_steers_the_constructor_is_refused_by_name() -> None:
    def constructor(self: Any) -> None:
        width = nn.ValueChoice([2, 4], label="width")
        self.a = nn.Linear(2, width)
        if width > 2:
            self.b = nn.Linear(width, 2)

    assert "'width' cannot be searched in one shot: 4 makes other layers" in refused(constructor)


def test_a_value_that_leaves_no_trace_is_refused_by_name() -> None:
    def constructor(self: Any) -> None:
        self.choice = nn.LayerChoice([nn.Linear(2, 2), nn.Identity()], label="op")
        self.name = f"net_{nn.ValueChoice([1, 2], label='tag')}"

    assert "'tag' cannot be searched in one shot: no layer's size follows" in refused(constructor)


def test_a_stride_is_refused_by_name() -> None:
    def constructor(self: Any) -> None:
        self.conv = nn.Conv2d(1, 1, 3, stride=nn.ValueChoice([1, 2], label="s"))

    assert "'s' cannot be searched in one shot: it sets stride of the Conv2d `conv`" in refused(constructor)


def test_a_kernel_without_its_padding_is_refused_by_name() -> None:
    def constructor(self: Any) -> None:
        self.conv = nn.Conv2d(1, 1, nn.ValueChoice([3, 5], label="k"), padding=1)

    assert "the Conv2d `conv` cannot be sliced, since a kernel of 3 with padding 1" in refused(constructor)


def test_mobilenet_v3_is_refused_by_the_value_that_makes_its_blocks() -> None:
    with pytest.raises(SpaceError, match="stage./"):
        relax(MobileNetV3Space(10, 0.25))


def test_a_value_outside_a_model_space_is_refused() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, nn.ValueChoice([2, 3], label="width"))

    with pytest.raises(
        SpaceError, match=r"'width' \(in `fc.out_features`\) was chosen outside a model space"
    ):
        relax(Net())
