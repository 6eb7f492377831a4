"""Graphs of spaces and of models, and how keys are found: at which sizes, with what side effects, and when not."""

from __future__ import annotations

import random
from collections import defaultdict

import networkx as nx
import numpy as np
import pytest
import torch
from spaces import MobileLike, QuickStart, edge, space_of, two_edges
from test_canonical import nasbench201_cell

import lightning_nas.nn as nn
from lightning_nas import errors, hub
from lightning_nas.mutables import model_wrapper
from lightning_nas.mutables.canonical import canonical_form
from lightning_nas.mutables.graph import graph, graph_key

# -- how keys are found -----------------------------------------------------------------------------


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
