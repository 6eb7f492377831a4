from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spaces import MobileLike, QuickStart
from test_canonical import nasbench201_cell

import lightning_nas.nn as nn
from lightning_nas import errors, hub
from lightning_nas.mutables import SkipConnections, model_wrapper
from lightning_nas.mutables.canonical import canonical_form
from lightning_nas.mutables.graph import graph, graph_key


def space_of(make: Callable[[nn.Module], None], forward: Callable[..., object]) -> nn.Module:
    """A model space from what its constructor does to `self` and from its forward pass."""

    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            make(self)

        def forward(self, x):
            return forward(self, x)

    return Net()


def classes_of(net: nn.Module) -> list[list[dict]]:
    """The samples of a space, those with the same key together."""
    classes = defaultdict(list)
    for sample in net.search_space.enumerate():
        classes[graph_key(net, sample)].append(sample)
    return list(classes.values())


def edge(label: str, **more: Callable[[], nn.Module]) -> nn.LayerChoice:
    candidates = {"none": nn.Zero, "skip": nn.Identity, "conv": lambda: nn.Conv2d(3, 3, 1)}
    return nn.LayerChoice({**candidates, **more}, label=label)


def two_edges(self: nn.Module) -> None:
    self.a, self.b = edge("a"), edge("b")


# -- what does not matter ------------------------------------------------------------------------


def test_equal_branches_may_change_places() -> None:
    net = space_of(two_edges, lambda self, x: self.a(x) + self.b(x))
    assert graph_key(net, {"a": "conv", "b": "skip"}) == graph_key(net, {"a": "skip", "b": "conv"})
    assert len(classes_of(net)) == 6


def test_identities_and_zeros_leave_no_trace() -> None:
    net = space_of(two_edges, lambda self, x: self.b(self.a(x)))
    # Nothing, one convolution and two, wherever they stand; zero, whatever follows or precedes it.
    assert sorted(map(len, classes_of(net))) == [1, 1, 2, 5]


def test_what_the_output_does_not_depend_on_does_not_count() -> None:
    net = space_of(two_edges, lambda self, x: (self.a(x), self.b(x))[1])
    assert len(classes_of(net)) == 3


def test_grouping_and_order_of_sums_do_not_matter() -> None:
    def make(self: nn.Module) -> None:
        self.form = nn.ValueChoice([0, 1, 2, 3, 4, 5], label="form")
        self.a, self.b, self.c = nn.ReLU(), nn.Tanh(), nn.Sigmoid()

    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        a, b, c = self.a(x), self.b(x), self.c(x)
        forms = [
            lambda: a + b + c,
            lambda: c + (b + a),
            lambda: sum([b, c, a]),
            lambda: torch.add(a, b).add(c),
            lambda: a - b + c,
            lambda: a * b + c,
        ]
        return forms[self.form]()

    assert sorted(map(len, classes_of(space_of(make, forward)))) == [1, 1, 4]


def test_equal_stages_of_other_depths_are_equal() -> None:
    def make(self: nn.Module) -> None:
        depths = [nn.ValueChoice([1, 2], label=f"depth{i}") for i in range(2)]
        self.stages = nn.Sequential(*(nn.Conv2d(3, 3, 1) for depth in depths for _ in range(depth)))

    assert sorted(map(len, classes_of(space_of(make, lambda self, x: self.stages(x))))) == [1, 1, 2]


# -- what does matter ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: nn.Conv2d(3, 3, 3, padding=1), lambda: nn.Conv2d(3, 3, 3, padding=2, dilation=2)),
        (lambda: nn.Conv2d(3, 3, 1), lambda: nn.Conv2d(3, 3, 1, bias=False)),
        (lambda: nn.Dropout(0.1), lambda: nn.Dropout(0.2)),
        (lambda: nn.Sequential(nn.ReLU(), nn.Tanh()), lambda: nn.Sequential(nn.Tanh(), nn.ReLU())),
        (lambda: nn.BatchNorm2d(3), lambda: nn.BatchNorm2d(3, affine=False)),
        (lambda: nn.GELU(), lambda: nn.GELU(approximate="tanh")),
    ],
)
def test_candidates_are_told_apart_by_their_configuration(one: Callable, other: Callable) -> None:
    def make(self: nn.Module) -> None:
        self.op = nn.LayerChoice([one, other, one], label="op")

    assert sorted(map(len, classes_of(space_of(make, lambda self, x: self.op(x))))) == [1, 2]


