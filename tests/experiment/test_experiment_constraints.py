"""Networks that are too large are never trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lightning_nas.nn as choices
from lightning_nas import model_wrapper
from lightning_nas.evaluators.cost import Cost, cost_of
from lightning_nas.experiment import Experiment
from lightning_nas.space import Float
from lightning_nas.strategies import GridSearch, Random


@model_wrapper
class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = choices.ValueChoice([10, 20, 30, 40], label="width")
        self.hidden = nn.Linear(100, width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.sigmoid(self.hidden(x)))


@model_wrapper
class ReadsNumbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = choices.ValueChoice([10, 20], label="width")
        scale = torch.ones(3).sum().item()  # the meta device has no numbers
        self.hidden = nn.Linear(int(scale), width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.hidden(x)


class Counts:
    """Scores a network by its parameters."""

    def evaluate(self, candidate: Any, report: Any) -> dict[str, float]:
        return {"acc": float(sum(weight.numel() for weight in candidate.build().parameters()))}


def widths(directory: Path, model: Any = None, **settings: Any) -> list[Any]:
    strategy = settings.pop("strategy", GridSearch())
    exp = Experiment(
        Net() if model is None else model,
        Counts(),
        strategy,
        directory=directory,
        runner="inprocess",
        progress=False,
        export=False,
        **settings,
    )
    return [trial.sample["width"] for trial in exp.run().trials]


def by_hand(width: int) -> Cost:
    parameters = 101 * width + (width + 1) * 10
    activations = 4 * (100 + width)  # the input, for the first layer's weight; sigmoid's output, for both its
    return Cost(parameters / 1e6, (100 * width + width * 10) / 1e6, activations / 1e6)


@pytest.mark.parametrize("width", [10, 40])
def test_a_cost_is_as_by_hand(width: int) -> None:
    assert cost_of(Net().build({"width": width}), torch.zeros(1, 100)) == by_hand(width)


def test_what_is_kept_for_the_backward_pass_counts_once() -> None:
    same = nn.Sequential(nn.Linear(10, 10), nn.Sigmoid(), nn.Flatten(), nn.Unflatten(1, (10, 10)), nn.Tanh())
    assert cost_of(same, torch.zeros(1, 10, 10)).activation_mb == pytest.approx(3 * 400 / 1e6)


@pytest.mark.parametrize(
    ("constraints", "left"),
    [
        ({"params_m": (0, by_hand(20).params_m)}, [10, 20]),
        ({"params_m": (by_hand(20).params_m, None)}, [20, 30, 40]),
        ({"macs_m": (None, by_hand(30).macs_m)}, [10, 20, 30]),
        ({"activation_mb": (None, by_hand(10).activation_mb)}, [10]),
        ({"params_m": (by_hand(20).params_m, None), "macs_m": (None, by_hand(30).macs_m)}, [20, 30]),
    ],
)
def test_only_networks_within_the_limits_become_trials(
    tmp_path: Path, constraints: dict[str, tuple[float | None, float | None]], left: list[int]
) -> None:
    assert widths(tmp_path, constraints=constraints, example_inputs=torch.zeros(1, 100)) == left


def test_other_labels_are_searched_on_and_random_states_stay(tmp_path: Path) -> None:
    limits = {"params_m": (0, by_hand(20).params_m)}
    exp = Experiment(
        Net(),
        Counts(),
        Random(),
        space={"lr": Float(0, 1)},
        constraints=limits,
        directory=tmp_path,
        progress=False,
        runner="inprocess",
        max_trials=8,
        export=False,
    )
    before = torch.get_rng_state()
    exp.run()
    assert torch.equal(torch.get_rng_state(), before)
    assert {trial.sample["width"] for trial in exp.trials} == {10, 20}
    assert len({trial.sample["lr"] for trial in exp.trials}) == 8


def test_a_constructor_that_reads_numbers_is_counted_too(tmp_path: Path) -> None:
    assert widths(tmp_path, ReadsNumbers(), constraints={"params_m": (0, 4e-5)}) == [10]


def test_limits_that_nothing_fits_end_the_search_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exp = Experiment(
        Net(), Counts(), Random(), constraints={"params_m": (0, 1e-6)}, directory=tmp_path, runner="inprocess"
    )
    assert exp.run().trials == []
    assert "no more samples within its constraints" in capsys.readouterr().out


def test_other_limits_are_another_experiment(tmp_path: Path) -> None:
    widths(tmp_path, constraints={"params_m": (0, 1)})
    with pytest.raises(Exception, match="its strategy is .*Within"):
        widths(tmp_path, constraints={"params_m": (0, 2)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"constraints": {"flops": (0, 1)}}, "knows params_m, macs_m, activation_mb, but got 'flops'"),
        ({"constraints": {"macs_m": (0, 1)}}, "'macs_m' needs example_inputs="),
        ({"constraints": {"params_m": 4}}, r"must be a pair \(least, most\), but is 4"),
        ({"constraints": {"params_m": (4, 1)}}, "leaves nothing between 4 and 1"),
        ({"model": {"width": Float(0, 1)}, "constraints": {"params_m": (0, 4)}}, "needs a model"),
    ],
)
def test_wrong_limits_are_refused_at_once(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        widths(tmp_path, **settings)
