"""The graph of a network's forward pass, as a trial leaves it."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

import lightning_nas.nn as nas
from lightning_nas import Experiment, FunctionalEvaluator, model_wrapper
from lightning_nas.architecture import Architecture, Layer, read_architecture
from lightning_nas.demo import Net
from lightning_nas.evaluators.architecture import architecture_of
from lightning_nas.evaluators.artifacts import Recorder
from lightning_nas.evaluators.cost import count_macs
from lightning_nas.hub import DARTS_V2, DartsSpace, MobileNetV3Space, NasBench201Space
from lightning_nas.mutables import origin_of
from lightning_nas.mutables.graph import graph
from lightning_nas.strategies import Random
from lightning_nas.trial import Candidate


def images(size: int, channels: int = 3) -> Tensor:
    return torch.zeros(2, channels, size, size)


def demo(conv2: int = 1) -> nn.Module:
    return Net().build({"conv2": conv2, "dropout": 0.5, "feature": 64})


def darts() -> nn.Module:
    return DartsSpace(channels=4, layers=4).build(DARTS_V2.sample())


def mobile() -> nn.Module:
    sample: dict[str, Any] = {f"stage{s}/depth": 1 + s % 2 for s in range(5)}
    for s in range(5):
        for i in range(1 + s % 2):
            sample |= {f"stage{s}/block{i}/kernel": 3 + 2 * i, f"stage{s}/block{i}/expansion": 3}
    return MobileNetV3Space(num_classes=10, width_multiplier=0.25, depths=(1, 2)).build(sample)


def bench() -> nn.Module:
    operations = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "nor_conv_1x1"]
    edges = ["edge_0_1", "edge_0_2", "edge_1_2", "edge_0_3", "edge_1_3", "edge_2_3"]
    return NasBench201Space(channels=4, cells_per_stage=1).build(dict(zip(edges, operations)))


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, dim_feedforward=32, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def recurrent() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        y, (h, _) = self.lstm(x)
        return self.fc(h[-1]) + y.mean(1) + F.scaled_dot_product_attention(y, y, y).sum(1)

    return Watching(forward, lstm=nn.LSTM(16, 8, 2, batch_first=True), fc=nn.Linear(8, 8))


SEQUENCES = torch.zeros(2, 5, 16)
KNOWN: list[tuple[Callable[[], nn.Module], Tensor]] = [
    (demo, images(8, 1)),
    (lambda: demo(0), images(8, 1)),
    (darts, images(16)),
    (mobile, images(64)),
    (bench, images(8)),
]


def inner(architecture: Architecture) -> list[Layer]:
    return [layer for layer in architecture.layers if layer.kind not in ("input", "output")]


def named(architecture: Architecture) -> list[tuple[str, str]]:
    """The edges, by the names of the layers."""
    return [(architecture.layers[a].name, architecture.layers[b].name) for a, b in architecture.edges]


@pytest.mark.parametrize(
    ("make", "x"), [*KNOWN, (transformer, torch.zeros(2, 5, 16)), (recurrent, torch.zeros(2, 5, 16))]
)
def test_layers_sum_up_to_the_network(make: Callable[[], nn.Module], x: Tensor) -> None:
    model = make()
    found = architecture_of(model, [x])
    assert found.params == sum(p.numel() for p in model.parameters())
    assert sum(layer.params for layer in found.layers) == found.params
    assert found.macs == count_macs(model, x[:1])
    assert sum(layer.macs or 0 for layer in found.layers) == found.macs
    assert len({layer.name for layer in found.layers}) == len(found.layers)
    assert all(0 <= a < b < len(found.layers) for a, b in found.edges)
    assert found.layers[-1].shape == tuple(model.eval()(x[:1]).shape)


@pytest.mark.parametrize(("make", "x"), KNOWN)
def test_watching_finds_what_tracing_finds(make: Callable[[], nn.Module], x: Tensor) -> None:
    model = make()
    traced = graph(model)
    places = {name: place for place, name in enumerate(traced)}
    # What its parts say of a `Zero` is that it takes nothing; it is one layer in both.
    found = architecture_of(model, [x])
    names = [layer.name.rpartition(".")[2] for layer in found.layers]
    theirs = [(data["path"] or name).rpartition(".")[2] for name, data in traced.nodes(data=True)]
    assert [_plain(name) for name in names] == [_plain(name) for name in theirs]
    assert sorted(found.edges) == sorted((places[a], places[b]) for a, b in traced.edges)


def _plain(name: str) -> str:
    start, _, number = name.rpartition("_")
    return start if number.isdigit() and start else name


def test_the_cells_of_darts_keep_their_labels() -> None:
    found = architecture_of(darts(), [images(16)])
    labels = {layer.choice for layer in found.layers} - {None}
    assert labels == {label for label in DARTS_V2.sample() if "/op_" in label}
    assert {layer.block for layer in inner(found)} >= {f"cells.{i}" for i in range(4)}
    assert found.kinds["cells.3"] == "ChosenCell"
    assert found.kinds["cells.0.operations.0.0"] == "SepConv"


def test_blocks_are_what_is_called_and_not_what_only_holds_others() -> None:
    def blocks(model: nn.Module, x: Tensor) -> list[str]:
        return list(dict.fromkeys(layer.block for layer in inner(architecture_of(model, [x]))))

    assert blocks(mobile(), images(64)) == ["stem", *(f"blocks.{i}" for i in range(8)), "head"]
    assert blocks(transformer(), SEQUENCES) == ["layers.0", "layers.1"]
    assert blocks(demo(), images(8, 1))[:5] == ["conv1", "", "conv2", "dropout1", "fc1"]


def test_a_layer_names_the_choice_that_put_it_there() -> None:
    @model_wrapper
    class Chosen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nas.LayerChoice([nn.Linear(4, 4), nn.Identity()], label="kind")
            self.rest = nas.Repeat(lambda i: nn.Linear(4, 4), (1, 3), label="depth")
            self.last = nas.LayerChoice([nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.ReLU()])

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.rest(self.first(x)))

    model = Chosen().build({"kind": 0, "depth": 3, "last": 0})
    choices = {layer.name: layer.choice for layer in inner(architecture_of(model, [torch.zeros(1, 4)]))}
    assert choices == {
        "first": "kind", "rest.0": None, "rest.1": "depth", "rest.2": "depth", "last.0": "last", "last.1": "last",
    }  # fmt: skip
    assert origin_of(copy.deepcopy(model).get_submodule("first")) is None


class Watching(nn.Module):
    """Whatever the tests want of a forward pass."""

    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def watched(forward: Callable[..., Any], *inputs: Any, **parts: Any) -> Architecture:
    return architecture_of(Watching(forward, **parts), inputs or [torch.zeros(2, 4)])


def test_what_dropout_passes_on_is_told_apart_from_what_it_was_given() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.fc(x)
        return y + self.drop(y) + F.dropout(y, 0.3, self.training)

    found = watched(forward, fc=nn.Linear(4, 4), drop=nn.Dropout())
    edges = set(named(found))
    assert {("fc", "add"), ("drop", "add"), ("fc", "drop"), ("fc", "dropout"), ("dropout", "add_2")} <= edges
    assert ("drop", "dropout") not in edges


def test_what_is_changed_in_place_comes_from_where_it_was_changed() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.fc(x)
        self.relu(y)
        y += 1
        y[:, 0] = x[:, 1]
        return y

    found = watched(forward, fc=nn.Linear(4, 4), relu=nn.ReLU(inplace=True))
    edges = named(found)
    chain = [("fc", "relu"), ("relu", "add"), ("add", "setitem"), ("setitem", "output")]
    assert [edge for edge in edges if edge in chain] == chain
    assert ("getitem", "setitem") in edges


def test_loops_and_conditions_on_numbers_are_seen_as_they_ran() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.fc(x)
        return self.more(x) if float(self.fc.bias.sum()) > 0 else x

    fc = nn.Linear(4, 4)
    nn.init.ones_(fc.bias)
    found = watched(forward, fc=fc, more=nn.Linear(4, 2))
    assert [layer.name for layer in inner(found)] == ["fc", "fc_2", "fc_3", "more"]
    assert [layer.params for layer in inner(found)] == [20, 0, 0, 10]


def test_several_inputs_and_outputs_of_any_form() -> None:
    def forward(self: Any, pair: Any, *, mask: Tensor) -> dict[str, Any]:
        return {"sum": pair[0] + pair[1]["b"], "masked": [self.fc(mask)]}

    x = torch.zeros(3, 4)
    model = Watching(forward, fc=nn.Linear(4, 2))
    found = architecture_of(model, [(x, {"b": x})], {"mask": x})
    ends = [layer.name for layer in found.layers if layer.kind in ("input", "output")]
    assert ends == ["input_0.0", "input_0.1.b", "mask", "output.sum", "output.masked.0"]
    assert ("fc", "output.masked.0") in named(found)


def test_parameters_that_functions_use_count_there_and_once() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return x @ self.weight + (x * 2) @ self.weight

    found = watched(forward, weight=nn.Parameter(torch.zeros(4, 4)))
    assert [(layer.name, layer.params, layer.macs) for layer in inner(found)] == [
        ("matmul", 16, 16), ("mul", 0, 0), ("matmul_2", 0, 16), ("add", 0, 0),
    ]  # fmt: skip
    assert found.layers[1].detail == "weight"


def test_shared_and_parametrized_weights_count_once() -> None:
    tied = nn.Linear(4, 4, bias=False)
    tied.weight = (first := nn.Linear(4, 4)).weight
    normed = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    model = nn.Sequential(first, tied, normed)
    found = architecture_of(model, [torch.zeros(1, 4)])
    assert [(layer.kind, layer.params) for layer in inner(found)][:2] == [("Linear", 20), ("Linear", 0)]
    assert [layer.name for layer in inner(found)] == ["0", "1", "2"]
    assert sum(layer.params for layer in inner(found)) == sum(p.numel() for p in model.parameters())


def test_what_cannot_be_seen_through_is_one_layer() -> None:
    hidden = Watching(lambda self, x: torch.from_numpy(2 * self.fc(x).numpy()), fc=nn.Linear(4, 4))
    found = watched(lambda self, x: self.hidden(x).relu(), hidden=hidden)
    assert [(layer.name, layer.kind, layer.params) for layer in inner(found)] == [
        ("hidden", "Watching", 20),
        ("relu", "relu", 0),
    ]
    assert named(found) == [("input_0", "hidden"), ("hidden", "relu"), ("relu", "output")]


def test_a_network_that_wants_a_whole_batch_is_given_one() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        if len(x) < 2:
            raise RuntimeError("one is not enough")
        return self.fc(x)

    found = watched(forward, torch.zeros(6, 4), fc=nn.Linear(4, 8))
    assert found.macs == 32
    assert found.layers[-1].shape == (6, 8)


def test_nothing_of_the_model_changes() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        self.seen.append(x)
        self.steps += 1
        return self.norm(self.fc(x)) + torch.rand(4) + np.random.rand() + random.random()  # noqa: NPY002

    model = Watching(forward, fc=nn.Linear(4, 4), norm=nn.BatchNorm1d(4), seen=[])
    model.register_buffer("steps", torch.zeros(()))
    model.norm.eval()
    model.fc.weight.grad = torch.ones(4, 4)
    calls: list[Any] = []
    model.fc.register_forward_hook(lambda *given: calls.append(given))
    before = copy.deepcopy(model.state_dict())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = random.random(), np.random.rand(), torch.rand(3)  # noqa: NPY002
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    architecture_of(model, [torch.zeros(2, 4)])
    got = random.random(), np.random.rand(), torch.rand(3)  # noqa: NPY002
    assert got[:2] == expected[:2]
    assert torch.equal(got[2], expected[2])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (model.training, model.fc.training, model.norm.training) == (True, True, False)
    assert torch.equal(model.fc.weight.grad, torch.ones(4, 4))
    assert (calls, model.seen) == ([], [])
    assert "forward" not in vars(model.fc)


def test_what_cannot_be_counted_is_not_guessed() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0] * float(x.sum()))

    found = watched(forward, torch.zeros(2, 5, 4), lstm=nn.LSTM(4, 4, batch_first=True), fc=nn.Linear(4, 4))
    costs = {layer.name: layer.macs for layer in found.layers}
    assert (costs["lstm"], costs["fc"], found.macs) == (None, 80, None)


def test_why_a_network_cannot_be_looked_into_is_said() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        raise KeyError("no such thing")

    with pytest.raises(ValueError, match="Watching cannot be looked into: KeyError: 'no such thing'"):
        watched(forward)


def test_an_architecture_comes_back_from_its_file(tmp_path: Path) -> None:
    found = architecture_of(demo(), [images(8, 1)])
    (tmp_path / "a.json").write_text(json.dumps(found.to_json()))
    assert read_architecture(tmp_path / "a.json") == found
    with pytest.raises(ValueError, match="This is no architecture"):
        Architecture.from_json({"version": 1, "layers": [{"colour": 1}]})
    with pytest.raises(ValueError, match="of version 1"):
        Architecture.from_json({"version": 2})


def test_the_recorder_writes_what_it_saw_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = demo()
    with Recorder() as recorder:
        recorder.watch(model)
        model(images(8, 1))
        recorder.save(tmp_path)
    found = read_architecture(tmp_path / "architecture.json")
    assert (found.kinds[""], found.macs) == ("Net", count_macs(model, images(8, 1)[:1]))
    assert capsys.readouterr().err == ""


def test_the_parts_are_left_alone_once_the_module_itself_is_called() -> None:
    model = Watching(lambda self, x: self.net(x), net=nn.Linear(4, 4))
    model.training_step = None
    recorder = Recorder()
    recorder.watch(model)
    assert model.net._forward_pre_hooks
    model(torch.zeros(2, 4))
    assert not model.net._forward_pre_hooks
    recorder.close()
    assert not model._forward_pre_hooks


def test_the_data_that_a_module_holds_are_not_copied() -> None:
    class Data(Dataset[int]):
        def __deepcopy__(self, memo: Any) -> Any:
            raise AssertionError("copied")

    model = Watching(lambda self, x: self.fc(x), fc=nn.Linear(4, 4), data=Data())
    assert len(inner(architecture_of(model, [torch.zeros(2, 4)]))) == 1


def test_a_call_with_more_than_tensors_is_drawn_too(tmp_path: Path) -> None:
    model = Watching(lambda self, x, scale: self.fc(x["a"]) * scale, fc=nn.Linear(4, 4))
    with Recorder() as recorder:
        recorder.watch(model)
        model({"a": torch.zeros(100, 4)}, scale=3)
        recorder.save(tmp_path)
    assert [layer.name for layer in read_architecture(tmp_path / "architecture.json").layers] == [
        "input_0.a", "fc", "mul", "output",
    ]  # fmt: skip


def test_of_a_module_that_is_never_called_the_largest_part_is_drawn(tmp_path: Path) -> None:
    model = Watching(lambda self: None, loss=nn.Linear(1, 1), net=demo(), idle=nn.Linear(1000, 1000))
    model.training_step = None  # as a LightningModule has one
    with Recorder() as recorder:
        recorder.watch(model)
        model.net(images(8, 1))
        model.loss(torch.zeros(2, 1))
        recorder.save(tmp_path)
    found = read_architecture(tmp_path / "architecture.json")
    assert found.kinds["net"] == "Net"
    assert found.params == sum(p.numel() for p in model.parameters())
    assert {"net.fc1", "net.conv2.depthwise"} <= {layer.name for layer in found.layers}


def test_no_architecture_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def train(model_cls: Any) -> float:
        model = model_cls()
        model(torch.zeros(2, 4))
        model.lock = (each for each in ())  # what cannot be copied
        return 1.0

    @model_wrapper
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, nas.ValueChoice([1, 2], label="width"))

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x)

    candidate = Candidate(0, {}, lambda: Small().build({"width": 2}), tmp_path)
    assert FunctionalEvaluator(train).evaluate(candidate, lambda step, metrics: True) == {"default": 1.0}
    assert (tmp_path / "weights.pt").exists()
    assert not (tmp_path / "architecture.json").exists()
    said = capsys.readouterr().err
    assert "There is no architecture.json: Small cannot be looked into: TypeError: cannot pickle" in said


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["inprocess", "processes"])
def test_every_trial_of_a_search_keeps_its_architecture(tmp_path: Path, runner: str) -> None:
    def train(model_cls: Any) -> float:
        model = model_cls()
        model(torch.zeros(2, 1, 8, 8))
        return float(model.fc1.out_features)

    experiment = Experiment(
        Net(),
        FunctionalEvaluator(train),
        Random(dedup=True),
        directory=tmp_path,
        max_trials=3,
        keep_weights=1,
        runner=runner,
    )
    experiment.run()
    kept = [(tmp_path / "trials" / str(i) / "weights.pt").exists() for i in range(3)]
    assert sum(kept) == 1
    for trial in experiment.trials:
        found = read_architecture(tmp_path / "trials" / str(trial.number) / "architecture.json")
        (hidden,) = [layer for layer in found.layers if layer.name == "fc1"]
        assert hidden.detail == f"256 -> {trial.sample['feature']}"
        assert {layer.choice for layer in found.layers} == {None, "conv2"}
