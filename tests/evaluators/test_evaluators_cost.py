from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_nas.evaluators.cost import count_macs


@pytest.mark.parametrize(
    ("model", "shape", "macs"),
    [
        (nn.Linear(5, 7), (1, 5), 35),
        (nn.Linear(5, 7), (3, 5), 3 * 35),
        (nn.Conv2d(4, 8, 3, groups=2, padding=1, stride=2), (1, 4, 8, 8), 8 * 4 * 4 * 2 * 9),
        (nn.Conv1d(2, 3, 5), (1, 2, 9), 3 * 5 * 2 * 5),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), (1, 3, 4, 4), 0),
    ],
)
def test_convolutions_and_linears_count_as_by_hand(model: nn.Module, shape: tuple, macs: int) -> None:
    assert count_macs(model, torch.zeros(shape)) == macs


def test_attention_counts_its_projections_and_products() -> None:
    tokens, width, heads, hidden = 5, 16, 2, 32
    layer = nn.TransformerEncoderLayer(width, heads, hidden, batch_first=True)
    projections = tokens * width * (3 * width + width)
    products = 2 * heads * tokens * tokens * (width // heads)
    feedforward = 2 * tokens * width * hidden
    assert count_macs(layer, torch.zeros(1, tokens, width)) == projections + products + feedforward


def test_a_model_that_reads_numbers_is_counted_where_it_is() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x) if x.sum().item() > 0 else x

    assert count_macs(Reads(), torch.ones(1, 3)) == 9
    assert count_macs(Reads(), torch.zeros(1, 3)) == 0


def test_counting_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, torch.rand(2, 3, 4, 4))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_inputs_of_a_wrong_shape_are_still_an_error() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        count_macs(nn.Linear(5, 7), torch.zeros(1, 6))
