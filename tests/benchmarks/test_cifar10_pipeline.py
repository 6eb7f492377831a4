"""Search, derive, retrain, test, export: the scripts as a user runs them, on the digits of the package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lightning_nas import errors, hub
from lightning_nas.hub import DARTS_V1, DARTS_V2, DartsSpace, Genotype
from lightning_nas.search_history import read_search

# Raised by Lightning itself, and by looking at a CPU: nothing that a test is about.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pytorch_lightning"),
    pytest.mark.filterwarnings("ignore:.*Checkpoint directory.*"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*"),
]

QUIET = [
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
]


@pytest.mark.parametrize("script", ["search", "retrain"])
def test_the_papers_settings_in_yaml_are_the_defaults(cifar: SimpleNamespace, script: str) -> None:
    parser = getattr(cifar, script).parser()
    given = parser.parse_args([f"--config={cifar.configs / f'{script}.yaml'}"])
    del given["config"]
    defaults = parser.parse_args([])
    del defaults["config"]
    assert parser.dump(given) == parser.dump(defaults)


@pytest.mark.parametrize(
    ("script", "config"),
    [
        ("search", "smoke"),
        ("search", "cpu-search"),
        ("retrain", "smoke-retrain"),
        ("retrain", "cpu-retrain"),
        ("retrain", "seed-retrain"),
    ],
)
def test_every_settings_file_is_understood(cifar: SimpleNamespace, script: str, config: str) -> None:
    getattr(cifar, script).parser().parse_args([f"--config={cifar.configs / f'{config}.yaml'}"])


@pytest.mark.parametrize("form", ["name", "text", "file of a genotype", "file of a sample"])
def test_a_genotype_is_given_in_any_form(cifar: SimpleNamespace, tmp_path: Path, form: str) -> None:
    file = tmp_path / "found.json"
    if "file" in form:
        file.write_text(json.dumps(DARTS_V1.sample() if "sample" in form else cifar.search.as_json(DARTS_V1)))
    text = {"name": "DARTS_V1", "text": str(DARTS_V1)}.get(form, str(file))
    assert cifar.retrain.genotype_of(text) == DARTS_V1


def test_an_unknown_genotype_is_refused(cifar: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="one of .*'DARTS_V2'.* but got 'DARTS_V3'"):
        cifar.retrain.genotype_of("DARTS_V3")
    with pytest.raises(errors.SampleError, match="must come from a state"):
        cifar.retrain.genotype_of(
            "Genotype(normal=[('none', 2), ('none', 0)], normal_concat=[2], reduce=[], reduce_concat=[0])"
        )


def test_random_genotypes_are_ones_that_a_search_may_derive(cifar: SimpleNamespace) -> None:
    drawn = [cifar.retrain.random_genotype(4, np.random.default_rng([0, i])) for i in range(50)]
    assert len(set(drawn)) == 50
    for genotype in drawn:
        for edges in (genotype.normal, genotype.reduce):
            for first, second in zip(edges[::2], edges[1::2]):
                assert first[1] != second[1]
        assert set(genotype.operations) <= set(hub.DARTS_OPERATIONS)


@pytest.mark.parametrize("name", ["DARTS_V2", "NASNET_A", "AMOEBANET_A"])
def test_the_space_of_a_genotype_has_its_published_size(cifar: SimpleNamespace, name: str) -> None:
    genotype = getattr(hub, name)
    with torch.device("meta"):
        net = DartsSpace(channels=36, layers=20, **cifar.retrain.shape_of(genotype)).build(genotype.sample())
    sizes = {"DARTS_V2": 3_349_342, "NASNET_A": 3_830_950, "AMOEBANET_A": 3_145_078}
    assert sum(p.numel() for p in net.parameters()) == sizes[name]


def test_derived_edges_are_those_of_the_genotype(cifar: SimpleNamespace) -> None:
    edges = cifar.pictures.derived_edges(DARTS_V2.sample(), "normal")
    assert edges == {
        (f"{i // 2 + 2}_{state}", operation) for i, (operation, state) in enumerate(DARTS_V2.normal)
    }


def search(cifar: SimpleNamespace, run: Path, *more: str) -> Genotype:
    config = f"--config={cifar.configs / 'smoke.yaml'}"
    return cifar.search.main([config, f"--run={run}", *QUIET, *more])


class Interrupted(Exception):
    pass


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch, cifar: SimpleNamespace) -> Iterator[Any]:
    """Makes searches break off after so many training steps."""
    original = cifar.lit.Classifier.on_train_batch_start
    left = {"steps": -1}

    def start(self: Any, batch: Any, batch_idx: int) -> Any:
        if left["steps"] == 0:
            raise Interrupted
        left["steps"] -= 1
        return original(self, batch, batch_idx)

    monkeypatch.setattr(cifar.lit.Classifier, "on_train_batch_start", start)
    return left


@pytest.mark.slow
@pytest.mark.parametrize("after", [6, 4], ids=["mid-epoch", "at the end of an epoch"])
def test_an_interrupted_search_equals_one_that_was_not(
    cifar: SimpleNamespace, tmp_path: Path, interrupt: dict[str, int], after: int
) -> None:
    options = ["--checkpoint_steps", "1"] if after == 6 else []
    whole = search(cifar, tmp_path / "whole", *options)
    interrupt["steps"] = after
    with pytest.raises(Interrupted):
        search(cifar, tmp_path / "broken", *options)
    interrupt["steps"] = -1
    assert search(cifar, tmp_path / "broken", *options) == whole
    for name in ("search.jsonl", "sample.json"):
        assert (tmp_path / "broken" / name).read_text() == (tmp_path / "whole" / name).read_text()
    states = [
        torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
        for run in ("whole", "broken")
    ]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    metrics = [
        [
            {name: value for name, value in row.items() if name != "seconds"}
            for row in json.loads((tmp_path / run / "curves.json").read_text())
        ]
        for run in ("whole", "broken")
    ]
    assert metrics[0][0] == metrics[1][0]
    rates = [[row["lr"] for row in rows] for rows in metrics]
    assert rates[0] == rates[1] == pytest.approx([0.025, 0.013])


@pytest.mark.slow
def test_the_pipeline_runs_from_search_to_export(cifar: SimpleNamespace, tmp_path: Path) -> None:
    run, retrained = tmp_path / "search", tmp_path / "retrained"
    genotype = search(cifar, run)
    pictures = {"alphas-normal.png", "alphas-reduce.png", "curves.png"}
    data = {"search.jsonl", "curves.json", "genotype.json", "sample.json", "config.yaml"}
    assert {path.name for path in run.iterdir()} == {
        *pictures, *data, "cell-normal.svg", "cell-reduce.svg", "checkpoints",
    }  # fmt: skip
    assert Genotype.from_sample(json.loads((run / "sample.json").read_text())) == genotype
    epochs = read_search(run / "search.jsonl").snapshots
    assert [each.epoch for each in epochs] == [0, 1]
    command = [f"--config={cifar.configs / 'smoke-retrain.yaml'}", f"--genotype={run / 'genotype.json'}"]
    command += [f"--run={retrained}", "--random=2", *QUIET]
    result = cifar.retrain.main(command)
    scores = [row["test_accuracy"] for row in result["random"]]
    assert result["difference"] == pytest.approx(result["derived"]["test_accuracy"] - sum(scores) / 2)
    assert cifar.retrain.main(command) == result  # everything was there already
    for name in ("compare.json", "compare.md", "compare.png", "curves.png", "random-1/best/weights.pt"):
        assert (retrained / name).stat().st_size > 0
    manifest = cifar.export.main([str(retrained)])
    assert set(manifest["code"]["differences"]) > {"eval, batch of 2"}
    assert max(manifest["onnx"]["differences"].values()) < 1e-4
    best = {path.name for path in (retrained / "best").iterdir()}
    assert best == {"weights.pt", "inputs.pt", "sample.json", "space.json", "metrics.json", "net.py",
                    "net.onnx", "manifest.json"}  # fmt: skip
    with pytest.raises(ValueError, match="of other settings"):
        cifar.retrain.main([*command, "--trainer.max_epochs=3"])


@pytest.mark.slow
def test_drop_path_grows_with_the_epochs_and_the_network_learns(
    cifar: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probabilities = []
    monkeypatch.setattr(cifar.lit, "set_drop_path", lambda net, p: probabilities.append(p))
    config = f"--config={cifar.configs / 'smoke-retrain.yaml'}"
    options = "--genotype=DARTS_V2 --data.train_examples=800 --data.batch_size=16 --data.test_examples=300 "
    options += "--trainer.max_epochs=4 --model.channels=8 --model.drop_path=0.2 --data.cutout=0"
    result = cifar.retrain.main([config, f"--run={tmp_path}", *options.split(), *QUIET])
    assert probabilities == pytest.approx([0, 0.05, 0.1, 0.15])
    # Guessing is right in 10 % of the 300 images, with a standard deviation of 1.7 %.
    assert result["test_accuracy"] > 0.25
