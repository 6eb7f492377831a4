"""The Darts callback: its gradients, and that Lightning's own features keep working."""

from __future__ import annotations

import copy
import csv
import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from small_search import Lit, Net, Steps, fit, loader, search, trainer
from torch import Tensor

import lightning_nas.nn as nn
from lightning_nas import Darts, SearchError, model_wrapper
from lightning_nas.oneshot import OneShot, Step, relax
from lightning_nas.oneshot.unrolled import unrolled_gradients


def quiet_lit() -> Lit:
    """A module without dropout and batch-norm: what it computes does not depend on how batches are cut."""
    return Lit(Net(dropout=0, norm=False))


def compiled_lit() -> Lit:
    module = quiet_lit()
    module.net.compile(backend="aot_eager")
    return module


class Watching(Darts):
    """Keeps the gradients of each step and the weights before it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[dict[str, Any]] = []

    def search_gradients(self, loss_of: Any, search_batch: Any, step: Step) -> list[Tensor]:
        before = copy.deepcopy({label: alpha.detach().clone() for label, alpha in self.alphas.items()})
        weights = {name: p.detach().clone() for name, p in step.module.named_parameters()}
        gradients = super().search_gradients(loss_of, search_batch, step)
        after = dict(step.module.named_parameters())
        self.seen.append(
            {
                "batch": search_batch,
                "train_batch": step.train_batch,
                "alphas": before,
                "gradients": dict(zip(self.alphas, gradients)),
                "weights": weights,
                "weights_stood_still": all(torch.equal(weights[n], after[n]) for n in weights),
            }
        )
        return gradients


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


# -- Lightning's features ------------------------------------------------------------------------------


def test_validation_runs_and_alphas_are_logged() -> None:
    darts = Darts()
    metrics = search(darts).callback_metrics
    assert "val_loss" in metrics
    weights = darts.weights()
    assert float(metrics["weight/layer/0"]) == pytest.approx(float(weights["layer"][0]))
    assert float(metrics["weight/inputs/1"]) == pytest.approx(float(weights["inputs"][1]))
    assert float(metrics["alpha/layer/2"]) == pytest.approx(darts.alphas["layer"][2].item())
    assert 0 < float(metrics["search/entropy"]) <= 1


def test_loggers_get_the_alphas_of_every_epoch(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    search(Darts(), logger=logger, max_epochs=2, log_every_n_steps=1)
    rows = list(csv.DictReader((Path(logger.log_dir) / "metrics.csv").read_text().splitlines()))
    assert sum(bool(row["weight/layer/1"]) for row in rows) == 2
    assert sum(bool(row["search/entropy"]) for row in rows) == 2


def test_the_history_has_one_entry_per_epoch() -> None:
    darts = Darts()
    search(darts, max_epochs=3)
    assert [entry["epoch"] for entry in darts.history] == [0, 1, 2]
    assert darts.history[-1]["sample"] == darts.sample()


def test_metrics_of_the_search_step_are_not_logged() -> None:
    """Otherwise train_loss would be the search half's."""
    darts, module = Watching(), Lit(Net(dropout=0, norm=False))
    runner = search(darts, module, data=loader(64))
    seen = darts.seen[0]
    module.load_state_dict(seen["weights"])
    module.net.eval()
    supernet = relax_again(module, darts)
    supernet.receive(supernet.activate({label: a.detach() for label, a in darts.alphas.items()}))
    expected = nn.functional.cross_entropy(module.net(seen["train_batch"][0]), seen["train_batch"][1])
    assert float(runner.callback_metrics["train_loss"]) == pytest.approx(expected.item(), rel=1e-5)


def relax_again(module: Any, darts: Darts) -> Any:
    assert darts.supernet is not None
    assert darts.supernet.root is module
    return darts.supernet


def test_accumulated_batches_search_as_one_large_batch_does() -> None:
    results = []
    for batch_size, accumulate in ((8, 4), (32, 1)):
        darts = Darts(learning_rate=0.05)
        runner = search(
            darts, quiet_lit, data=loader(batch_size), accumulate_grad_batches=accumulate, max_epochs=2
        )
        results.append((darts.weights(), runner.lightning_module.state_dict()))
    for one, other in zip(results[0], results[1]):
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)


def test_clipping_leaves_the_alphas_alone() -> None:
    plain, clipped = Watching(), Watching()
    search(plain, quiet_lit, data=loader(64))
    search(clipped, quiet_lit, data=loader(64), gradient_clip_val=1e-6)
    for label, gradient in plain.seen[0]["gradients"].items():
        torch.testing.assert_close(gradient, clipped.seen[0]["gradients"][label])
        torch.testing.assert_close(plain.alphas[label], clipped.alphas[label])


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions(precision: str) -> None:
    darts = Darts()
    search(darts, precision=precision)
    dtype = torch.float64 if precision == "64-true" else torch.float32
    assert all(alpha.dtype == dtype for alpha in darts.alphas.values())


