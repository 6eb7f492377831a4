from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from exported_spaces import Cells, Loops, Straight

import lightning_nas.nn as nn
from lightning_nas import errors, hub, model_wrapper
from lightning_nas.export import export_model, source_of
from lightning_nas.export.proof import prove_code
from lightning_nas.mutables import blueprint

X = (torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


def _made(source: str, name: str) -> torch.nn.Module:
    """The model of a source, made in this process: quicker than the proof, which has its own tests."""
    namespace: dict = {"__name__": "exported"}
    exec(compile(source, "<exported>", "exec"), namespace)
    return namespace[name]()


def _same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    other.load_state_dict(one.state_dict())
    outputs = []
    for model in (one, other):
        found = []
        for training in (False, True):
            torch.manual_seed(0)
            found.append(model.train(training)(*X))
        outputs.append(found)
    return all(torch.equal(a, b) for a, b in zip(*outputs))


@pytest.mark.parametrize("space", [Straight, Loops, Cells])
@pytest.mark.parametrize("seed", range(6))
def test_the_code_of_any_sample_is_the_model_under_the_names_of_its_parts(space: type, seed: int) -> None:
    net = space()
    sample = net.sample(seed)
    source = source_of(blueprint(net), sample)
    assert "lightning_nas" not in source.split('"""', 2)[2]
    assert not re.search(r"LayerChoice|ValueChoice|InputChoice|Repeat|[^n]Cell\(", source)
    assert _same(net.build(sample), _made(source, space.__name__))


def test_what_is_chosen_is_folded_into_the_users_own_source() -> None:
    sample = {"op": 1, "kernel": 5, "drop": 0.5, "pick": [0, 2], "depth": 2, "lazy": 0}
    source = source_of(blueprint(Straight()), sample)
    for line in (
        "self.stem = conv(3, width, 3)  # a comment that stays",
        "self.op = Scale()",
        "kernel = 5",
        "self.drop = nn.Dropout(0.5)",
        "self.pick = ChosenInputs([0, 2])",
        "self.body = nn.Sequential(*[conv(width, width, 1) for i in range(2)])",
        "self.lazy = Scale(0.5)",
    ):
        assert line in source
    assert "ARCHITECTURE" not in source
    assert "choose_conv" not in source


def test_what_comes_out_differently_is_looked_up_by_label() -> None:
    sample = {"depth": 2, "op0": "3", "op1": "dil", "act0": 0, "act1": 1, "k0": 1, "k1": 3}
    source = source_of(blueprint(Loops()), sample)
    assert 'ARCHITECTURE[f"k{i}"]' in source
    assert '"op1": "dil"' in source
    assert "range(2)" in source


def test_arguments_of_the_space_become_the_defaults() -> None:
    net = Straight(6, act="gelu")
    sample = net.sample(0)
    source = source_of(blueprint(net), sample)
    assert "def __init__(self, width: int = 6, *, act: str = " in source
    assert _same(net.build(sample), _made(source, "Straight"))


@pytest.mark.parametrize("name", ["DARTS_V2", "NASNET_A"])
def test_published_networks_leave_as_code(name: str) -> None:
    genotype = getattr(hub, name)
    net = hub.DartsSpace(4, 5, nodes=genotype.nodes, operations=genotype.operations, concat=genotype.concat)
    source = source_of(blueprint(net), genotype.sample())
    assert _same(net.build(genotype.sample()), _made(source, "DartsSpace"))


@pytest.mark.slow
def test_an_export_comes_with_weights_and_the_figures_of_its_proof(tmp_path) -> None:
    net = Straight()
    sample = net.sample(np.random.default_rng(1))
    model = net.build(sample)
    path = export_model(
        net, sample, "code", directory=tmp_path, weights=model.state_dict(), inputs=X, metrics={"a": 1}
    )
    assert path == tmp_path / "net.py"
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["code"]["parameters"] == sum(p.numel() for p in model.parameters())
    checks = {f"{m}, batch of {b}" for m in ("eval", "train") for b in (2, 3)}
    assert set(manifest["code"]["differences"]) == checks | {"buffers after training"}
    assert max(manifest["code"]["differences"].values()) <= 1e-6
    assert manifest["metrics"] == {"a": 1}
    assert json.loads((tmp_path / "sample.json").read_text()) == sample
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "manifest.json",
        "net.py",
        "sample.json",
        "weights.pt",
    ]


