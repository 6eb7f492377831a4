"""Which samples of a space are the same network: what counts, what does not, for each kind of choice."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from spaces import edge, space_of, two_edges

import lightning_nas.nn as nn
from lightning_nas.mutables import SkipConnections, model_wrapper
from lightning_nas.mutables.graph import graph_key


def classes_of(net: nn.Module) -> list[list[dict]]:
    """The samples of a space, those with the same key together."""
    classes = defaultdict(list)
    for sample in net.search_space.enumerate():
        classes[graph_key(net, sample)].append(sample)
    return list(classes.values())


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
