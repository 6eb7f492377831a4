"""GDAS: one sampled candidate per row, the gradient of its Gumbel softmax, and a falling temperature."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from small_search import Lit, Net, data, fit, loader, search, trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import lightning_nas.nn as nn
from lightning_nas import SearchError
from lightning_nas.oneshot import GDAS, relax
from lightning_nas.oneshot.gdas import straight_through
from lightning_nas.oneshot.paths import check_parameters_may_rest, draws


class Counting(nn.Linear):
    """Counts how often it runs."""

    runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return super().forward(x)


class Watching(GDAS):
    """Keeps what each step computed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(guard=False, **options)
        self.seen: list[tuple[int, float, str, dict[str, Any]]] = []
        self.kind = "train"

    def search_gradients(self, *arguments: Any) -> list[Tensor]:
        self.kind = "search"
        try:
            return super().search_gradients(*arguments)
        finally:
            self.kind = "train"

    def _take(self, noise: Any) -> None:
        super()._take(noise)
        hard = {m.label: m.hard for m in self.supernet.relaxed}
        self.seen.append((*self._now, self.kind, hard))


def test_rows_are_one_hot_with_the_gradient_of_their_softmax() -> None:
    torch.manual_seed(0)
    alpha = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    noise, factor = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    rows = straight_through(alpha, noise, 2.5)
    logits = alpha.log_softmax(-1) + noise
    torch.testing.assert_close(rows, nn.functional.one_hot(logits.argmax(-1), 4).double(), rtol=0, atol=0)
    (found,) = torch.autograd.grad((rows * factor).sum(), alpha, retain_graph=True)
    (expected,) = torch.autograd.grad(((logits / 2.5).softmax(-1) * factor).sum(), alpha)
    torch.testing.assert_close(found, expected)


def test_candidates_are_drawn_as_often_as_their_softmax_says() -> None:
    alpha = torch.tensor([0.0, 1.0, 2.0])
    gumbel = torch.from_numpy(draws(0, 0).gumbel(size=(20000, 3)))
    rates = straight_through(alpha.expand(20000, 3), gumbel, 1.0).mean(0)
    # The standard deviation of a rate is at most 0.0036: 0.02 is missed in one case in 10^7.
    torch.testing.assert_close(rates, alpha.softmax(0), rtol=0, atol=0.02)


def test_each_step_computes_one_candidate_and_draws_it_anew() -> None:
    layer = nn.LayerChoice([Counting(8, 8) for _ in range(4)], label="layer")
    module = Lit(nn.Sequential(layer, nn.Linear(8, 4)))
    gdas = Watching()
    search(gdas, module, data=loader(8), max_epochs=4, limit_val_batches=0)  # 8 batches an epoch
    assert sum(candidate.runs for candidate in module.net[0].children()) == 2 * 32
    by_step: dict[str, dict[int, Any]] = {"search": {}, "train": {}}
    for step, _, kind, hard in gdas.seen:
        by_step[kind][step] = hard["layer"]
    assert set(by_step["search"]) == set(by_step["train"]) == set(range(32))
    # Two independent draws of four agree in a quarter of the steps; in all 32 in one case in 10^19.
    assert by_step["search"] != by_step["train"]
    assert len(set(by_step["search"].values())) == 4


def test_the_temperature_falls_linearly_over_the_epochs() -> None:
    gdas = Watching(temperature=(10.0, 0.1))
    search(gdas, data=loader(64), max_epochs=4)  # one step an epoch
    found = [temperature for _, temperature, kind, _ in gdas.seen if kind == "search"]
    assert found == pytest.approx([10, 6.7, 3.4, 0.1])


def test_validation_computes_the_strongest_candidates() -> None:
    gdas = Watching()
    search(gdas, max_epochs=1)
    gdas.alphas["layer"].data = torch.tensor([0.0, 3.0, 1.0])
    gdas.set_weights_for_validation()
    layer = gdas.supernet.mixed("layer")
    assert layer.hard == (1,)
    torch.testing.assert_close(layer.weights, torch.tensor([0.0, 1.0, 0.0]))


