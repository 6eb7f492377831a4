"""Lightning's own features keep working in a search: logging, accumulation, clipping, precision, callbacks."""

from __future__ import annotations

import csv
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loggers import CSVLogger
from small_search import Lit, Net, Steps, Watching, fit, loader, quiet_lit, search, trainer
from torch import Tensor

import lightning_nas.nn as nn
from lightning_nas import Darts, SearchError, model_wrapper


def compiled_lit() -> Lit:
    module = quiet_lit()
    module.net.compile(backend="aot_eager")
    return module


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
