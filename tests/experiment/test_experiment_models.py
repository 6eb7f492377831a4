"""Searches with a model: built, trained, deduplicated by graph, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import lightning_nas.nn as nn
from lightning_nas import model_wrapper
from lightning_nas.evaluators import FunctionalEvaluator
from lightning_nas.experiment import Experiment
from lightning_nas.loading import load
from lightning_nas.mutables import blueprint
from lightning_nas.space import Categorical
from lightning_nas.strategies import Dedup, GridSearch, Random
from lightning_nas.trial import Status


@model_wrapper
class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = nn.ValueChoice([4, 8], label="width")
        self.first = nn.LayerChoice([nn.Linear(3, 3), nn.Identity(), nn.Identity()], label="first")
        self.last = nn.Linear(3, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x))


def width(model_cls: Any, sample: dict[str, Any]) -> float:
    """Trains nothing, but runs the model, whose width is its score."""
    model = model_cls().eval()
    with torch.no_grad():
        model.last.bias.fill_(sample.get("bias", 0.5))
        return float(model(torch.ones(4, 3)).shape[1])


def make(directory: Path, strategy: Any = None, **settings: Any) -> Experiment:
    settings = {"runner": "inprocess", "progress": False, "export": False, **settings}
    return Experiment(
        Net(), FunctionalEvaluator(width), strategy or GridSearch(), directory=directory, **settings
    )


def test_every_model_of_a_small_space_is_built_and_scored(tmp_path: Path) -> None:
    exp = make(tmp_path).run()
    assert [trial.reason for trial in exp.trials] == [None] * 6
    assert {trial.metrics["default"] for trial in exp.trials} == {4.0, 8.0}
    assert exp.best is not None
    assert exp.best.artifacts == {
        "weights": f"trials/{exp.best.number}/weights.pt",
        "inputs": f"trials/{exp.best.number}/inputs.pt",
        "code": f"trials/{exp.best.number}/net.py",
    }


def test_each_trial_leaves_the_code_of_its_network(tmp_path: Path) -> None:
    space = {"bias": Categorical([0.25, 0.75])}
    exp = make(tmp_path, Random(), space=space, max_trials=4).run()
    for trial in exp.trials:
        folder = tmp_path / "trials" / str(trial.number)
        made = load(f"{folder / 'net.py'}:Net")()
        made.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
        assert made(torch.ones(2, 3)).shape == (2, trial.sample["width"])
        assert made.last.bias.tolist() == [trial.sample["bias"]] * trial.sample["width"]


def test_code_that_cannot_be_written_is_told_in_the_log_and_costs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace: dict[str, Any] = {"nn": nn, "__name__": "typed"}
    exec("class Typed(nn.Linear): ...", namespace)  # as at a prompt, whose lines are in no file
    exp = Experiment(
        blueprint(model_wrapper(namespace["Typed"])(3, 2)),
        FunctionalEvaluator(lambda model_cls: float(model_cls()(torch.ones(1, 3)).shape[1])),
        GridSearch(),
        directory=tmp_path,
        runner="inprocess",
        progress=False,
        export=False,
    ).run()
    assert [trial.metrics for trial in exp.trials] == [{"default": 2.0}]
    assert not (tmp_path / "trials" / "0" / "net.py").exists()
    assert "There is no net.py: The source of Typed is not at hand" in capsys.readouterr().err


def test_a_blueprint_will_do_for_a_model(tmp_path: Path) -> None:
    exp = Experiment(blueprint(Net()), FunctionalEvaluator(width), GridSearch(), directory=tmp_path)
    assert exp.space == Net().search_space


def test_a_joint_space_reaches_model_and_evaluator_apart(tmp_path: Path) -> None:
    def check(model_cls: Any, sample: dict[str, Any]) -> float:
        return model_cls().last.out_features + sample["bias"]

    space = {"bias": Categorical([0.25, 0.75])}
    exp = Experiment(
        Net(),
        FunctionalEvaluator(check),
        Random(),
        space=space,
        directory=tmp_path,
        runner="inprocess",
        progress=False,
        export=False,
        max_trials=4,
    ).run()
    assert set(exp.space) == {"first", "width", "bias"}
    scores = [trial.sample["width"] + trial.sample["bias"] for trial in exp.trials]
    assert [trial.score for trial in exp.trials] == scores


def test_dedup_by_graph_runs_each_architecture_once(tmp_path: Path) -> None:
    """Both identities are one architecture, so there are two layers times two widths."""
    exp = make(tmp_path, Dedup(Random(dedup=False), key="graph")).run()
    assert len(exp.trials) == 4
    resumed = Experiment.resume(tmp_path)
    assert resumed.run().trials == exp.trials


def test_an_instance_has_the_weights_of_its_trial(tmp_path: Path) -> None:
    space = {"bias": Categorical([0.25, 0.75])}
    exp = make(tmp_path, Random(), space=space, max_trials=4).run()
    assert all(trial.status is Status.COMPLETED for trial in exp.trials)
    (model,) = Experiment.resume(tmp_path).export_top_models(formatter="instance")
    assert exp.best is not None
    assert model.last.bias.tolist() == [exp.best.sample["bias"]] * 8


@pytest.mark.slow
def test_the_best_model_leaves_as_code_and_onnx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = {"bias": Categorical([0.25, 0.75])}
    settings = {"space": space, "max_trials": 3, "export": True, "progress": None}
    exp = make(tmp_path / "exp", Random(), runner="processes", **settings).run()
    best = tmp_path / "exp" / "best"
    assert (best / "export.log").read_text() == "code: written\nonnx: written\n"
    assert {"net.py", "net.onnx", "weights.pt", "metrics.json", "manifest.json"} <= {
        p.name for p in best.iterdir()
    }
    assert exp.best is not None
    assert json.loads((best / "sample.json").read_text()) == exp.best.sample
    capsys.readouterr()
    make(tmp_path / "exp", Random(), **settings).run()
    assert "Exporting" not in capsys.readouterr().out
    paths = exp.export_top_models(top_k=2, formatter="code", directory=tmp_path / "out")
    assert all(path.parent.parent == tmp_path / "out" and path.name == "net.py" for path in paths)


def test_an_export_that_fails_costs_nothing_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("aten::fold has no equivalent")

    monkeypatch.setattr("lightning_nas.export.export_model", refuse)
    exp = make(tmp_path, max_trials=1, export=True, progress=None).run()
    assert exp.best is not None
    assert "not exported as onnx: RuntimeError: aten::fold has no equivalent" in capsys.readouterr().out
    assert "code: RuntimeError" in (tmp_path / "best" / "export.log").read_text()
