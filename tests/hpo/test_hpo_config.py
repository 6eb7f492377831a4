"""NNI's experiment files: all three versions, what is wrong with them, and whole experiments."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lightning_nas import Experiment, cli
from lightning_nas.experiment import environment
from lightning_nas.hpo import ConfigError, load_experiment, read_config
from lightning_nas.hpo.config_keys import duration_s
from lightning_nas.hpo.gpus import GPUs
from lightning_nas.strategies import TPE, Random
from lightning_nas.trial import Status

V1 = """authorName: your_name
experimentName: cool_exp_name_420_69
trialConcurrency: 2
maxExecDuration: 5h
maxTrialNum: 5000
trainingServicePlatform: local
searchSpacePath: search_space_arch.json
useAnnotation: false
tuner:
        builtinTunerName: Random
trial:
        command: python3 training.py
        codeDir: ..
        gpuNum: 0
assessor:
    builtinAssessorName: Medianstop
    classArgs:
      optimize_mode: maximize
      start_step: 5
"""
V1_SPACE = """{
    "act_func": {"_type": "choice", "_value": ["ReLU", "LeakyReLU", "Sigmoid", "Tanh", "Softplus"]},
    "optimizer": {"_type": "choice", "_value": ["SGD", "Adam", "RMSprop"]},
    "loss": {"_type":  "choice", "_value":  ["SmoothL1Loss", "MSELoss"]},
    "learning_rate": {"_type": "quniform", "_value": [0.005,  0.025, 0.005]},
\t"batch_size":  {"_type": "choice", "_value":[25, 40, 50, 60, 75, 200]}
}
"""
V3 = """search_space:
  features:
    _type: choice
    _value: [ 128, 256, 512, 1024 ]
  lr:
    _type: loguniform
    _value: [ 0.0001, 0.1 ]
  momentum:
    _type: uniform
    _value: [ 0, 1 ]

trial_command: python model.py
trial_code_directory: .

trial_concurrency: 2
max_trial_number: 10

tuner:
  name: TPE
  class_args:
    optimize_mode: maximize

training_service:
  platform: local
"""
V2 = """experimentName: lab8-cifar10-hpo
searchSpaceFile: search_space.json
trialCommand: python main.py
trialGpuNumber: 0
trialCodeDirectory: .

trialConcurrency: 2
maxTrialNumber: 20
tuner:
  name: TPE
  classArgs:
    optimize_mode: maximize
trainingService:
  platform: local
  useActiveGpu: false
assessor:
  Name: Medianstop
  classArgs:
    optimize_mode: maximize
    start_step: 4
"""
V2_SPACE = """{
    "initial_lr": {
        "_type": "uniform",
        "_value": [1e-4, 0.1]
    },
    "weight_decay": {"_type": "uniform", "_value": [1e-6, 1e-3]},
    "batch_size": {"_type": "choice", "_value": [128]},
    "epochs": {"_type": "choice", "_value": [8]},
    "optimizer": {"_type": "choice", "_value": ["adam", "rmsprop", "sgd"]},
    "model": {"_type": "choice", "_value": ["resnet18"]},
    "grad_clip": {"_type": "uniform", "_value": [0.0, 5.0]}
}
"""
V1_SCRIPT = """
import nni
if __name__ == '__main__':
    try:
        params = {"EPOCHS": 3}
        params.update(nni.get_next_parameter())
        for epoch in range(params["EPOCHS"]):
            nni.report_intermediate_result(params["learning_rate"] * epoch)
        nni.report_final_result(min([params["learning_rate"]]))
    except Exception as exception:
        print(exception)
        raise
"""
V3_SCRIPT = """
import nni
params = {'features': 512, 'lr': 0.001, 'momentum': 0}
optimized_params = nni.get_next_parameter()
params.update(optimized_params)
for t in range(2):
    nni.report_intermediate_result(1 - abs(params['momentum'] - 0.9))