def test_half_precision_unscales_the_gradients_of_the_alphas() -> None:
    class Scaled:
        def get_scale(self) -> float:
            return 1024.0

    plain, scaled = Watching(), Watching()
    search(plain, quiet_lit, data=loader(64))

    class Pretend(pl.Callback):
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            trainer.precision_plugin.scaler = Scaled()

    search(scaled, quiet_lit, data=loader(64), callbacks=[Pretend()])
    for label, gradient in plain.seen[0]["gradients"].items():
        torch.testing.assert_close(1024 * gradient, scaled.seen[0]["gradients"][label])
        torch.testing.assert_close(plain.alphas[label], scaled.alphas[label])


class Manual(Lit):
    """Optimizes by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(nn.functional.cross_entropy(self.net(batch[0]), batch[1]))
        optimizer.step()


class ManualWithSearchStep(Manual):
    def search_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])


def test_a_module_that_optimizes_manually_gives_its_search_loss_by_a_method() -> None:
    darts = Watching()
    search(darts, ManualWithSearchStep())
    assert len(darts.seen) == 4


def test_without_that_method_the_error_names_it() -> None:
    with pytest.raises(SearchError, match=r"Manual optimizes manually.*add a method search_step"):
        search(Darts(), Manual())


def test_the_package_lightning_works_too() -> None:
    lightning = pytest.importorskip("lightning.pytorch")

    class Other(Steps, lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

    darts = Darts()
    fit(trainer(darts, lightning=lightning), Other(), loader())
    assert set(darts.sample()) == {"layer", "inputs"}


def test_choices_made_in_configure_model_are_found() -> None:
    class Late(Lit):
        def __init__(self) -> None:
            super().__init__(nn.Identity())

        def configure_model(self) -> None:
            if not isinstance(self.net, Net):
                self.net = Net()

    darts = Darts()
    search(darts, Late())
    assert set(darts.sample()) == {"layer", "inputs"}


@pytest.mark.slow
def test_a_compiled_module_searches_as_a_plain_one() -> None:
    results = []
    for compiled in (False, True):
        darts = Darts(learning_rate=0.05)
        search(darts, compiled_lit if compiled else quiet_lit)
        results.append(darts.weights())
    for label in results[0]:
        torch.testing.assert_close(results[0][label], results[1][label])


def test_early_stopping_and_schedulers_go_on() -> None:
    darts = Darts()
    runner = search(darts, max_epochs=3, callbacks=[EarlyStopping("val_loss", patience=5)])
    assert runner.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_warmup_epochs_train_the_weights_alone() -> None:
    darts = Watching(warmup_epochs=1)
    search(darts, max_epochs=2)
    assert len(darts.seen) == 4  # of 8 batches


def test_the_search_data_can_be_given() -> None:
    darts = Watching(search_data=lambda: loader(10, n=40))
    search(darts, data=loader(16, n=64))
    assert [len(seen["batch"][0]) for seen in darts.seen] == [10, 10, 10, 10]
    assert [len(seen["train_batch"][0]) for seen in darts.seen] == [16] * 4


def test_a_model_space_derives_a_sample_of_its_own() -> None:
    @model_wrapper
    class Space(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LayerChoice([nn.Linear(8, 8), nn.Identity()], label="layer")
            hidden = nn.ValueChoice([2, 4], label="hidden")
            self.body = nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(self.layer(x))

    darts = Darts()
    search(darts, Lit(Space()))
    Space().build(darts.sample())


def test_a_lightning_module_may_be_the_model_space_itself() -> None:
    @model_wrapper
    class Space(pl.LightningModule):
        def __init__(self, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            hidden = nn.ValueChoice([4, 8], label="hidden")
            self.net = nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 4))
            self.last = nn.LayerChoice([nn.Identity(), nn.Linear(4, 4)])

        def training_step(self, batch: Any) -> Tensor:
            return nn.functional.cross_entropy(self.last(self.net(batch[0])), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), self.hparams.lr)

    darts, module = Darts(), Space()
    fit(trainer(darts), module, loader())
    assert set(darts.sample()) == {"hidden", "last"}
    fit(trainer(), Space().build(darts.sample()), loader())


def test_a_second_fit_goes_on_with_the_same_alphas() -> None:
    darts, module = Darts(learning_rate=0.1), Lit()
    search(darts, module)
    before = darts.weights()
    search(darts, module)
    assert any(not torch.equal(before[label], weight) for label, weight in darts.weights().items())
    assert darts.supernet is not None


def test_a_model_can_be_validated_after_the_search() -> None:
    darts, module = Darts(), Lit()
    runner = search(darts, module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (result,) = runner.validate(module, loader(64, shuffle=False), verbose=False)
    assert math.isfinite(result["val_loss"])


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
