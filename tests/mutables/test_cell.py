from __future__ import annotations

import pytest
import torch
from spaces import has_choice_or_trace

import lightning_nas.nn as nn
from lightning_nas import errors
from lightning_nas.mutables import ChosenCell, model_wrapper


def _operations(channels: int) -> dict:
    return {
        "conv": lambda node, edge, state: nn.Conv2d(channels, channels, 1),
        "skip": lambda node, edge, state: nn.Identity(),
    }


@model_wrapper
class Net(nn.Module):
    def __init__(self, nodes: int = 2, edges: int = 2, distinct: bool = False, merge="all") -> None:
        super().__init__()
        self.cells = nn.ModuleList(
            nn.Cell(_operations(3), nodes, edges, 2, merge, label=name, distinct=distinct)
            for name in ("normal", "reduce", "normal")
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(cell(x, x).sum() for cell in self.cells)


def test_labels_are_nnis() -> None:
    assert set(Net().search_space) == {
        f"{cell}/{kind}_{node}_{edge}"
        for cell in ("normal", "reduce")
        for kind in ("op", "input")
        for node in (2, 3)
        for edge in (0, 1)
    }


def test_distinct_states_are_counted_as_the_paper_does() -> None:
    assert Net().search_space.size == ((2 * 2) ** 2 * (2 * 3) ** 2) ** 2
    assert Net(distinct=True).search_space.size == (2**4 * 1 * 3) ** 2


@pytest.mark.parametrize("distinct", [False, True])
def test_cells_of_one_label_are_alike_and_leave_plain_modules(distinct: bool) -> None:
    net = Net(distinct=distinct)
    model = net.build(net.sample(4))
    assert all(isinstance(cell, ChosenCell) for cell in model.cells)
    assert model.cells[0].states == model.cells[2].states
    assert not has_choice_or_trace(model)
    model(torch.zeros(1, 3, 2, 2))


def test_a_chosen_cell_computes_what_its_genotype_says() -> None:
    cell = ChosenCell(
        [lambda *_: nn.Identity(), lambda *_: nn.Hardtanh(-1, 1)],
        [[(0, 0), (0, 1)], [(1, 2), (0, 0)]],
        2,
        [2, 3],
    )
    a, b = torch.full((1, 1), 3.0), torch.full((1, 1), 4.0)
    assert cell(a, b).tolist() == [[7.0, 4.0]]
    assert cell([a, b]).tolist() == [[7.0, 4.0]]


def test_loose_ends_are_the_nodes_that_no_other_uses() -> None:
    net = Net(merge="loose_end")
    sample = {label: domain.default for label, domain in net.search_space.items()}
    assert net.build(sample).cells[0].concat == [2, 3]
    assert net.build({**sample, "normal/input_3_0": 2}).cells[0].concat == [3]


def test_pre_and_postprocessors_see_the_lists_of_states() -> None:
    class Double(nn.Module):
        def forward(self, states: list) -> list:
            return [2 * s for s in states]

    cell = nn.Cell(
        [nn.Identity()],
        1,
        1,
        1,
        preprocessor=Double(),
        postprocessor=lambda output, inputs: (output, inputs[0]),
        label="c",
    )
    x = torch.ones(1, 1)
    output, kept = cell(x)
    assert (output.item(), kept.item()) == (2.0, 1.0)


def test_choices_inside_the_operations_of_a_cell_are_conditional() -> None:
    @model_wrapper
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            operations = {
                "plain": lambda *_: nn.Identity(),
                "rich": lambda node, edge, state: nn.LayerChoice([nn.ReLU(), nn.GELU()], label=f"act{node}"),
            }
            self.cell = nn.Cell(operations, 2, label="c")

    net = Inner()
    # Two nodes: plain, or rich with two activations; the second may be applied to two states.
    assert net.search_space.size == 3 * (3 * 2)
    for sample in net.search_space.enumerate():
        assert not has_choice_or_trace(net.build(sample))


def test_choices_inside_module_candidates_keep_their_labels_wherever_they_are_used() -> None:
    @model_wrapper
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            candidates = {
                "plain": nn.Identity(),
                "rich": nn.Sequential(nn.LayerChoice([nn.ReLU(), nn.GELU()])),
            }
            self.cell = nn.Cell(candidates, 2, label="c")

    net = Inner()
    assert "c/rich.0" in net.search_space
    for sample in net.search_space.enumerate():
        assert not has_choice_or_trace(net.build(sample))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(op_candidates=[], num_nodes=1, label="c"), "no candidates"),
        (dict(op_candidates=[nn.Identity()], num_nodes=0, label="c"), "at least 1"),
        (
            dict(op_candidates=[nn.Identity()], num_nodes=1, num_ops_per_node=2, label="c", distinct=True),
            "distinct",
        ),
        (dict(op_candidates=[nn.Identity()], num_nodes=1, label="c", merge_op="some"), "merge_op"),
        (dict(op_candidates=[nn.Identity()], num_nodes=1, label="c", merge_op=[7]), "merge_op"),
    ],
)
def test_impossible_cells_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(errors.SpaceError, match=message):
        nn.Cell(**arguments)


def test_a_cell_without_a_label_is_refused() -> None:
    with pytest.raises(TypeError, match="label"):
        nn.Cell([nn.Identity()], 1)
