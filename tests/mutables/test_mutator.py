from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import lightning_nas.nn as nn
from lightning_nas import errors
from lightning_nas.mutables import ReplaceModules, SkipConnections, blueprint, model_wrapper


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(self.act(self.conv(x)), 0.5, training=self.training)


def _skips(label: str = "skip") -> SkipConnections:
    return SkipConnections(label, lambda m: isinstance(m, nn.Conv2d))


@model_wrapper(mutators=[_skips()])
class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.LayerChoice([nn.Identity(), Block()], label="stem")
        self.body = nn.Sequential(*(Block() for _ in range(nn.ValueChoice([1, 2], label="depth"))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self.stem(x))


def test_mutators_add_their_labels_under_the_conditions_of_the_graph() -> None:
    space = Net().search_space
    assert set(space) == {"stem", "depth", "skip/stem.conv", "skip/body.0.conv", "skip/body.1.conv"}
    assert space.size == (1 + 2) * (2 + 4)


def test_a_skip_connection_adds_the_input() -> None:
    net = Net()
    sample = {"stem": 0, "depth": 1, "skip/body.0.conv": False}
    x = torch.randn(1, 4, 3, 3)
    torch.manual_seed(0)
    plain = net.build(sample).eval()
    torch.manual_seed(0)
    skipping = net.build({**sample, "skip/body.0.conv": True}).eval()
    conv = plain.get_submodule("body.0.conv")
    assert torch.equal(plain(x), conv(x).relu())
    assert torch.equal(skipping(x), (conv(x) + x).relu())


def test_edited_models_still_follow_the_training_flag() -> None:
    net = Net()
    model = net.build({"stem": 0, "depth": 1, "skip/body.0.conv": True})
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(model.eval()(x), model(x))
    assert not torch.equal(model.train()(x), model(x))


def test_operations_are_replaced_by_pattern() -> None:
    activations = {"keep": lambda m: m, "gelu": lambda m: nn.GELU(), "none": lambda m: nn.Identity()}

    @model_wrapper(mutators=[ReplaceModules("act", lambda m: isinstance(m, nn.ReLU), activations), _skips()])
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Block(), Block()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))

    net = Two()
    assert net.search_space.size == 3 * 3 * 2 * 2
    sample = {"act/a.act": "gelu", "act/b.act": "keep", "skip/a.conv": True, "skip/b.conv": False}
    model = net.build(sample)
    assert isinstance(model.get_submodule("a.act"), nn.GELU)
    assert isinstance(model.get_submodule("b.act"), nn.ReLU)
    assert blueprint(net).build(sample)(torch.zeros(1, 4, 2, 2)).shape == (1, 4, 2, 2)


def test_an_untraceable_forward_pass_is_refused_by_name() -> None:
    @model_wrapper(mutators=[_skips()])
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(errors.SpaceError, match="cannot trace Branching"):
        _ = Branching().search_space


def test_mutators_of_one_label_are_refused() -> None:
    with pytest.raises(errors.SpaceError, match="different labels"):
        model_wrapper(mutators=[_skips(), _skips()])
