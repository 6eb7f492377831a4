"""The collapse guard: what it counts, when it warns and stops, and the gap of the derived network."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torchmetrics
from small_search import Lit, Net, Steps, data, fit, loader, search, trainer
from torch import Tensor

import lightning_nas.nn as nn
from lightning_nas import Darts, SearchError
from lightning_nas.hub import DartsSpace
from lightning_nas.oneshot import relax
from lightning_nas.oneshot.gap import RECALIBRATION_BATCHES
from lightning_nas.oneshot.health import UNDECIDED, health_of


def net_of() -> nn.Module:
    return nn.Sequential(
        nn.LayerChoice({"linear": nn.Linear(8, 8), "same": nn.Identity()}, label="one"),
        nn.LayerChoice({"linear": nn.Linear(8, 8), "zero": nn.Zero()}, label="two"),
        nn.LayerChoice({"tanh": nn.Tanh(), "relu": nn.ReLU()}, label="no operation has weights"),
        nn.Linear(8, 4),
    )


class Leaning(Darts):
    """Begins with alphas that lean to one candidate, and leaves them there."""

    def __init__(self, **leanings: Any) -> None:
        self.leanings = {name: leanings.pop(name) for name in ("one", "two") if name in leanings}
        super().__init__(learning_rate=0, **leanings)

    def first_alphas(self, *arguments: Any) -> dict[str, Tensor]:
        alphas = super().first_alphas(*arguments)
        for label, index in self.leanings.items():
            alphas[label][index] += 2
        return alphas


def test_entropy_is_one_for_equal_weights_and_zero_for_decided_ones() -> None:
    supernet = relax(net_of())
    for value, entropy in ((0.5, 1.0), (1.0, 0.0), (0.9, 0.4690)):  # -(0.9 log2 0.9 + 0.1 log2 0.1)
        weights = {label: torch.tensor([value, 1 - value]) for label in supernet.shapes}
        found = health_of(supernet, weights, supernet.derive(weights))
        assert found.entropy == pytest.approx(entropy, abs=1e-4)


def test_the_share_counts_derived_operations_without_weights() -> None:
    supernet = relax(net_of())
    weights = {label: torch.tensor([0.1, 0.9]) for label in supernet.shapes}
    weights["one"] = torch.tensor([0.9, 0.1])
    found = health_of(supernet, weights, supernet.derive(weights))
    assert found.by_label == {"one": 0.0, "two": 1.0}  # no weights to lose where no candidate has any
    assert found.parameter_free == 0.5


def test_in_a_cell_edges_are_counted() -> None:
    operations = ("skip_connect", "sep_conv_3x3", "noise")
    supernet = relax(DartsSpace(4, 3, nodes=2, operations=operations, search=True))
    skips = torch.tensor([[0.8, 0.1, 0.1]] * 2 + [[0.1, 0.8, 0.1]] * 2 + [[0.1, 0.1, 0.2]])
    weights = {"normal": skips, "reduce": torch.tensor([[0.1, 0.8, 0.1]] * 5)}
    found = health_of(supernet, weights, supernet.derive(weights))
    assert found.by_label == {"normal": 0.5, "reduce": 0.0}
    assert found.parameter_free == 0.25


def test_noise_has_the_shape_and_not_the_content_of_its_input() -> None:
    supernet = relax(DartsSpace(4, 3, nodes=1, operations=("noise",), search=True))
    cell = supernet.mixed("reduce")
    (noise,) = cell._on((2, 0))
    x = torch.full((64, 4, 8, 8), 100.0)
    output = noise(x)
    assert output.shape == (64, 4, 4, 4)
    # 4,096 standard normal draws: mean and deviation are this far off in one case in 10^9.
    assert abs(float(output.mean())) < 0.1
    assert abs(float(output.std()) - 1) < 0.1


def test_a_collapsing_search_warns_once_with_its_numbers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lightning_nas"):
        search(Leaning(one=1, two=0), Lit(net_of()), max_epochs=3)
    (warning,) = [r.getMessage() for r in caplog.records if r.name == "lightning_nas.oneshot.health"]
    assert "in epoch 0, 100 % of the operations derived for 'one' have no weights" in warning
    assert "50 % in all; alpha entropy is 0.68" in warning


def test_a_healthy_or_undecided_search_does_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lightning_nas"):
        search(Leaning(one=0, two=0), Lit(net_of()))
        search(Leaning(guard=False, one=1, two=1), Lit(net_of()))
        undecided = Leaning(stop_at_parameter_free=0.1)  # any of the first, random alphas
        search(undecided, Lit(net_of()), max_epochs=3)
    assert len(undecided.history) == 3
    assert undecided.history[-1]["search/entropy"] > UNDECIDED
    assert not [r for r in caplog.records if r.name.startswith("lightning_nas")]


@pytest.mark.parametrize(("limit", "epochs"), [(0.5, 1), (0.51, 3)])
def test_a_search_stops_at_the_share_it_was_told(limit: float, epochs: int) -> None:
    darts = Leaning(one=1, two=0, guard=False, stop_at_parameter_free=limit)
    search(darts, Lit(net_of()), max_epochs=3)
    assert len(darts.history) == epochs


# -- the gap


class Scored(Steps, pl.LightningModule):
    """Logs a number, a torchmetrics object and a collection of one."""

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = Net(dropout=0) if net is None else net
        self.accuracy = torchmetrics.classification.MulticlassAccuracy(4, average="micro")
        self.all = torchmetrics.MetricCollection({"in_all": self.accuracy.clone()})

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        logits = self.net(batch[0])
        self.accuracy(logits, batch[1])
        self.all(logits, batch[1])
        self.log("val_loss", nn.functional.cross_entropy(logits, batch[1]))
        self.log("val_acc", self.accuracy)
        self.log_dict(self.all)


class Kept(Darts):
    """Keeps the module's state and the metrics after each validation."""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        before = {name: value.clone() for name, value in pl_module.state_dict().items()}
        metrics = dict(trainer.callback_metrics)
        super().on_validation_end(trainer, pl_module)
        after = pl_module.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert metrics == dict(trainer.callback_metrics)
        assert not any(part.training for part in pl_module.modules())