class Scale(nn.Module):
    def __init__(self, values: list[float], frozen: bool = False) -> None:
        super().__init__()
        if frozen:
            self.scale = nn.Parameter(torch.tensor(values), requires_grad=False)
        else:
            self.register_buffer("scale", torch.tensor(values))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x


@pytest.mark.parametrize("frozen", [False, True])
def test_constants_held_as_tensors_count_by_content(frozen: bool) -> None:
    def make(self: nn.Module) -> None:
        self.form = nn.LayerChoice(
            [Scale([1.0], frozen), Scale([2.0], frozen), Scale([1.0], frozen)], label="op"
        )

    assert sorted(map(len, classes_of(space_of(make, lambda self, x: self.form(x))))) == [1, 2]


class Odd(nn.Module):
    """Keeps something whose meaning cannot be told."""

    def __init__(self) -> None:
        super().__init__()
        self.secret = object()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_what_cannot_be_told_apart_for_sure_counts_as_different_from_all_but_itself() -> None:
    def make(self: nn.Module) -> None:
        self.op = nn.LayerChoice([Odd(), Odd()], label="op")

    net = space_of(make, lambda self, x: self.op(x))
    assert graph_key(net, {"op": 0}) == graph_key(net, {"op": 0}) != graph_key(net, {"op": 1})


def test_classes_of_one_name_are_not_taken_for_one_class() -> None:
    def kind(factor: float) -> type[nn.Module]:
        class Op(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return factor * x

        return Op

    def make(self: nn.Module) -> None:
        self.op = nn.LayerChoice([kind(1.0)(), kind(2.0)()], label="op")

    assert len(classes_of(space_of(make, lambda self, x: self.op(x)))) == 2


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: self.a(x) - x if self.flag else x - self.a(x),
        lambda self, x: F.relu(x) if self.flag else F.gelu(x),
        lambda self, x: F.avg_pool2d(x, 2) if self.flag else F.avg_pool2d(x, 3),
        lambda self, x: x.flatten(1) if self.flag else x.flatten(2),
        lambda self, x: x * 2 if self.flag else x * 3,
        lambda self, x: torch.cat([x, self.a(x)], 1) if self.flag else torch.cat([self.a(x), x], 1),
        lambda self, x: x[:, 1:] if self.flag else x[:, 2:],
        lambda self, x: self.a(x) + self.b(x) if self.flag else self.a(x) + self.a(x),
        lambda self, x: self.b(self.a(x)) if self.flag else self.a(self.a(x)),
        lambda self, x: x.shape[1:] + x.shape[:1] if self.flag else x.shape[:1] + x.shape[1:],
    ],
    ids=[
        "order",
        "function",
        "constant",
        "method",
        "scalar",
        "concat",
        "slice",
        "sharing",
        "weights",
        "shapes",
    ],
)
def test_two_forward_passes_are_told_apart(forward: Callable) -> None:
    def make(self: nn.Module) -> None:
        self.flag = nn.ValueChoice([True, False], label="flag")
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    assert len(classes_of(space_of(make, forward))) == 2


def test_a_shared_layer_is_not_two_layers_wherever_they_stand() -> None:
    """One module under two choices, called in regions that would otherwise be cut apart."""

    def make(self: nn.Module) -> None:
        shared = nn.Linear(4, 4)
        candidates = {"own": lambda: nn.Linear(4, 4), "shared": lambda: shared}
        self.a = nn.LayerChoice(candidates, label="a")
        self.relu = nn.ReLU()
        self.b = nn.LayerChoice(candidates, label="b")

    net = space_of(make, lambda self, x: self.b(self.relu(self.a(x))))
    assert sorted(map(len, classes_of(net))) == [1, 3]


