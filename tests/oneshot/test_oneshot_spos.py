"""Single-path one-shot, and the evaluator that scores samples with its weights."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torchmetrics
from pytorch_lightning.callbacks import ModelCheckpoint
from small_search import Lit, Net, Steps, data, loader, search
from torch import Tensor
from torch.utils.data import DataLoader

import lightning_nas.nn as nn
from lightning_nas import Candidate, Classification, Experiment, SearchError, model_wrapper
from lightning_nas.oneshot import SPOS, SharedWeights, relax
from lightning_nas.oneshot.mixed import MixedLayer
from lightning_nas.oneshot.scoring import recalibrate
from lightning_nas.oneshot.spos import uniform_path
from lightning_nas.strategies import RegularizedEvolution
from lightning_nas.testing.evaluators import EvaluatorSuite


@pytest.fixture(autouse=True)
def _without_advice() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")
        yield


@model_wrapper
class Space(Net):
    """The small network as a model space, with a width to slice."""

    def __init__(self) -> None:
        super().__init__()
        width = nn.ValueChoice([4, 8, 16], label="width")
        self.head = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 4))


class Accuracy(Steps, pl.LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def validation_step(self, batch: Any) -> None:
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())


def trained(net: Any = None, epochs: int = 3, **options: Any) -> Any:
    """A module whose supernet was trained on single paths."""
    return search(
        SPOS(), lambda: Accuracy(Space() if net is None else net), max_epochs=epochs, **options
    ).lightning_module


def candidate(sample: dict[str, Any], folder: Path = Path()) -> Candidate:
    return Candidate(0, sample, lambda: None, folder)


def score(evaluator: SharedWeights, sample: dict[str, Any]) -> float:
    (value,) = evaluator.evaluate(candidate(sample), lambda step, metrics: True).values()
    return value


class Keeping(SPOS):
    """Keeps the path of each weight step."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.paths: list[Any] = []

    def on_train_batch_start(self, *arguments: Any) -> None:
        super().on_train_batch_start(*arguments)
        self.paths.append({m.label: m.path for m in self.supernet.relaxed})


def test_paths_are_uniform() -> None:
    net = nn.Sequential(
        nn.LayerChoice([nn.Identity() for _ in range(3)], label="layer"),
        nn.Repeat(lambda i: nn.Identity(), (1, 4), label="depth"),
    )
    net.register_module("inputs", nn.InputChoice(4, n_chosen=2, reduction="sum", label="inputs"))
    supernet = relax(net)
    paths = [uniform_path(supernet, np.random.default_rng([0, i])) for i in range(3000)]
    for label, size in (("layer", 3), ("depth", 4), ("inputs", 6)):
        counts = Counter(str(path[label]) for path in paths)
        assert len(counts) == size
        # Chi-squared with at most 5 degrees of freedom: above 40 in one case in 10^7.
        expected = len(paths) / size
        assert sum((n - expected) ** 2 / expected for n in counts.values()) < 40


def test_a_cell_takes_two_different_states_and_never_none() -> None:
    cell = nn.Cell({"a": nn.Identity(), "b": nn.Tanh(), "none": nn.Zero()}, 2, 2, 2, label="c")
    supernet = relax(nn.Sequential(cell))
    for step in range(200):
        path = uniform_path(supernet, np.random.default_rng(step))
        assert path["c/input_3_0"] != path["c/input_3_1"]
        assert "none" not in path.values()


def test_a_followed_path_is_not_a_module_of_its_own() -> None:
    module = Lit()
    supernet = relax(module)
    before = list(module.state_dict())
    supernet.follow({"layer": 0, "inputs": 0})
    assert list(module.state_dict()) == before
    supernet.follow(None)
    assert list(module.state_dict()) == before


def test_each_weight_step_trains_one_path_alone() -> None:
    spos, module = Keeping(), Lit()
    search(spos, module, data=loader(64, n=128), max_epochs=4)  # two steps an epoch: nothing is split off
    assert len(spos.paths) == 8
    linear = module.net.layer._modules["0"]
    assert linear.weight.grad is None or spos.paths[-1]["layer"] is linear
    assert len({id(path["layer"]) for path in spos.paths}) > 1
    assert spos.alphas == {}


