"""The lab: its files are read as NNI's are, its script trains every network, alone and as trials."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightning_nas.cli import main as lightning_nas
from lightning_nas.hpo import merge_parameter

LAB = Path(__file__).resolve().parents[2] / "benchmarks" / "cifar10" / "hpo"
TINY = ["--epochs=1", "--train_examples=40", "--test_examples=20", "--batch_size=10"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Any]:
    """`main.py` as a module."""
    path, modules = list(sys.path), set(sys.modules)
    spec = importlib.util.spec_from_file_location("lab_main", LAB / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path
    if "data" not in modules:
        del sys.modules["data"]


@pytest.mark.parametrize(("file", "labels"), [("config.yml", 7), ("cpu.yml", 4)])
def test_the_experiment_files_are_right(file: str, labels: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning_nas(["validate", str(LAB / file)]) == 0
    assert f"right; {labels} labels, 20 trials" in capsys.readouterr().out


def test_every_value_that_the_space_may_give_is_an_option(lab: Any) -> None:
    space = json.loads((LAB / "search_space.json").read_text())
    for end in (0, -1):
        sample = {name: each["_value"][end] for name, each in space.items()}
        args = merge_parameter(lab.parser().parse_args([]), sample)
        assert {name: getattr(args, name) for name in sample} == sample


@pytest.mark.slow
def test_every_network_keeps_the_size_of_an_image_in_its_stem(lab: Any) -> None:
    stems = {
        "resnet": "maxpool",
        "resnext": "maxpool",
        "densenet": "features.pool0",
        "squeezenet": "features.2",
    }
    stems |= {"shufflenet": "maxpool", "mobilenet": "features.0", "mnasnet": "layers.2", "vgg": "features.0"}
    for name in lab.MODELS:
        model = lab.network(name).eval()
        sizes: list[torch.Size] = []
        stem = next(place for family, place in stems.items() if name.startswith(family))
        model.get_submodule(stem).register_forward_hook(
            lambda module, inputs, output, sizes=sizes: sizes.append(output.shape)
        )
        with torch.no_grad():
            assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10), name
        assert sizes[0][2:] == (32, 32), name


@pytest.mark.filterwarnings("ignore:Running NNI code without runtime:RuntimeWarning")
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam"])
def test_a_seed_decides_the_accuracy(lab: Any, optimizer: str) -> None:
    options = [*TINY, "--model=shufflenet_v2_x0_5", "--cutout=8", "--grad_clip=1", "--held_out=0"]
    args = lab.parser().parse_args([*options, f"--optimizer={optimizer}", "--initial_lr=0.01"])
    first = lab.main(args)
    assert first == lab.main(args)
    assert first * 20 == pytest.approx(round(first * 20)), "it is judged by the 20 test images"


@pytest.mark.slow
def test_the_lab_runs_as_trials_and_makes_its_table(tmp_path: Path) -> None:
    config = yaml.safe_load((LAB / "config.yml").read_text())
    space = json.loads((LAB / "search_space.json").read_text())
    space |= {"model": {"_type": "choice", "_value": ["squeezenet1_1"]}}
    space |= {
        "epochs": {"_type": "choice", "_value": [1]},
        "batch_size": {"_type": "choice", "_value": [8, 10]},
    }
    del config["searchSpaceFile"]
    config |= {"searchSpace": space, "maxTrialNumber": 2, "trialConcurrency": 1}
    config |= {
        "trialCommand": f"python main.py {' '.join(TINY)} --held_out 0.5",
        "trialCodeDirectory": str(LAB),
    }
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    create = [
        "-m",
        "lightning_nas.cli",
        "create",
        "--foreground",
        "--config",
        "config.yml",
        "--directory",
        "search",
    ]
    table = [str(LAB / "table.py"), "search", "--seeds", "1", "--output", "table.json", "--", *TINY]
    printed = []
    for command in (create, [*table, "--model=squeezenet1_1"]):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        printed.append(done.stdout)
    assert "2 completed" in printed[0]
    rows = [line.split(" | ")[0] for line in printed[1].splitlines() if line.startswith("|")]
    assert rows[2:] == ["| default", "| by hand", "| tuned"]
    found = json.loads((tmp_path / "table.json").read_text())
    assert found["search"]["trials"] == {"completed": 2}
    assert found["settings"]["tuned"].keys() == space.keys()
    assert (tmp_path / "search" / "trials" / "0" / "trial.stdout").read_text().startswith("epoch 1/1")