def test_tied_weights_are_not_two_weights() -> None:
    def make(self: nn.Module) -> None:
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        if nn.ValueChoice([False, True], label="tied"):
            self.b.weight = self.a.weight

    assert len(classes_of(space_of(make, lambda self, x: self.b(self.a(x))))) == 2


def test_a_change_in_place_counts_where_others_see_it() -> None:
    def make(self: nn.Module) -> None:
        self.a = nn.LayerChoice([nn.ReLU(inplace=True), nn.Tanh()], label="a")
        self.b = nn.LayerChoice([nn.ReLU(inplace=True), nn.Tanh()], label="b")

    net = space_of(make, lambda self, x: self.a(x) + self.b(x))
    # relu_ and tanh of x: the second sees what the first left.
    assert graph_key(net, {"a": 0, "b": 1}) != graph_key(net, {"a": 1, "b": 0})


@pytest.mark.parametrize(
    "change",
    [
        lambda self, y: y.relu_(),
        lambda self, y: F.relu(y, inplace=True),
        lambda self, y: self.relu(y),
        lambda self, y: self.sequence(y),
    ],
    ids=["method", "function", "module", "opaque"],
)
def test_a_change_in_place_counts_even_if_its_result_is_not_used(change: Callable) -> None:
    def make(self: nn.Module) -> None:
        self.flag = nn.ValueChoice([True, False], label="flag")
        self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)
        self.sequence = nn.LayerChoice([nn.Sequential(nn.ReLU(inplace=True), nn.Tanh())], label="sequence")

    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if self.flag:
            change(self, y)
        return y

    assert len(classes_of(space_of(make, forward))) == 2


def test_a_change_in_place_of_what_nobody_else_sees_is_an_ordinary_operation() -> None:
    def block(activation: Callable[[], nn.Module]) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 3, 1), activation())

    def make(self: nn.Module) -> None:
        candidates = [lambda: block(lambda: nn.ReLU(inplace=True)), lambda: block(nn.Tanh)]
        self.a, self.b = (nn.LayerChoice(candidates, label=name) for name in "ab")

    net = space_of(make, lambda self, x: self.a(x) + self.b(x))
    assert graph_key(net, {"a": 0, "b": 1}) == graph_key(net, {"a": 1, "b": 0})


# -- the kinds of choices ------------------------------------------------------------------------


@pytest.mark.parametrize(("reduction", "classes"), [("sum", 3), ("mean", 3), ("concat", 3), ("none", 3)])
def test_input_choices_take_the_chosen_inputs(reduction: str, classes: int) -> None:
    def make(self: nn.Module) -> None:
        self.inputs = nn.InputChoice(3, 2, reduction, label="inputs")
        self.a, self.b = nn.ReLU(), nn.Tanh()

    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        chosen = self.inputs([x, self.a(x), self.b(x)])
        return chosen[0] - chosen[1] if reduction == "none" else chosen

    assert len(classes_of(space_of(make, forward))) == classes


def test_lists_that_one_operation_returns_are_taken_apart() -> None:
    def make(self: nn.Module) -> None:
        self.inputs = nn.InputChoice(2, label="inputs")
        self.cell = nn.Cell([lambda *_: nn.Identity()], 1, 1, 2, label="cell")

    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return self.inputs(x.chunk(2)) + self.cell(x.chunk(2)) + torch.cat(x.chunk(2))

    # Two equal chunkings of their own: only whether both take the same item counts.
    assert sorted(map(len, classes_of(space_of(make, forward)))) == [1, 1, 2]