def test_the_path_follows_from_the_seed_and_the_step() -> None:
    one, two, other = Keeping(), Keeping(), Keeping(seed=1)
    for spos in (one, two, other):
        search(spos, Lit, data=loader(8), max_epochs=1)
    paths = [[spos.path(step) for step in range(16)] for spos in (one, two, other)]
    assert paths[0] == paths[1] != paths[2]
    layer = one.supernet.mixed("layer")
    assert [layer.path_in(path) for path in paths[0]] == [path["layer"] for path in one.paths]


def test_a_resumed_training_equals_one_that_was_never_stopped(tmp_path: Path) -> None:
    def searched(ckpt_path: Path | None = None) -> dict[str, Tensor]:
        kept = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        options = {"callbacks": [kept], "ckpt_path": ckpt_path, "max_epochs": 2}
        return dict(search(SPOS(), Lit, data=loader(32), **options).lightning_module.state_dict())

    whole = searched()
    for step in (1, 4, 6):
        again = searched(tmp_path / f"step={step}.ckpt")
        assert [name for name in whole if not torch.equal(whole[name], again[name])] == []


def test_validation_scores_the_same_path_each_time() -> None:
    spos = SPOS()
    search(spos, max_epochs=1)
    paths = []
    for step in (0, 5):
        spos._step = step
        spos.set_weights_for_validation()
        paths.append(spos.supernet.mixed("layer").path)
    assert paths[0] is paths[1]


def test_nothing_is_derived() -> None:
    for ask in (lambda: SPOS().sample(), lambda: SPOS().search(Net(), None, lambda step, metrics: True)):
        with pytest.raises(SearchError, match="give the trained module to SharedWeights"):
            ask()


def test_as_a_strategy_it_fails_before_any_training(tmp_path: Path) -> None:
    evaluator = Classification(train_dataloaders=loader(), max_epochs=1, accelerator="cpu")
    options: Any = {"directory": tmp_path, "runner": "inprocess", "progress": False}
    (trial,) = Experiment(Space(), evaluator, SPOS(), **options).run().trials
    assert "SharedWeights" in str(trial.reason)


# -- SharedWeights


def test_a_sample_scores_as_its_own_network_with_the_shared_weights() -> None:
    class Plain(Net):
        def __init__(self) -> None:
            super().__init__(dropout=0, norm=False)

    module = trained(Plain())
    shared = SharedWeights(module, loader(64, shuffle=False), accelerator="cpu")
    for chosen in range(3):
        built = Plain()
        built.load_state_dict(
            {k.replace("net.", "", 1): v for k, v in module.state_dict().items()}, strict=False
        )
        x, y = data().tensors
        hidden = built.layer.candidate(str(chosen))(x).relu()
        accuracy = (built.head(hidden).argmax(1) == y).float().mean()
        assert score(shared, {"layer": chosen, "inputs": 0}) == pytest.approx(float(accuracy))


def test_the_statistics_are_those_of_the_path() -> None:
    module = trained()
    sample = {"layer": 2, "inputs": 0, "width": 8}  # zeros: the supernet's statistics are far off
    kept = SharedWeights(module, loader(64, shuffle=False), accelerator="cpu")
    anew = SharedWeights(module, loader(64, shuffle=False), train_dataloaders=loader, accelerator="cpu")
    before = {name: buffer.clone() for name, buffer in anew._module.named_buffers()}
    for each in (kept, anew):
        score(each, sample)
    assert all(torch.equal(buffer, before[name]) for name, buffer in anew._module.named_buffers())

    net = nn.Sequential(nn.BatchNorm1d(8))
    lit = Lit(net)
    x = data().tensors[0]
    batches = [(x[:64], torch.zeros(64).long()), (x[64:], torch.zeros(64).long())]
    lit.net = nn.Sequential(net[0], nn.Linear(8, 4))
    recalibrate(lit, batches)
    torch.testing.assert_close(net[0].running_mean, x.mean(0))
    assert not net[0].training
    assert net[0].momentum == 0.1