@pytest.fixture(scope="module")
def darts(tmp_path_factory):
    """A small DARTS_V2, and its source."""
    net = hub.DartsSpace(4, 5)
    sample = hub.DARTS_V2.sample()
    return net.build(sample), source_of(blueprint(net), sample), tmp_path_factory.mktemp("darts")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("dilation=2", "dilation=1"),
        ('("dil_conv_3x3", 2)', '("dil_conv_3x3", 3)'),
        ('("skip_connect", 0)', '("skip_connect", 1)'),
        ("count_include_pad=False", "count_include_pad=True"),
    ],
    ids=["dilation", "predecessor of a convolution", "predecessor of a skip", "padding of a pool"],
)
def test_one_wrong_detail_is_refused(darts, right: str, wrong: str) -> None:
    model, source, folder = darts
    if right == "count_include_pad=False":
        # DARTS_V2 has no average pool: the right detail must not matter, so it is put to use first.
        source = source.replace("max_pool_3x3", "avg_pool_3x3")
        sample = {
            k: str(v).replace("max_pool", "avg_pool") if "op_" in k else v
            for k, v in hub.DARTS_V2.sample().items()
        }
        model = hub.DartsSpace(4, 5).build(sample)
    assert right in source
    changed = source.replace(right, wrong)
    if right == "dilation=2":
        changed = changed.replace("padding=kernel - 1", "padding=kernel // 2")
    path = folder / "net.py"
    path.write_text(changed)
    with pytest.raises(errors.ExportError, match="does not compute what the model computes"):
        prove_code(path, "DartsSpace", model, (torch.randn(3, 3, 32, 32),))


@pytest.mark.slow
def test_code_that_leans_on_this_package_is_refused(tmp_path) -> None:
    path = tmp_path / "net.py"
    path.write_text("import lightning_nas\nfrom torch import nn\nclass Net(nn.Identity): ...\n")
    with pytest.raises(errors.ExportError, match="lightning_nas"):
        prove_code(path, "Net", torch.nn.Identity(), X)


@pytest.mark.slow
def test_edited_graphs_leave_as_code_that_follows_the_training_flag(tmp_path) -> None:
    from lightning_nas.mutables import SkipConnections

    @model_wrapper(mutators=[SkipConnections("skip", lambda m: isinstance(m, nn.Conv2d))])
    class Edited(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(3, 3, 3, padding=1), nn.LayerChoice([nn.ReLU(), nn.GELU()], label="act")
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.dropout(self.body(x), 0.3, training=self.training)

    path = export_model(Edited(), {"act": 1, "skip/body.0": True}, "code", directory=tmp_path, inputs=X)
    assert "training = self.training" in path.read_text()


# -- what cannot be exported -----------------------------------------------------------------------


def test_a_loop_of_choices_without_labels_is_refused_with_its_place() -> None:
    @model_wrapper
    class Unlabelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ops = nn.ModuleList([nn.LayerChoice([nn.ReLU(), nn.GELU()]) for _ in range(2)])

    with pytest.raises(errors.ExportError, match=r"test_export_code.py:\d+ .*give it a label"):
        source_of(blueprint(Unlabelled()), {"ops.0": 0, "ops.1": 1})


def test_other_packages_are_refused_by_name() -> None:
    import torchvision

    @model_wrapper
    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = torchvision.ops.StochasticDepth(0.1, "row")
            self.op = nn.LayerChoice([nn.ReLU(), nn.GELU()], label="op")

    with pytest.raises(errors.ExportError, match="torchvision"):
        source_of(blueprint(Foreign()), {"op": 0})


def test_arguments_that_are_no_literals_are_refused_by_name() -> None:
    @model_wrapper
    class Given(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body = body
            self.op = nn.LayerChoice([nn.ReLU(), nn.GELU()], label="op")

    with pytest.raises(errors.ExportError, match="'body' of Given"):
        source_of(blueprint(Given(nn.Linear(1, 1))), {"op": 0})


def test_an_export_without_inputs_asks_for_them(tmp_path) -> None:
    with pytest.raises(errors.ExportError, match=r"inputs=\(x,\)"):
        export_model(Straight(), Straight().sample(0), "code", directory=tmp_path)
    assert not list(tmp_path.iterdir())


def test_wrong_weights_and_formats_are_refused(tmp_path) -> None:
    sample = Straight().sample(0)
    with pytest.raises(errors.ExportError, match="not those of this model"):
        export_model(Straight(), sample, "instance", weights={"x": torch.zeros(1)})
    with pytest.raises(ValueError, match="'pickle'"):
        export_model(Straight(), sample, "pickle")
    with pytest.raises(ValueError, match="directory"):
        export_model(Straight(), sample, "code", inputs=X)


def test_dicts_and_instances_need_no_files() -> None:
    net = Straight()
    sample = net.sample(3)
    assert export_model(net, sample) == sample
    model = net.build(sample)
    copy = export_model(net, sample, "instance", weights=model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), copy.parameters()))