def test_one_chosen_input_is_that_input() -> None:
    def make(self: nn.Module) -> None:
        self.inputs = nn.InputChoice(2, None, label="inputs")
        self.a = edge("a")

    net = space_of(make, lambda self, x: self.inputs([x, self.a(x)]))
    assert graph_key(net, {"inputs": [0], "a": "conv"}) == graph_key(net, {"inputs": [1], "a": "skip"})


def test_repeats_are_chains_of_their_blocks() -> None:
    def make(self: nn.Module) -> None:
        self.blocks = nn.Repeat(lambda i: edge(f"block{i}"), (1, 3), label="depth")

    net = space_of(make, lambda self, x: self.blocks(x))
    classes = classes_of(net)
    assert sum(map(len, classes)) == 3 + 9 + 27
    # No convolution, one, two or three; or zero.
    assert len(classes) == 5


def test_choices_within_candidates_are_looked_into() -> None:
    def make(self: nn.Module) -> None:
        self.outer = nn.LayerChoice(
            {
                "plain": nn.Identity,
                "nested": lambda: nn.Sequential(edge("first"), edge("second")),
                "value": lambda: nn.Linear(4, 4, bias=nn.ValueChoice([True, False], label="bias")),
            },
            label="outer",
        )

    classes = classes_of(space_of(make, lambda self, x: self.outer(x)))
    # The plain one equals two skips; then one or two convolutions, zero, and the two linears.
    assert sorted(map(len, classes)) == [1, 1, 1, 2, 2, 5]


def test_unlabelled_choices_within_candidates_have_their_paths_as_labels() -> None:
    def make(self: nn.Module) -> None:
        inner = nn.LayerChoice([nn.ReLU(), nn.Tanh()])
        self.outer = nn.LayerChoice([nn.Identity(), nn.Sequential(inner, nn.Sigmoid())])

    net = space_of(make, lambda self, x: self.outer(x))
    assert set(net.search_space) == {"outer", "outer.1.0"}
    assert len(classes_of(net)) == 3


def _cell(**options) -> Callable[[nn.Module], None]:
    def make(self: nn.Module) -> None:
        operations = {"skip": lambda *_: nn.Identity(), "conv": lambda *_: nn.Conv2d(3, 3, 1)}
        self.cell = nn.Cell(operations, 2, 2, 2, label="c", **options)

    return make


def _genotype(*edges: tuple[str, int]) -> dict:
    slots = itertools.product((2, 3), (0, 1))
    return {
        key: value
        for (node, k), (name, state) in zip(slots, edges)
        for key, value in ((f"c/op_{node}_{k}", name), (f"c/input_{node}_{k}", state))
    }


def test_cells_are_their_graphs() -> None:
    net = space_of(_cell(), lambda self, x: self.cell(x, F.relu(x)))
    key = graph_key(net, _genotype(("skip", 0), ("conv", 1), ("conv", 2), ("skip", 0)))
    assert key == graph_key(net, _genotype(("conv", 1), ("skip", 0), ("skip", 0), ("conv", 2)))
    assert key != graph_key(net, _genotype(("skip", 1), ("conv", 1), ("conv", 2), ("skip", 0)))
    assert key != graph_key(net, _genotype(("skip", 0), ("conv", 1), ("conv", 2), ("skip", 1)))


def test_cells_with_processors_are_their_graphs() -> None:
    class Before(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, states: list[torch.Tensor]) -> list[torch.Tensor]:
            return [self.relu(state) for state in states]

    options = dict(preprocessor=Before(), postprocessor=lambda output, inputs: output - inputs[0])
    net = space_of(_cell(**options), lambda self, x: self.cell([x, x]))
    # Both states are relu(x), each of its own node: no edge of the first node can be told from another.
    one = _genotype(("conv", 0), ("skip", 1), ("skip", 2), ("skip", 2))
    other = _genotype(("skip", 0), ("conv", 1), ("skip", 2), ("skip", 2))
    assert graph_key(net, one) == graph_key(net, other)
    assert graph_key(net, one) != graph_key(net, {**one, "c/op_2_1": "conv"})