def test_recalibration_does_not_count_in_a_metric_object() -> None:
    class Object(Accuracy):
        def __init__(self, net: nn.Module) -> None:
            super().__init__(net)
            self.accuracy = torchmetrics.classification.MulticlassAccuracy(4, average="micro")

        def validation_step(self, batch: Any) -> None:
            logits = self.net(batch[0])
            self.accuracy(logits, batch[1])
            self.log("by_object", self.accuracy)
            self.log("by_hand", (logits.argmax(1) == batch[1]).float().mean())

    module = search(SPOS(), lambda: Object(Space()), max_epochs=3).lightning_module
    part = loader(64, n=64, shuffle=False)
    others = loader(16, n=128, shuffle=False)
    shared = SharedWeights(module, part, train_dataloaders=others, accelerator="cpu")
    for layer in range(3):
        sample = {"layer": layer, "inputs": 0, "width": 16}
        metrics = shared.evaluate(candidate(sample), lambda step, metrics: True)
        assert metrics["by_object"] == pytest.approx(metrics["by_hand"])


def test_a_checkpoint_gives_the_same_scores(tmp_path: Path) -> None:
    kept = ModelCheckpoint(tmp_path, filename="last")
    module = trained(callbacks=[kept])
    val = loader(64, shuffle=False)
    live = SharedWeights(module, val, accelerator="cpu")
    saved = SharedWeights(Accuracy(Space()), val, checkpoint=tmp_path / "last.ckpt", accelerator="cpu")
    for width in (4, 16):
        sample = {"layer": 0, "inputs": 0, "width": width}
        assert score(live, sample) == score(saved, sample)


def test_further_training_does_not_change_the_scores() -> None:
    module = trained()
    shared = SharedWeights(module, loader(64, shuffle=False), accelerator="cpu")
    sample = {"layer": 0, "inputs": 0, "width": 8}
    before = score(shared, sample)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert score(shared, sample) == before


def test_a_sample_that_lacks_a_label_is_an_error_that_names_it() -> None:
    shared = SharedWeights(trained(), loader(64, shuffle=False), accelerator="cpu")
    with pytest.raises(RuntimeError, match="no weights for 'layer'"):
        score(shared, {"inputs": 0, "width": 8})


def test_a_module_without_shared_weights_is_refused() -> None:
    with pytest.raises(SearchError, match=r"Accuracy has no shared weights: fit it with .*SPOS"):
        SharedWeights(Accuracy(Space()), loader())
    with pytest.raises(TypeError, match="must be a LightningModule, but got a Space"):
        SharedWeights(Space(), loader())
    with pytest.raises(ValueError, match="`recalibration_batches` must be at least 1"):
        SharedWeights(Accuracy(Space()), loader(), recalibration_batches=0)


def val_loader() -> DataLoader[Any]:
    return loader(64, shuffle=False)


class TestSharedWeights(EvaluatorSuite):
    sample = {"layer": 0, "inputs": 1, "width": 4}  # noqa: RUF012
    trains = False
    reports = False

    def make(self) -> SharedWeights:
        return SharedWeights(trained(), val_loader, train_dataloaders=loader, accelerator="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(("runner", "trials"), [("inprocess", 24), ("processes", 6)])
def test_shared_weights_feed_a_strategy(tmp_path: Path, runner: Any, trials: int) -> None:
    module = trained(epochs=30)
    shared = SharedWeights(module, val_loader, train_dataloaders=loader, accelerator="cpu")
    done = Experiment(
        Space(),
        shared,
        RegularizedEvolution(4, 2),
        directory=tmp_path,
        max_trials=trials,
        runner=runner,
        progress=False,
    ).run()
    assert {trial.status.value for trial in done.trials} == {"completed"}
    # The classes follow from the input linearly: a path is far above chance, but for zeros.
    assert done.best is not None
    assert done.best.metrics["val_acc"] > 0.6 > score(shared, {"layer": 2, "inputs": 0, "width": 8})
    assert isinstance(module.net.layer, MixedLayer)
