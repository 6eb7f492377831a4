from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_nas.mutables.fingerprint import describe


@dataclasses.dataclass
class Settings:
    width: int = 3


class Knot(nn.Module):
    """Refers to itself outside the tree of modules."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.inner = nn.Linear(width, width)
        self.family = [self, self.inner]


def _tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Conv2d(3, 4, 3, padding="same"),
        lambda: nn.LSTM(2, 3, num_layers=2),
        lambda: nn.TransformerEncoderLayer(4, 2),
        lambda: Knot(3),
        _tied,
        lambda: functools.partial(F.leaky_relu, negative_slope=0.1),
        lambda: Settings(4),
        lambda: {"a": [1, (2.0, None)], "b": {1, 2}, "c": slice(1, None)},
        lambda: torch.tensor([1.0, 2.0]),
    ],
)
def test_equal_things_made_twice_have_one_text(make: Callable[[], object]) -> None:
    assert describe(make()) == describe(make())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        ([1], (1,)),
        (F.relu, F.gelu),
        (F.max_pool2d, F.avg_pool2d),
        (Settings(3), Settings(4)),
        (Knot(3), Knot(4)),
        (_tied(), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))),
        (nn.Sequential(nn.ReLU()), nn.ModuleList([nn.ReLU()])),
        (torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])),
        (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64)),
        (lambda x: x, lambda x: x),
        (object(), object()),
    ],
)
def test_other_things_have_other_texts(one: object, other: object) -> None:
    assert describe(one) != describe(other)


def test_training_changes_no_text() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    before = describe(model)
    model(torch.rand(4, 3)).sum().backward()
    with torch.no_grad():
        for weight in model.parameters():
            weight -= weight.grad
    assert describe(model.eval()) == before


def test_a_hook_makes_a_module_unlike_others() -> None:
    hooked = nn.ReLU()
    hooked.register_forward_hook(lambda *_: None)
    assert describe(hooked) != describe(nn.ReLU())


def test_the_same_unknown_object_keeps_its_text() -> None:
    thing = object.__new__(type("Thing", (), {}))
    assert describe(thing) == describe(thing) != describe(type(thing)())