def test_mutators_choices_count() -> None:
    @model_wrapper(mutators=[SkipConnections("skip", lambda m: isinstance(m, nn.Conv2d))])
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) + self.b(x)

    assert sorted(map(len, classes_of(Net()))) == [1, 1, 2]


# -- how it is found -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_cutting_into_regions_changes_no_key(seed: int) -> None:
    """Chains of random blocks, each between values through which all data passes."""
    rng = random.Random(seed)

    def make(self: nn.Module) -> None:
        self.parts = nn.ModuleList([edge(f"e{i % 4}") for i in range(12)])
        self.scale = nn.Parameter(torch.ones(1))
        self.shared = nn.Linear(3, 3)

    plan = [rng.randrange(6) for _ in range(6)]

    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = self.shared(x)
        for i, kind in enumerate(plan):
            a, b = self.parts[2 * i], self.parts[2 * i + 1]
            if kind == 0:
                x = b(a(x))
            elif kind == 1:
                x = a(x) + b(x)
            elif kind == 2:
                x = x + b(a(x))
            elif kind == 3:
                x = a(x) + self.scale
            elif kind == 4:
                x = torch.cat([a(x), b(x)], 1)
            else:
                x = a(x) * b(x)
        return self.shared(x) if seed % 2 else x

    net = space_of(make, forward)
    whole = space_of(make, forward)
    graph_key(whole, whole.search_space.default())
    from lightning_nas.mutables import graph as module

    (model,) = module._spaces[whole]._models.values()
    model.traced_space._is_divisible = False
    model.traced_space._divide()
    for sample in net.search_space.enumerate():
        assert graph_key(net, sample) == graph_key(whole, sample)


@pytest.mark.slow
def test_nasbench201_networks_have_5425_keys_as_their_cells_do() -> None:
    net = hub.NasBench201Space()
    forms = defaultdict(set)
    for sample in net.search_space.enumerate():
        cell = nasbench201_cell(tuple(sample[f"edge_{j}_{i}"] for i in (1, 2, 3) for j in range(i)))
        forms[graph_key(net, sample)].add(canonical_form(cell, len(cell) - 1))
    assert len(forms) == 5_425
    assert all(len(found) == 1 for found in forms.values())


