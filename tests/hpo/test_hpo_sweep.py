"""`sweep` on the digits: both kinds of LightningCLI, choices of classes, what is refused, and reruns."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sweep_project import FIT, ROOT, SPACE, config_of, rerun, run

from lightning_nas import Experiment, Status
from lightning_nas.cli import main as command
from lightning_nas.errors import ExperimentError
from lightning_nas.experiment import SqliteStore
from lightning_nas.hpo import ConfigError, read_sweep_space
from lightning_nas.space import Categorical, Condition, Float, SearchSpace
from lightning_nas.stopping import ASHA
from lightning_nas.strategies import Random

# A trial is the user's own program, which warns as it always does.
pytestmark = pytest.mark.filterwarnings("ignore")

# -- trials ------------------------------------------------------------------------------------------


def test_a_trial_has_its_whole_config_and_the_values_of_its_sample(project: Path) -> None:
    exp = run(SPACE)
    assert [trial.reason for trial in exp.trials] == [None, None]
    for trial in exp.trials:
        config = config_of(exp, trial.number)
        assert config["model"]["rate"] == trial.sample["model.rate"]
        assert config["data"]["batch_size"] == trial.sample["data.batch_size"] == trial.metrics["size"]
        assert config["model"]["hidden"] == 16, "what is not searched is as in fit.yaml"
        assert config["trainer"]["gradient_clip_val"] is None, "defaults are written out"
        assert config["trainer"]["callbacks"] is None, "what is ours is not the user's"
        assert len(trial.intermediate) == 3
    assert {config_of(exp, n)["seed_everything"] for n in (0, 1)}.isdisjoint({True})
    assert (exp.directory / "best" / "config.yaml").is_file()
    assert not hasattr(sys.modules["__main__"], "CLI")


@pytest.mark.slow
def test_a_config_that_was_paused_on_the_way_gives_the_same_score_to_the_users_program(project: Path) -> None:
    exp = run(SPACE, stopping=ASHA(), max_trials=4)
    with contextlib.closing(SqliteStore.open(exp.directory)) as store:
        paused = [
            t.number for t in exp.trials if any(c.status is Status.PAUSED for c in store.changes(t.number))
        ]
    resumed = next(t for t in exp.trials if t.status is Status.COMPLETED and t.number in paused)
    assert [report.step for report in resumed.intermediate] == [0, 1, 2]
    assert rerun(f"exp/trials/{resumed.number}/config.yaml", project) == resumed.metrics


@pytest.mark.slow
def test_two_ranks_are_one_trial(project: Path) -> None:
    (project / "fit.yaml").write_text(FIT.replace("cpu", "cpu\n  devices: 2\n  strategy: ddp"))
    exp = run(SPACE, stopping=ASHA(), max_trials=3, runner="processes", concurrency=1)
    assert sorted(trial.status.value for trial in exp.trials) == ["completed", "paused", "paused"]
    assert exp.best is not None
    assert [report.step for report in exp.best.intermediate] == [0, 1, 2]


def test_the_seed_of_the_config_is_left_alone(project: Path) -> None:
    (project / "fit.yaml").write_text(f"seed_everything: 3\n{FIT}")
    exp = run({"model.rate": {"choice": [0.1]}}, max_trials=1)
    assert config_of(exp, 0)["seed_everything"] == 3
    assert "PL_GLOBAL_SEED" not in os.environ


@pytest.mark.parametrize("project", ["pytorch_lightning", "lightning.pytorch"], indirect=True)
def test_a_config_that_names_its_classes_needs_no_program(project: Path) -> None:
    space = {
        "model.init_args.act": {
            "choice": [
                {"class_path": "sweep_nets.Tanh"},
                {
                    "class_path": "sweep_nets.Leaky",
                    "init_args": {"slope": {"uniform": [0.1, 0.2]}, "inplace": True},
                },
            ]
        },
        "model.rate": {"choice": [0.5]},
    }
    exp = run(space, "named.yaml", None, max_trials=6, strategy=Random(dedup=False), stopping=ASHA())
    assert {trial.status for trial in exp.trials} <= {Status.PAUSED, Status.COMPLETED}
    seen = set()
    for trial in exp.trials:
        act = config_of(exp, trial.number)["model"]["init_args"]["act"]
        seen.add(act["class_path"])
        assert act["class_path"] == trial.sample["model.init_args.act"]
        if act["class_path"] == "sweep_nets.Leaky":
            slope = trial.sample["model.init_args.act/sweep_nets.Leaky/slope"]
            assert act["init_args"] == {"slope": slope, "inplace": True}
            assert 0.1 <= slope <= 0.2
        else:
            assert act.get("init_args", {}) == {}
            assert not any(label.endswith("/slope") for label in trial.sample)
    assert len(seen) == 2, "1 in 32 if the draws were other ones"


def test_the_program_may_be_a_name_or_something_to_call(project: Path) -> None:
    for i, cli in enumerate(["sweep_nets_cli:run", None]):
        (project / "sweep_nets_cli.py").write_text(
            "from main import CLI, Net, Digits\ndef run():\n    CLI(Net, Digits)\n"
        )
        if cli is None:
            sys.path.insert(0, str(project))
            cli = __import__("sweep_nets_cli").run
            sys.path.remove(str(project))
        exp = run(SPACE, cli=cli, max_trials=1, directory=f"exp{i}")
        assert exp.trials[0].status is Status.COMPLETED
    for name in ("main", "sweep_nets_cli"):
        sys.modules.pop(name)


def test_a_program_that_fits_by_itself_is_swept_too(project: Path) -> None:
    text = (
        (project / "main.py")
        .read_text()
        .replace(
            "CLI(Net, Digits)\n",
            "CLI(Net, Digits, run=False)\n    cli.trainer.fit(cli.model, cli.datamodule)\n",
        )
    )
    (project / "main.py").write_text(text)
    exp = run(SPACE, max_trials=1)
    assert [trial.reason for trial in exp.trials] == [None]
    assert len(exp.trials[0].intermediate) == 3


def test_domains_of_python_and_what_a_class_does_not_say(project: Path) -> None:
    space = SearchSpace(
        {"model.hidden": Categorical([8, 12]), "model.rate": Float(0.1, 0.2)},
        {"model.rate": Condition({"model.hidden": [12]})},
    )
    exp = run(space, max_trials=4)
    rates = {
        (config_of(exp, t.number)["model"]["hidden"] == 8, t.sample.get("model.rate")) for t in exp.trials
    }
    assert all((rate is None) == is_small for is_small, rate in rates)
    assert {
        config_of(exp, t.number)["model"]["rate"] for t in exp.trials if "model.rate" not in t.sample
    } <= {0.1}


def test_the_same_call_goes_on_and_a_changed_config_is_noticed(project: Path) -> None:
    one = run(SPACE, max_trials=1)
    two = run(SPACE, max_trials=2)
    assert two.trials[0] == one.trials[0]
    assert [trial.number for trial in two.trials] == [0, 1]
    (project / "fit.yaml").write_text(FIT + "seed_everything: 1\n")
    with pytest.raises(ExperimentError, match="exp holds trials of another config"):
        run(SPACE, max_trials=3)
    resumed = Experiment.resume("exp", max_trials=3).run()
    assert "fit.yaml has changed since the sweep began" in str(resumed.trials[2].reason)


@pytest.mark.slow
def test_a_sweep_in_processes_of_their_own_equals_one_in_this(project: Path) -> None:
    here = run(SPACE, directory="here")
    there = run(SPACE, directory="there", runner="processes", concurrency=2)
    assert [t.metrics for t in here.trials] == [t.metrics for t in there.trials]


# -- the space ---------------------------------------------------------------------------------------


def test_keys_may_be_nested_and_types_written_as_nni_does(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "model:\n  lr: {_type: loguniform, _value: [1e-4, 0.1]}\n  deep:\n    width: {randint: [2, 5]}\n"
        "trainer.max_epochs: {choice: [5, 10]}\n"
    )
    found = read_sweep_space(file)
    assert set(found.space) == {"model.lr", "model.deep.width", "trainer.max_epochs"}
    sample = {"model.lr": 0.01, "model.deep.width": 3, "trainer.max_epochs": 5}
    assert found.changes(sample) == sample


def test_options_have_spaces_of_their_own_at_any_depth() -> None:
    inner = {"choice": [{"class_path": "a.X", "init_args": {"p": {"uniform": [0, 1]}, "q": [1, 2]}}, None]}
    options = [
        {
            "_name": "wide",
            "class_path": "a.B",
            "init_args": {"inner": inner, "kw": {"depth": {"choice": [7]}, "k": 1}},
        },
        {"_name": "bare", "class_path": "a.B"},
        "off",
    ]
    found = read_sweep_space({"model.block": {"choice": options}})
    rng = np.random.default_rng(0)
    samples = [found.space.sample(rng) for _ in range(40)]
    changes = [found.changes(sample)["model.block"] for sample in samples]
    assert {str(sample["model.block"]) for sample in samples} == {"wide", "bare", "off"}
    for sample, block in zip(samples, changes):
        if sample["model.block"] != "wide":
            bare = {"class_path": "a.B", "init_args": {}}
            assert block == {"bare": bare, "off": "off"}[sample["model.block"]]
            continue
        p = sample.get("model.block/wide/inner/a.X/p")
        x = None if p is None else {"class_path": "a.X", "init_args": {"p": p, "q": [1, 2]}}
        assert block == {"class_path": "a.B", "init_args": {"inner": x, "kw": {"depth": 7, "k": 1}}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "modle.rate: {uniform: [0, 1]}",
            "line 1, 'modle.rate': the config has no such key; did you mean 'model.rate'",
        ),
        ("trainer.max_epohs: {choice: [1]}", "did you mean 'trainer.max_epochs'"),
        (
            "model.hidden: {choice: [8, many]}",
            "'model.hidden': Expected a <class 'int'>.* for the value 'many'",
        ),
        ("model.hidden: {uniform: [8, 9]}", "Expected a <class 'int'>"),
        ("model.size: {choice: [1, 2]}", "'model.size': the program links this key"),
        (
            "model.rate: {logunifrom: [1, 2]}",
            "'model.rate.logunifrom': it must be a domain.*mean 'loguniform'",
        ),
        ("model.rate: {loguniform: [0, 1]}", "low > 0"),
        ("model.rate: 0.1", "it must be a domain"),
        (
            "model.rate: {uniform: [0, 1]}\nmodel.rate: {uniform: [0, 1]}",
            "line 2, 'model.rate': the key is there twice",
        ),
        (
            "model.rate: {uniform: [0, 1]}\nmodel: {rate: {uniform: [0, 1]}}",
            "line 2, 'model.rate': the key is there twice",
        ),
        ("model.act: {choice: [{class_path: sweep_nets.Relu}]}", "no attribute 'Relu'"),
        ("model.act: {choice: [{class_path: no_such.Relu}]}", "no_such"),
        (
            "model.act: {choice: [{class_path: sweep_nets.Leaky, init_args: {slop: {uniform: [0, 1]}}}]}",
            "'slop' is not",
        ),
        (
            "model.act: {choice: [{class_path: sweep_nets.Leaky, args: {}}]}",
            r"'model.act.choice.0': an option is .*'args'",
        ),
        (
            "model.act: {choice: [{class_path: a.B}, {class_path: a.B}]}",
            "'a.B' is there twice; give one .*_name",
        ),
        (
            "model.act: {choice: [{class_path: a.B}]}\nmodel.act.slope: {uniform: [0, 1]}",
            "it lies within 'model.act'",
        ),
        ("{}", "this is empty"),
        ("[1]", "this is a list"),
        ("a: [b", "it is neither JSON nor YAML"),
        ("a: !!python/object:os.system {}", "it is neither JSON nor YAML"),
    ],
)
def test_a_wrong_space_is_one_line_with_file_and_key(project: Path, text: str, message: str) -> None:
    (project / "space.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        run("space.yaml")
    assert str(caught.value).startswith("space.yaml")
    assert "\n" not in str(caught.value)
    assert not (project / "exp").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "none.yaml"], "none.yaml: there is no such file"),
        (["--config", "broken.yaml"], "broken.yaml, line 1: it is neither JSON nor YAML"),
        (["--config", "wrong.yaml"], "wrong.yaml: .*modell"),
        (["--cli", "none.py"], "none.py: there is no such file"),
        (["--cli", "none:main"], "none:main: it cannot be run .ModuleNotFoundError"),
        (["--cli", "sweep_nets.py"], "sweep_nets.py: it makes no LightningCLI"),
        (["--max-trials", "-1"], "--max-trials: it must be an integer of at least 1"),
        (["--max-duration", "5 hours"], "--max-duration: it must be seconds, or text such as"),
        (["--stopping", "ASHA", "--max-trials", "1"], "needs 3 trials"),
    ],
)
def test_the_command_tells_a_mistake_in_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (project / "broken.yaml").write_text("a: }")
    (project / "wrong.yaml").write_text("modell: {hidden: 3}")
    (project / "space.yaml").write_text("model.rate: {uniform: [0.1, 0.2]}")
    given = [
        "sweep",
        "--config",
        "fit.yaml",
        "--cli",
        "main.py",
        "--space",
        "space.yaml",
        "--directory",
        "exp",
    ]
    try:
        code = command([*given, *arguments])
    except SystemExit as error:  # of the options' reader
        code = error.code
    assert code == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert said.count("\n") == 1
    assert not (project / "exp").exists()


def test_an_objective_that_is_never_logged_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "space.yaml").write_text("model.rate: {uniform: [0.1, 0.2]}")
    given = [
        "sweep",
        "--config",
        "fit.yaml",
        "--cli",
        "main.py",
        "--space",
        "space.yaml",
        "--directory",
        "exp",
    ]
    assert command([*given, "--objective", "val_f1", "--max-trials", "1"]) == 2
    assert "'val_f1' is not among the metrics of this trial; it has size, val_acc" in capsys.readouterr().err


@pytest.mark.slow
def test_the_example_runs_from_the_shell(tmp_path: Path) -> None:
    example = ROOT / "examples" / "sweep"
    for name in ("main.py", "fit.yaml", "space.yaml"):
        (tmp_path / name).write_bytes((example / name).read_bytes())
    commands = [
        line
        for line in (example / "README.md").read_text().replace("\\\n", "").splitlines()
        if line[:4] == "    "
    ]
    assert len(commands) == 2
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    for line in commands:
        program, *arguments = line.split("#")[0].split()
        # The logger that Lightning takes by itself depends on whether TensorBoard is installed.
        arguments += ["--trainer.logger", "CSVLogger"] if program == "python" else []
        arguments += ["--trainer.logger.save_dir", "."] if program == "python" else []
        program = {"python": [], "lightning-nas": ["-m", "lightning_nas.cli"]}[program]
        done = subprocess.run(
            [sys.executable, *program, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "sweep" / "best" / "metrics.json").read_text())["metrics"]
    (log,) = (tmp_path / "lightning_logs").rglob("metrics.csv")
    assert float(log.read_text().split()[-1].split(",")[-1]) == pytest.approx(metrics["val_acc"], abs=1e-7)
    assert metrics["val_acc"] > 0.8