nni.report_final_result(1 - abs(params['momentum'] - 0.9))
"""
V2_SCRIPT = """
import argparse, logging, nni
parser = argparse.ArgumentParser()
parser.add_argument('--initial_lr', default=0.1, type=float)
parser.add_argument('--weight_decay', default=5e-4, type=float)
parser.add_argument('--batch_size', default=128, type=int)
parser.add_argument('--epochs', default=1, type=int)
parser.add_argument('--optimizer', default='sgd', choices=['sgd', 'rmsprop', 'adam'])
parser.add_argument('--model', default='resnet18')
parser.add_argument('--grad_clip', default=0., type=float)
args = parser.parse_args()
params = nni.utils.merge_parameter(args, nni.get_next_parameter())
for epoch in range(params.epochs):
    nni.report_intermediate_result(params.initial_lr)
nni.report_final_result(params.initial_lr)
"""


def written(folder: Path, config: str, **files: str) -> Path:
    """An experiment file with a script `main.py` beside it, and further files by name."""
    (folder / "main.py").write_text("import nni; nni.report_final_result(nni.get_next_parameter()['x'])")
    for name, text in files.items():
        (folder / name).write_text(text)
    path = folder / "config.yml"
    path.write_text(config)
    return path


def small(**changes: Any) -> str:
    """A right experiment file of little, with some keys changed; None leaves one out."""
    settings = {
        "searchSpace": {"x": {"_type": "uniform", "_value": [0, 1]}},
        "trialCommand": "python main.py",
        "trialConcurrency": 1,
        "maxTrialNumber": 2,
        "tuner": {"name": "random"},
        "trainingService": {"platform": "local"},
        **changes,
    }
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in settings.items() if value is not None)


def test_the_three_versions_are_read(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    (tmp_path / "training.py").touch()
    (configs / "search_space_arch.json").write_text(V1_SPACE)
    one = read_config(written(configs, V1))
    assert (one.name, one.max_trials, one.max_duration_s, one.concurrency) == (
        "cool_exp_name_420_69",
        5000,
        18000,
        2,
    )
    assert one.evaluator.directory == tmp_path
    assert (one.evaluator.command, one.evaluator.gpus) == ("python3 training.py", GPUs(0))
    assert (one.tuned.strategy, one.mode) == (Random(), "max")
    assert list(one.space.space["learning_rate"]) == [0.005, 0.01, 0.015, 0.02, 0.025]

    (tmp_path / "model.py").touch()
    three = read_config(written(tmp_path, V3))
    assert (three.max_trials, three.concurrency, three.mode) == (10, 2, "max")
    assert three.tuned.strategy == TPE(startup_trials=20)
    assert list(three.space.space) == ["features", "lr", "momentum"]

    two = read_config(written(tmp_path, V2, **{"search_space.json": V2_SPACE}))
    assert (two.name, two.max_trials, two.evaluator.gpus) == ("lab8-cifar10-hpo", 20, GPUs(0))
    assert two.space.space["initial_lr"].low == 1e-4


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5h", 18000), ("0.5h", 1800), ("90s", 90), ("1.5 m", 90), ("2d", 172800), (7, 7), ("0.1s", 1)],
)
def test_durations_are_read_as_nni_does(text: str | int, seconds: int) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"maxExperimentDuration": "5 hours"},
            "'maxExperimentDuration': a duration is a number with s, m, h or d",
        ),
        ({"maxTrialNumbr": 3}, "'maxTrialNumbr': there is no such key; did you mean 'maxtrialnumber'"),
        ({"searchSpaceFile": "s.json"}, "'searchSpace': give it or 'searchSpaceFile', not both"),
        ({"searchSpace": None}, "it has no search space"),
        ({"searchSpace": None, "searchSpaceFile": "s.json"}, "'searchSpaceFile': there is no file .*s.json"),
        (
            {"searchSpace": {"x": {"_type": "loguniform", "_value": [1, 2, 3, 4]}}},
            r"loguniform takes \[low, high\]",
        ),
        ({"trialCommand": "pyton main.py"}, "'trialCommand': the command 'pyton' does not exist"),
        ({"trialCommand": "python mian.py"}, "'trialCommand': there is no mian.py in the code directory"),
        ({"trialCommand": "python 'main.py"}, "a shell cannot read the command"),
        ({"trialCommand": None}, "it has no trial command"),
        (
            {"trialCodeDirectory": "nowhere"},
            "'trialCodeDirectory': the code directory .*nowhere does not exist",
        ),
        ({"trialGpuNumber": 1}, "'trialGpuNumber': trials need 1 GPUs, but this machine has none"),
        ({"trialConcurrency": 0}, "'trialConcurrency': it must be a whole number of at least 1, but is 0"),
        ({"maxTrialNumber": "many"}, "'maxTrialNumber': it must be a whole number"),
        ({"maxTrialNum": 3}, "'maxTrialNum': it says the same as 'maxTrialNumber'"),
        ({"tuner": None}, "it has no tuner"),
        ({"tuner": {"name": "SMAC"}}, "the tuner SMAC has no counterpart here; the nearest is TPE"),
        ({"tuner": {"name": "tpee"}}, "there is no tuner 'tpee'; did you mean TPE?"),
        (
            {"tuner": {"name": "TPE", "classArgs": {"optimise_mode": "maximize"}}},
            "has no argument 'optimise_mode'",
        ),
        ({"tuner": {"name": "TPE", "classArgs": {"optimize_mode": "max"}}}, "must be maximize or minimize"),
        (
            {"tuner": {"name": "TPE", "classArgs": {"tpe_args": {"gamma": 0.5}}}},
            "gamma=0.5 has no counterpart",
        ),
        (
            {"tuner": {"codeDir": ".", "classFileName": "../t.py", "className": "T"}},
            "outside of the code directory",
        ),
        ({"tuner": {"codeDir": ".", "classFileName": "t.py", "className": "T"}}, "there is no file .*t.py"),
        ({"tuner": {"className": "nomodule.T"}}, "the tuner nomodule.T cannot be imported"),
        ({"tuner": {"name": "BatchTuner"}}, "BatchTuner takes a search space of one choice"),
        ({"assessor": {"name": "Nonsense"}}, "'assessor': "),
        (
            {"trainingService": {"platform": "kubeflow", "operator": 1}},
            "the platform kubeflow is not run from this",
        ),
        ({"trainingService": {"platform": "mars"}}, "there is no platform 'mars'"),
        ({"useAnnotation": "yes"}, "'useAnnotation': it must be true or false, but is 'yes'"),
        ({"useAnnotation": True}, "'searchSpace': give it or 'useAnnotation', not both"),
        (
            {"useAnnotation": True, "searchSpace": None, "searchSpacePath": "s.json"},
            "'searchSpacePath': give it or 'useAnnotation', not both",
        ),
        ({"advisor": {"name": "BOHB"}}, "'advisor': give it or 'tuner', not both"),
        ({"advisor": {"className": "m.C"}, "tuner": None}, "advisors of your own are not run"),
        ({"advisor": {"classArgs": {}}, "tuner": None}, "'advisor': it has no name; give e.g. name: BOHB"),
        (
            {"advisor": {"name": "Hyperband", "classArgs": {"R": 9}}, "tuner": None},
            "'maxTrialNumber': the first bracket takes 9 trials, but it is 2; give 9 or more",
        ),
        (
            {"tuner": {"name": "BOHB"}, "maxTrialNumber": 9, "assessor": {"name": "Medianstop"}},
            "'assessor': Hyperband ends trials itself; leave the assessor out",
        ),
        (
            {"tuner": {"name": "BOHB", "classArgs": {"min_budget": 9}}},
            "BOHB cannot be made of {'min_budget': 9}",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_made(
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(environment, "visible_gpus", list)
    path = written(tmp_path, small(**changes))
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(path)
    assert str(caught.value).startswith(str(path))
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["create", "--config", str(path), "--directory", str(tmp_path / "made")]) == 2
    assert cli.main(["validate", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 2
    assert [
        each for each in sorted(tmp_path.rglob("*")) if each not in before and "pycache" not in str(each)
    ] == []


def test_a_wrong_key_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.yml, line 16, 'trial.gpus'"):
        read_config(
            written(
                tmp_path,
                V1.replace("gpuNum", "gpus")
                .replace("codeDir: ..", "codeDir: .")
                .replace("searchSpacePath", "# a\nsearchSpacePath")
                .replace("tuner:\n", "# b\ntuner:\n"),
            )
        )


def test_gpus_are_checked_against_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "visible_gpus", lambda: ["0", "1", "2"])
    service = {"platform": "local", "useActiveGpu": False, "gpuIndices": "0, 2", "maxTrialNumberPerGpu": 3}
    found = read_config(written(tmp_path, small(trialGpuNumber=2, trainingService=service)))
    assert found.evaluator.gpus == GPUs(2, ("0", "2"), 3, use_active=False)
    for number, change, message in (
        (3, {}, "trials need 3 GPUs, but there are 2"),
        (1, {"gpuIndices": [7]}, "there is no GPU 7; this machine has 0, 1, 2"),
        (1, {"useActiveGpu": "maybe"}, "'trainingService.useActiveGpu': it must be true or false"),
        (1, {"useActiveGpu": None}, "say in trainingService whether useActiveGpu is true or false"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_config(
                written(tmp_path, small(trialGpuNumber=number, trainingService={**service, **change}))
            )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "space", "script", "trials"),
    [
        (
            V1.replace("5000", "6").replace("codeDir: ..", "codeDir: .").replace("_arch", ""),
            V1_SPACE,
            V1_SCRIPT,
            6,
        ),
        (V3, "", V3_SCRIPT, 10),
        (V2, V2_SPACE, V2_SCRIPT, 20),
    ],
)
def test_printed_experiments_run_to_the_end(
    tmp_path: Path, config: str, space: str, script: str, trials: int
) -> None:
    names = ("training.py", "model.py", "main.py")
    path = written(tmp_path, config, **{"search_space.json": space}, **dict.fromkeys(names, script))
    made = tmp_path / "made"
    assert cli.main(["create", "--config", str(path), "--directory", str(made), "--foreground"]) == 0
    done = Experiment.resume(made).trials
    assert len(done) == trials
    assert {trial.status for trial in done} <= {Status.COMPLETED, Status.STOPPED}
    assert all(trial.intermediate for trial in done)
    completed = [trial for trial in done if trial.status is Status.COMPLETED]
    best = max(completed, key=lambda trial: trial.metrics["default"])
    assert Experiment.resume(made).best.number == best.number


@pytest.mark.slow
def test_create_runs_in_the_background_and_says_where(tmp_path: Path) -> None:
    path, made = written(tmp_path, small()), tmp_path / "made"
    # In a process of its own: this one would be left with a child that it never waits for.
    command = [
        sys.executable,
        "-m",
        "lightning_nas.cli",
        "create",
        "--config",
        str(path),
        "--directory",
        str(made),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith(f"{made} (process ")
    deadline = time.monotonic() + 100
    while "Best: trial" not in (made / "search.log").read_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "all 2 trials are done" in (made / "search.log").read_text()


def test_validate_says_what_would_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(written(tmp_path, small()))]) == 0
    assert "right; 1 labels, 2 trials, 1 at the same time" in capsys.readouterr().out


TUNER = """
import nni
from nni.tuner import Tuner
class Steps(Tuner):
    def __init__(self, step):
        self.step, self.log = step, []
    def update_search_space(self, space):
        assert space == {"x": {"_type": "uniform", "_value": [0.0, 1.0]}}
    def generate_parameters(self, parameter_id, **kwargs):
        if parameter_id == 3:
            raise nni.NoMoreTrialError()
        return {"x": min(1.0, self.step * len(self.log))}
    def receive_trial_result(self, parameter_id, parameters, value, **kwargs):
        assert value == parameters["x"]
        self.log.append(value)
"""


def test_a_tuner_of_the_users_own_is_asked_and_told(tmp_path: Path) -> None:
    tuner = {
        "codeDir": ".",
        "classFileName": "own_steps.py",
        "className": "Steps",
        "classArgs": {"step": 0.25},
    }
    path = written(tmp_path, small(tuner=tuner, maxTrialNumber=9), **{"own_steps.py": TUNER})
    experiment = load_experiment(path, tmp_path / "made", runner="inprocess", progress=False)
    assert [trial.sample for trial in experiment.run().trials] == [{"x": 0.0}, {"x": 0.25}, {"x": 0.5}]


def test_a_batch_runs_each_parameter_set_once(tmp_path: Path) -> None:
    sets = [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]
    space = {"combine_params": {"_type": "choice", "_value": sets}}
    path = written(tmp_path, small(searchSpace=space, tuner={"name": "BatchTuner"}, maxTrialNumber=9))
    experiment = load_experiment(path, tmp_path / "made", runner="inprocess", progress=False)
    assert [trial.metrics["default"] for trial in experiment.run().trials] == [1, 2]