@pytest.mark.slow
def test_networks_of_one_key_compute_the_same_if_equal_layers_have_equal_weights() -> None:
    net = hub.NasBench201Space(channels=4, cells_per_stage=2)
    samples = list(net.search_space.enumerate())
    classes = defaultdict(list)
    for i in np.random.default_rng(0).permutation(len(samples))[:1500]:
        classes[graph_key(net, samples[i])].append(samples[i])
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def output(sample: dict) -> torch.Tensor:
        model = net.build(sample).eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:  # a function of the shape alone
                    generator = torch.Generator().manual_seed(weight.numel())
                    weight.copy_(torch.rand(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
        model.classifier.bias.data.zero_()
        return model(x)

    several = [found for found in classes.values() if len(found) > 2][:20]
    assert len(several) == 20
    for found in several:
        expected = output(found[0])
        for sample in found[1:3]:
            torch.testing.assert_close(output(sample), expected, rtol=1e-4, atol=1e-5)


def test_darts_networks_are_told_apart_by_one_predecessor() -> None:
    net = hub.DartsSpace(channels=4, layers=3)
    sample = hub.DARTS_V2.sample()
    swapped = {}
    for label, value in sample.items():
        head, _, edge_number = label.rpartition("_")
        swapped[f"{head}_{1 - int(edge_number)}"] = value
    key = graph_key(net, sample)
    assert graph_key(net, swapped) == key
    assert graph_key(net, {**sample, "normal/input_5_1": 3}) != key
    assert graph_key(net, {**sample, "normal/op_5_1": "dil_conv_5x5"}) != key
    assert graph_key(net, {**sample, "reduce/op_2_1": "avg_pool_3x3"}) != key


def test_samples_of_a_mobile_like_space_keep_their_keys() -> None:
    net = MobileLike(stages=2)
    samples = [net.sample(seed) for seed in range(40)]
    keys = [graph_key(net, sample) for sample in samples]
    # More models than are kept, so the first ones are traced again.
    assert [graph_key(net, sample) for sample in samples[:3]] == keys[:3]
    assert len(set(keys)) == len({tuple(sorted(sample.items())) for sample in samples})


def test_two_instances_give_the_same_keys() -> None:
    sample = {"conv2": 1, "quickstart_1": 0.5, "quickstart_2": 128}
    assert QuickStart().graph_key(sample) == QuickStart().graph_key(sample)


def test_samples_as_nni_exports_them_have_the_same_key() -> None:
    net = QuickStart()
    sample = {"conv2": 1, "quickstart_1": 0.5, "quickstart_2": 128}
    assert graph_key(net, {**sample, "conv2": "1"}) == graph_key(net, sample)


def test_keys_leave_the_model_and_all_random_states_as_they_were() -> None:
    net = QuickStart().eval()
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    graph_key(net, net.search_space.default())
    graph(net)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert not any(module.training for module in net.modules())
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.op = edge("op")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.op(x) if x.sum() > 0 else x


def test_a_part_that_cannot_be_traced_is_one_operation_with_all_labels() -> None:
    def make(self: nn.Module) -> None:
        self.part, self.other = Untraceable(), edge("other")

    net = space_of(make, lambda self, x: self.other(self.part(x)))
    key = graph_key(net, {"op": "skip", "other": "conv"})
    assert key != graph_key(net, {"op": "conv", "other": "conv"})
    assert key == graph_key(net, {"op": "skip", "other": "conv"})


def test_a_model_that_cannot_be_traced_says_so() -> None:
    net = model_wrapper(Untraceable)()
    with pytest.raises(errors.SpaceError, match=r"cannot trace the forward pass of Untraceable"):
        graph_key(net, {"op": "skip"})


def test_a_built_model_has_no_keys() -> None:
    net = QuickStart()
    sample = {"conv2": 1, "quickstart_1": 0.5, "quickstart_2": 128}
    with pytest.raises(TypeError, match="QuickStart has no choices"):
        graph_key(net.build(sample), sample)


def test_a_wrong_sample_says_what_is_wrong() -> None:
    with pytest.raises(errors.SampleError, match="conv2"):
        graph_key(QuickStart(), {"conv2": 5, "quickstart_1": 0.5, "quickstart_2": 128})


# -- graphs to look at ---------------------------------------------------------------------------


def test_the_graph_of_a_space_shows_its_choices_as_single_nodes() -> None:
    net = QuickStart()
    found = net.graph()
    assert nx.is_directed_acyclic_graph(found)
    assert found.nodes["conv2"]["op"] == "choice"
    assert found.nodes["conv2"]["labels"] == ("conv2",)
    assert [found.nodes[n]["op"] for n in ("x", "conv1", "relu", "output")] == [
        "input",
        "module",
        "function",
        "output",
    ]
    assert found.nodes["conv1"]["path"] == "conv1"
    assert next(iter(nx.topological_sort(found))) == "x"
    assert nx.has_path(found, "x", "output")


def test_the_graph_of_a_built_model_shows_what_was_chosen() -> None:
    net = QuickStart()
    built = graph(net.build({"conv2": 1, "quickstart_1": 0.5, "quickstart_2": 128}))
    assert {"conv2.depthwise", "conv2.pointwise", "relu", "relu_2"} <= set(built.nodes)
    assert "choice" not in nx.get_node_attributes(built, "op").values()


def test_edges_say_which_arguments_they_are() -> None:
    net = space_of(two_edges, lambda self, x: torch.cat([self.a(x), x, x], 1))
    assert graph(net).edges["x", "cat"]["positions"] == (1, 2)
    assert graph(net).edges["a", "cat"]["positions"] == (0,)
