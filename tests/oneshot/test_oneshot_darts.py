"""The Darts callback: its gradients against those written by hand, what it finds, and what it refuses."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from small_search import Lit, Net, Watching, fit, loader, search, trainer
from torch import Tensor

import lightning_nas.nn as nn
from lightning_nas import Darts, SearchError
from lightning_nas.oneshot import OneShot, relax
from lightning_nas.oneshot.unrolled import unrolled_gradients


def by_hand(net: Net, alphas: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """The loss of the small network, written out."""
    a, i = alphas["layer"].softmax(-1), alphas["inputs"].softmax(-1)
    linear = net.layer._modules["0"]
    mixed = i[0] * (a[0] * linear(x) + a[1] * x).relu() + i[1] * x
    return nn.functional.cross_entropy(net.head(mixed), y)


def test_the_gradient_of_the_alphas_is_the_one_written_by_hand() -> None:
    darts, module = Watching(), Lit(Net(dropout=0, norm=False))
    search(darts, module)
    for seen in darts.seen:
        module.load_state_dict(seen["weights"])
        alphas = {label: alpha.requires_grad_() for label, alpha in seen["alphas"].items()}
        expected = torch.autograd.grad(by_hand(module.net, alphas, *seen["batch"]), list(alphas.values()))
        for found, gradient in zip(seen["gradients"].values(), expected):
            torch.testing.assert_close(found, gradient)


def test_the_alphas_move_as_adam_moves_them_and_the_weights_stand_still() -> None:
    darts = Watching(learning_rate=0.01, weight_decay=0.1)
    search(darts, data=loader(64))  # one step
    (seen,) = darts.seen
    assert seen["weights_stood_still"]
    for label, alpha in seen["alphas"].items():
        adam = torch.optim.Adam([alpha.requires_grad_()], 0.01, (0.5, 0.999), weight_decay=0.1)
        alpha.grad = seen["gradients"][label]
        adam.step()
        torch.testing.assert_close(darts.alphas[label].detach(), alpha.detach())


def test_the_two_halves_do_not_meet() -> None:
    darts = Watching()
    search(darts, data=loader(8, n=64))
    searched = torch.cat([seen["batch"][0] for seen in darts.seen])
    trained = torch.cat([seen["train_batch"][0] for seen in darts.seen])
    assert len(searched) == len(trained) == 32
    assert len(torch.cat([searched, trained]).unique(dim=0)) == 64


def test_the_first_alphas_are_a_thousandth_of_normal_draws() -> None:
    net = nn.Sequential(nn.LayerChoice([nn.Identity() for _ in range(5000)], label="many"))
    darts = Darts()
    (alpha,) = darts.first_alphas(relax(net), torch.Generator().manual_seed(0)).values()
    # The standard deviation of 5,000 draws is within 5 % in all but one case in 10^6.
    assert abs(float(alpha.std()) / 1e-3 - 1) < 0.05


def unrolled_exactly(net: Any, alphas: list[Tensor], loss: Any, step: Any) -> list[Tensor]:
    """The gradient through the SGD step to come, by differentiating twice."""
    (optimizer,) = step.optimizers
    (group,) = optimizer.param_groups
    weights = dict(net.named_parameters())
    inner = torch.autograd.grad(loss(weights, step.train_batch), list(weights.values()), create_graph=True)
    ahead = {}
    for (name, weight), gradient in zip(weights.items(), inner):
        velocity = group["momentum"] * optimizer.state[weight]["momentum_buffer"]
        ahead[name] = weight - group["lr"] * (gradient + group["weight_decay"] * weight + velocity)
    return list(torch.autograd.grad(loss(ahead, step.search_batch), alphas))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_error_of_the_second_order_falls_with_the_square_of_epsilon(seed: int) -> None:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.LayerChoice([nn.Linear(3, 3), nn.Tanh()], label="a"), nn.Tanh(), nn.Linear(3, 2)
    ).double()
    supernet = relax(net)
    alphas = {"a": torch.randn(2, dtype=torch.float64, requires_grad=True)}
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.randn(8, 3, generator=generator, dtype=torch.float64) for _ in range(2)]

    def functional(weights: Any, batch: Tensor) -> Tensor:
        supernet.receive(supernet.activate(alphas))
        return torch.func.functional_call(net, weights, batch).pow(3).mean()

    def plain(batch: Tensor) -> Tensor:
        return functional(dict(net.named_parameters()), batch)

    class Here:
        train_batch, search_batch = batches
        module = net
        optimizers = (torch.optim.SGD(net.parameters(), 0.2, momentum=0.9, weight_decay=0.1),)
        reduce = staticmethod(list)

    plain(batches[0]).backward()
    Here.optimizers[0].step()  # fills the momentum
    exact = unrolled_exactly(net, list(alphas.values()), functional, Here)
    errors = []
    for epsilon in (0.2, 0.1, 0.05):
        found = unrolled_gradients(plain, alphas, batches[1], Here, epsilon)
        errors.append(float((found[0] - exact[0]).norm()))
    assert errors[-1] < 1e-2 * float(exact[0].detach().norm())
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.1)


def test_the_second_order_leaves_weights_and_buffers_as_they_were() -> None:
    darts = Watching(order=2)
    search(darts)
    assert all(seen["weights_stood_still"] for seen in darts.seen)


@pytest.mark.slow
def test_the_operation_that_made_the_data_is_found_in_ten_of_ten_seeds() -> None:
    operations = [nn.Identity, nn.Tanh, lambda: Square(), lambda: Sine()]
    found = 0
    for seed in range(10):
        torch.manual_seed(seed)
        hidden = seed % len(operations)
        teacher = nn.Sequential(nn.Linear(6, 6), operations[hidden](), nn.Linear(6, 3))
        x = 1.5 * torch.randn(512, 6)
        dataset = torch.utils.data.TensorDataset(x, teacher(x).detach())

        class Student(pl.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.net = nn.Sequential(
                    nn.Linear(6, 6),
                    nn.LayerChoice([make() for make in operations], label="hidden"),
                    nn.Linear(6, 3),
                )
                self.net[0].load_state_dict(teacher[0].state_dict())  # noqa: B023
                self.net[0].requires_grad_(False)

            def training_step(self, batch: Any) -> Tensor:
                return nn.functional.mse_loss(self.net(batch[0]), batch[1])

            def configure_optimizers(self) -> Any:
                return torch.optim.Adam(self.parameters(), 0.01)

        darts = Darts(learning_rate=0.02, guard=False)
        fit(trainer(darts, max_epochs=25), Student(), torch.utils.data.DataLoader(dataset, 32, shuffle=True))
        found += darts.sample() == {"hidden": hidden}
    assert found == 10


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(3 * x)


# -- bad input -----------------------------------------------------------------------------------------


def test_sample_before_a_search_is_refused() -> None:
    with pytest.raises(SearchError, match="Darts has not searched yet"):
        Darts().sample()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 3}, "`order` must be 1 or 2"),
        ({"epsilon": 0}, "`epsilon > 0`"),
        ({"search_share": 1.0}, "`0 < search_share < 1`"),
        ({"learning_rate": -1}, "learning_rate=-1"),
        ({"warmup_epochs": -1}, "warmup_epochs=-1"),
        ({"stop_at_parameter_free": 2}, "stop_at_parameter_free=2"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Darts(**options)


def test_a_choice_made_with_the_optimizers_is_refused() -> None:
    class Late(Lit):
        def configure_optimizers(self) -> Any:
            self.late = nn.LayerChoice([nn.Linear(1, 1), nn.Identity()], label="late")
            return super().configure_optimizers()

    with pytest.raises(SearchError, match="choice `late` .* was made after the search began"):
        search(Darts(), Late())


def test_an_optimizer_with_a_list_of_its_own_is_refused() -> None:
    class Fixed(Lit):
        def __init__(self) -> None:
            super().__init__(
                nn.Sequential(nn.Cell([lambda *_: nn.Linear(8, 8)], 1, label="cell"), nn.Linear(8, 4))
            )
            self.optimizer = torch.optim.SGD(self.parameters(), 0.1)

        def configure_optimizers(self) -> Any:
            return self.optimizer

    with pytest.raises(SearchError, match=r"No optimizer holds `net.0.operations.*configure_optimizers"):
        search(Darts(), Fixed())


class Breaks(Lit):
    """The loss is NaN from the third batch on."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * math.nan if batch_idx >= 2 else loss


def test_a_loss_that_is_not_a_number_stops_with_the_step_and_keeps_the_good_checkpoint(tmp_path: Any) -> None:
    kept = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    with pytest.raises(SearchError, match="not finite at step 2"):
        search(Darts(), Breaks(), callbacks=[kept])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step=1.ckpt", "step=2.ckpt"]
    state = torch.load(tmp_path / "step=2.ckpt", weights_only=True)["state_dict"]
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())


@pytest.mark.parametrize("order", [1, 2])
def test_a_choice_that_is_never_used_is_refused_by_name(order: int) -> None:
    class Idle(Net):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.LayerChoice([nn.Linear(2, 2), nn.Identity()], label="idle")

    with pytest.raises(SearchError, match="does not depend on the choice 'idle'"):
        search(Darts(order=order), Lit(Idle()))


def test_a_step_that_returns_no_loss_is_refused() -> None:
    class Nothing(Lit):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None

    with pytest.raises(SearchError, match="training_step must return a loss"):
        search(Darts(), Nothing())


def test_the_base_class_cannot_be_used() -> None:
    with pytest.raises(TypeError, match="abstract"):
        OneShot()  # type: ignore[abstract]