def test_a_cell_computes_one_operation_on_each_edge() -> None:
    def count(*indices: int) -> nn.Module:
        return Counting(8, 8)

    cell = nn.Cell({"a": count, "b": count, "none": nn.Zero()}, 2, 2, 2, label="cell", distinct=True)

    class TwoInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell
            self.head = nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.cell(x, x))

    module = Lit(TwoInputs())
    gdas = Watching()
    search(gdas, module, data=loader(8), max_epochs=2, limit_val_batches=0)
    steps = [(kind, hard["cell"]) for step, _, kind, hard in gdas.seen]
    assert {len(hard) for _, hard in steps} == {5}
    operations = [m for m in module.modules() if isinstance(m, Counting)]
    in_search = [hard for kind, hard in steps if kind == "search"]
    in_training = [hard for kind, hard in steps if kind == "train"][
        1:-1
    ]  # at the start and at the end: no step
    expected = sum(i != 2 for hard in (*in_search, *in_training) for i in hard)
    assert sum(operation.runs for operation in operations) == expected
    assert len(gdas.sample()["cell/input_2"]) == 2


def test_nothing_but_none_is_zero_and_has_no_gradient() -> None:
    net = nn.Sequential(
        nn.Cell({"a": nn.Linear(3, 3), "none": nn.Zero()}, 1, 1, 1, label="cell"), nn.Identity()
    )
    supernet = relax(net)
    cell = supernet.mixed("cell")
    cell.receive({"cell": torch.tensor([[0.0, 1.0]], requires_grad=True)})
    cell.hard = (1,)
    output = net(torch.ones(2, 3))
    assert output.eq(0).all()
    assert not output.requires_grad


@pytest.mark.slow
def test_the_best_candidate_is_found_in_five_of_five_seeds() -> None:
    x = data(512).tensors[0]
    dataset = TensorDataset(x, (x[:, :4] ** 2).argmax(1))  # a parity that no odd function gives a linear head

    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x**2

    found = []
    for seed in range(5):
        torch.manual_seed(seed)
        layer = nn.LayerChoice({"tanh": nn.Tanh(), "same": nn.Identity(), "square": Square()}, label="layer")
        gdas = GDAS(seed=seed, learning_rate=0.05, guard=False)
        runner = trainer(gdas, max_epochs=15)
        fit(runner, Lit(nn.Sequential(layer, nn.Linear(8, 4))), DataLoader(dataset, 32, shuffle=True))
        found.append(gdas.sample()["layer"])
    assert found == ["square"] * 5


def test_a_resumed_search_equals_one_that_was_never_stopped(tmp_path: Path) -> None:
    def searched(ckpt_path: Path | None = None) -> dict[str, Tensor]:
        gdas = GDAS(learning_rate=0.05, guard=False)
        kept = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        options = {"callbacks": [kept], "ckpt_path": ckpt_path, "max_epochs": 3}
        module = search(gdas, Lit, **options).lightning_module
        return {**module.state_dict(), **{f"alpha {label}": alpha for label, alpha in gdas.alphas.items()}}

    whole = searched()
    for step in (1, 4, 7):
        again = searched(tmp_path / f"step={step}.ckpt")
        assert [name for name in whole if not torch.equal(whole[name], again[name])] == []


@pytest.mark.parametrize(
    ("n_chosen", "said"), [(2, "chooses 2 inputs"), (None, "chooses any number of inputs")]
)
def test_several_inputs_are_refused_by_name(n_chosen: int | None, said: str) -> None:
    net = Net()
    net.inputs = nn.InputChoice(2, n_chosen=n_chosen, reduction="sum", label="several")
    with pytest.raises(SearchError, match=f"InputChoice 'several' {said}"):
        search(GDAS(), Lit(net))


def test_a_trainer_without_a_last_epoch_is_refused() -> None:
    with pytest.raises(SearchError, match="give the Trainer max_epochs="):
        search(GDAS(), max_epochs=-1, max_steps=3)


@pytest.mark.parametrize("temperature", [(10, 0), (-1, 1), (1, 2, 3)])
def test_a_temperature_that_is_none_is_refused(temperature: Any) -> None:
    with pytest.raises(ValueError, match="`temperature` must be two positive numbers"):
        GDAS(temperature=temperature)


def test_ddp_that_waits_for_all_gradients_is_refused() -> None:
    strategy = SimpleNamespace(_ddp_kwargs={})
    with pytest.raises(SearchError, match="ddp_find_unused_parameters_true"):
        check_parameters_may_rest("GDAS", SimpleNamespace(strategy=strategy, world_size=2))
    strategy._ddp_kwargs["find_unused_parameters"] = True
    check_parameters_may_rest("GDAS", SimpleNamespace(strategy=strategy, world_size=2))
