"""The claims of benchmarks/cifar10/speed that no machine's load can change."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

SPEED = Path(__file__).resolve().parents[2] / "benchmarks" / "cifar10" / "speed"
BATCH = torch.randn(2, 3, 16, 16), torch.tensor([3, 7])  # neither sizes nor channels change a count


@pytest.fixture(autouse=True)
def _benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SPEED))
    for name in ("port", "counting", "search_step"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def work_of(search) -> int:
    from counting import WorkOperations

    search.step(BATCH, BATCH)  # optimizers make their state in the first step
    with WorkOperations() as work:
        search.step(BATCH, BATCH)
    return work.total


@pytest.mark.slow
def test_the_port_dispatches_as_much_as_the_algorithm_of_the_paper() -> None:
    import port

    assert work_of(port.Search(port.Network(4, 8))) == pytest.approx(28_650, rel=0.02)


def test_the_port_has_the_weights_of_the_paper() -> None:
    import port

    with torch.device("meta"):
        assert sum(weight.numel() for weight in port.Network(16, 8).parameters()) == 1_930_618


@pytest.mark.slow
def test_a_fast_step_dispatches_at_most_6200_operations() -> None:
    from search_step import SupernetSearch

    assert work_of(SupernetSearch(4, 8, fast=True)) <= 6_200


def test_views_and_allocations_are_no_work_and_a_list_of_tensors_is_one_call() -> None:
    from counting import WorkOperations

    x = torch.ones(2, 3)
    with WorkOperations() as work:
        torch.empty(3)
        x.t().view(-1, 2)[0].detach()
        torch._foreach_add_([x, x], 1)
        torch.zeros(2)
        x @ x.t()
    assert dict(work.calls) == {"aten::_foreach_add_": 1, "aten::zeros": 1, "aten::mm": 1}
