"""Selection by perturbation: what the supernet cannot do without is kept."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_search import Lit, Net, loader, search
from torch import Tensor

import lightning_nas.nn as nn
from lightning_nas import Darts, MetricError, SearchError
from lightning_nas.hub import DartsSpace
from lightning_nas.oneshot import GDAS, SPOS, perturbation_selection, relax
from lightning_nas.oneshot.perturbation import select


def selected(supernet: Any, value: dict[str, Tensor], seed: int = 0, **weights: Tensor) -> dict[str, Any]:
    """What is kept where the score is the sum of the weights times their `value`."""
    start = {**supernet.activate({k: torch.zeros(s) for k, s in supernet.shapes.items()}), **weights}
    tuned: list[int] = []
    kept = select(
        supernet,
        start,
        lambda now: sum(float((now[label] * value[label]).sum()) for label in value),
        lambda now: tuned.append(1),
        np.random.default_rng(seed),
    )
    return {"sample": supernet.derive(kept), "weights": kept, "tuned": len(tuned)}


@pytest.mark.parametrize("seed", range(4))
def test_the_most_needed_operations_and_edges_are_kept_in_any_order(seed: int) -> None:
    operations = ("none", "skip_connect", "sep_conv_3x3")
    supernet = relax(DartsSpace(4, 3, nodes=2, operations=operations, search=True))
    generator = torch.Generator().manual_seed(seed)
    value = {label: torch.rand(shape, generator=generator) for label, shape in supernet.shapes.items()}
    for each in value.values():
        each[:, 0] = 9  # `none` is never kept
    found = selected(supernet, value, seed)
    for label in ("normal", "reduce"):
        best = value[label][:, 1:].max(1)
        worst_edge = 2 + int(best.values[2:].argmin())  # the second node has three edges
        for row in range(5):
            expected = torch.zeros(3)
            if row != worst_edge:
                expected[1 + best.indices[row]] = 1
            assert torch.equal(found["weights"][label][row], expected)
        sample = found["sample"]
        states = {sample[f"{label}/input_3_0"], sample[f"{label}/input_3_1"]}
        assert states == {0, 1, 2} - {worst_edge - 2}
    assert found["tuned"] == 2 * (5 + 1)


def test_alphas_do_not_decide() -> None:
    net = nn.Sequential(nn.LayerChoice([nn.Linear(8, 8), nn.Identity()], label="layer"))
    supernet = relax(net)
    found = selected(supernet, {"layer": torch.tensor([3.0, 1.0])}, layer=torch.tensor([0.4, 0.6]))
    assert found["sample"] == {"layer": 0}  # 0.4 * 3 is missed more than 0.6 * 1


class Scored(Lit):
    """Also logs its accuracy."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())


def wrong_alphas() -> tuple[Darts, Scored]:
    """A trained supernet in which only the linear layer is any use, and alphas that speak for zeros."""
    nothing = nn.Threshold(1e9, 0.0)  # zeros, but no `nn.Zero`
    choice = nn.LayerChoice([nn.Linear(8, 8), nothing, nn.Zero()], label="layer")
    darts, module = Darts(learning_rate=0, guard=False), Scored(nn.Sequential(choice, nn.Linear(8, 4)))
    search(darts, module, max_epochs=20, data=loader(16))
    darts.alphas["layer"].data = torch.tensor([0.0, 0.5, 1.0])
    return darts, module


def test_a_trained_supernet_speaks_for_what_it_uses() -> None:
    darts, module = wrong_alphas()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    darts.set_weights_for_training()
    weights = module.net[0].weights.clone()
    assert darts.sample()["layer"] == 2
    for monitor in ("val_acc", "val_loss"):
        sample = perturbation_selection(darts, loader(64, shuffle=False), monitor, accelerator="cpu")
        assert sample["layer"] == 0
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    torch.testing.assert_close(module.net[0].weights, weights)  # the search's own are back


def test_tuning_trains_the_weights_between_choices() -> None:
    darts, module = wrong_alphas()
    before = module.net[1].weight.detach().clone()
    sample = perturbation_selection(
        darts,
        loader(64, shuffle=False),
        "val_acc",
        train_dataloaders=loader(16),
        tune_steps=3,
        accelerator="cpu",
    )
    assert sample["layer"] == 0
    assert not torch.equal(before, module.net[1].weight)


def test_gdas_can_be_selected_from_as_well() -> None:
    gdas = GDAS(guard=False)
    search(gdas, Scored())
    sample = perturbation_selection(gdas, loader(64, shuffle=False), "val_loss", accelerator="cpu")
    assert set(sample) == {"layer", "inputs"}
    assert gdas.supernet.mixed("layer").hard is not None


def test_what_has_no_alphas_is_refused() -> None:
    spos = SPOS()
    search(spos, Scored())
    with pytest.raises(SearchError, match="SPOS has no alphas"):
        perturbation_selection(spos, loader(), "val_acc")
    with pytest.raises(SearchError, match="Darts has not searched yet"):
        perturbation_selection(Darts(), loader(), "val_acc")


def test_several_inputs_are_refused_by_name() -> None:
    net = Net()
    net.inputs = nn.InputChoice(2, n_chosen=2, reduction="sum", label="both")
    darts = Darts(guard=False)
    search(darts, Scored(net))
    with pytest.raises(SearchError, match="'both' chooses several inputs"):
        perturbation_selection(darts, loader(), "val_acc")


def test_a_metric_that_is_not_logged_is_an_error() -> None:
    darts = Darts(guard=False)
    search(darts)
    with pytest.raises(MetricError, match="'val_acc' is not among the metrics"):
        perturbation_selection(darts, loader(64, shuffle=False), "val_acc", accelerator="cpu")


@pytest.mark.parametrize("options", [{"tune_steps": -1}, {"tune_steps": 5}])
def test_tuning_without_data_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"tune_steps={options['tune_steps']}"):
        perturbation_selection(Darts(), loader(), "val_acc", **options)


@pytest.mark.slow
def test_where_darts_chooses_noise_the_guard_warns_and_perturbation_keeps_convolutions() -> None:
    folder = Path(__file__).parents[2] / "benchmarks" / "cifar10"
    spec = importlib.util.spec_from_file_location("collapse", folder / "collapse.py")
    assert spec is not None
    assert spec.loader is not None
    collapse = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(collapse)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = collapse.searched("S4", seed=0, epochs=60)
    noisy = {way: collapse.free_operations("S4", run[way]) for way in collapse.WAYS}
    # Of eight. Seen over three seeds: 4 to 5 by the alphas, 1 to 3 by the other two.
    assert noisy["alphas"] > max(noisy["perturbation"], noisy["stopped"])
    assert all(
        value == "noise" for label, value in run["alphas"].items() if label.startswith("reduce/op_")
    ), "all of a reduction cell, so that nothing of the image is left"
    (warning,) = run["warnings"]
    assert "100 % of the operations derived for 'reduce' have no weights" in warning
    assert run["history"][-1]["search/gap"] > 0.05