@pytest.mark.parametrize("monitor", ["val_loss", "val_acc", "in_all"])
def test_the_gap_is_what_validation_of_the_derived_network_says(monitor: str) -> None:
    darts = Kept(gap_monitor=monitor, learning_rate=0.1, guard=False)
    module = Scored()
    # The rate is 0 in the last epoch: what is validated then is what is left.
    runner = search(darts, module, max_epochs=4, data=loader(16))
    mixed = float(runner.callback_metrics[monitor])
    supernet = darts.supernet
    supernet.follow(darts.sample())
    module.train()
    norm = module.net.norm
    norm.reset_running_stats()
    norm.momentum = None
    x, y = data().tensors
    with torch.no_grad():
        for part in x.split(64):
            module.net(part)
        module.eval()
        logits = module.net(x)
    by_hand = {
        "val_loss": nn.functional.cross_entropy(logits, y),
        "val_acc": (logits.argmax(1) == y).float().mean(),
    }
    expected = float(by_hand.get(monitor, by_hand["val_acc"]))
    last = darts.history[-1]
    assert last["search/derived_score"] == pytest.approx(expected, abs=1e-5)
    sign = 1 if monitor == "val_loss" else -1
    assert last["search/gap"] == pytest.approx(sign * (expected - mixed), abs=1e-5)
    assert RECALIBRATION_BATCHES > 2


def test_measuring_the_gap_does_not_change_the_search() -> None:
    with_gap, without = Darts(gap_monitor="val_loss", learning_rate=0.1), Darts(learning_rate=0.1)
    states = [search(darts, Lit, max_epochs=3).lightning_module.state_dict() for darts in (with_gap, without)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert all(torch.equal(with_gap.alphas[label], without.alphas[label]) for label in without.alphas)


def test_the_gap_is_measured_as_often_as_asked() -> None:
    darts = Darts(gap_monitor="val_loss", gap_every=2)
    search(darts, max_epochs=5)
    assert ["search/gap" in epoch for epoch in darts.history] == [False, True, False, True, False]
    assert math.isnan(darts.health().gap)


def test_a_metric_that_is_not_logged_is_an_error_that_names_those_that_are() -> None:
    with pytest.raises(
        SearchError, match="gap_monitor='val_acc' is not logged in validation; there is .*'val_loss'"
    ):
        search(Darts(gap_monitor="val_acc"))


def test_a_metric_of_the_epochs_end_is_an_error_that_says_so() -> None:
    class AtTheEnd(Lit):
        def on_validation_epoch_end(self) -> None:
            self.log("late", 1.0)

    with pytest.raises(SearchError, match="validation_step does not log 'late'"):
        search(Darts(gap_monitor="late"), AtTheEnd())


def test_several_validation_loaders_are_refused() -> None:
    class Two(Lit):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("loss", 0.0)

        def val_dataloader(self) -> Any:
            return [loader(64, shuffle=False), loader(64, shuffle=False)]

    with pytest.raises(SearchError, match="needs one validation loader"):
        fit(trainer(Darts(gap_monitor="loss/dataloader_idx_0"), num_sanity_val_steps=0), Two(), loader())


def test_a_gap_that_is_never_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="gap_every=0"):
        Darts(gap_every=0)
