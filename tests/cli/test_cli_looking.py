"""The verbs that show, export and resume an experiment: what they print."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiments import SPACE, TRIALS, driven, made, mistake, printed

from lightning_nas import cli
from lightning_nas.cli import running
from lightning_nas.cli.usage import usage
from lightning_nas.errors import ExperimentError
from lightning_nas.experiment import Experiment, SqliteStore
from lightning_nas.experiment.description import Description
from lightning_nas.trial import Status, Trial


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return made(tmp_path / "exp")


# -- looking -----------------------------------------------------------------------------------------


def test_list_shows_how_each_experiment_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "There is no experiment under" in printed(capsys, "list", tmp_path)
    made(tmp_path / "a")
    made(tmp_path / "b", "stopped by request")
    made(tmp_path / "c", None)
    made(tmp_path / "d", "the last 10 trials all failed", TRIALS[1:2])
    made(tmp_path / "e", None)
    made(tmp_path / ".hidden")
    (tmp_path / "a" / "trials" / "0").mkdir(parents=True)
    made(tmp_path / "a" / "trials" / "0" / "inner")
    with driven(tmp_path / "e"):
        lines = [line.split("  ") for line in printed(capsys, "list", tmp_path).splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert rows[0] == ["experiment", "state", "trials", "best", "elapsed"]
    assert [row[:2] for row in rows[1:]] == [
        ["a", "finished"],
        ["b", "interrupted"],
        ["c", "broken off"],
        ["d", "given up"],
        ["e", "running"],
    ]
    assert rows[1][2:4] == ["2/3", "acc = 0.5 (trial 0)"]
    assert len(rows[4]) == 4  # no best


def test_list_tells_of_a_store_that_cannot_be_read_and_shows_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "experiment.db").write_text("no database, whatever its name says")
    assert cli.main(["list", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "good" in out
    assert f"{tmp_path}/bad/experiment.db cannot be used" in err
    assert err.count("\n") == 1


def test_a_hundred_experiments_are_listed_within_a_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path / "0")
    content = (tmp_path / "0" / "experiment.db").read_bytes()
    for number in range(1, 100):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "experiment.db").write_bytes(content)
    seconds = []
    for _ in range(5):  # the machine may be busy with other work
        before = time.process_time()
        out = printed(capsys, "list", tmp_path)
        seconds.append(time.process_time() - before)
        assert len(out.splitlines()) == 101
        if seconds[-1] < 1:
            return
    pytest.fail(f"it took at least {min(seconds):.2f} s")


@pytest.mark.parametrize(
    "words",
    ["list .", "view exp --once", "top . --once", "trial ls exp", "trial log exp 0", "export exp -t csv"],
)
def test_looking_loads_neither_torch_nor_a_pickle(words: str, directory: Path) -> None:
    (directory / "trials" / "0").mkdir(parents=True)
    (directory / "trials" / "0" / "output.log").touch()
    program = (
        "import sys; from lightning_nas.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(' '.join({'torch', 'cloudpickle', 'pytorch_lightning'} & set(sys.modules)) or code)"
    )
    command = [sys.executable, "-c", program, *words.split()]
    subprocess.run(command, check=True, capture_output=True, cwd=directory.parent)


def test_help_does_not_load_numpy() -> None:
    program = "import sys; from lightning_nas.cli import main\ntry: main(['--help'])\n" \
        "except SystemExit: sys.exit('numpy' in sys.modules or 'rich' in sys.modules)"  # fmt: skip
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_view_shows_the_state_the_best_and_what_runs(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, "view", directory, "--once")
    assert text.startswith(f"{directory}: finished (all 3 trials are done)")
    assert "2/3" in text
    assert "1 failed" in text
    assert "running" not in text
    with driven(directory):
        rows = [line.split() for line in printed(capsys, "view", directory, "--once").splitlines()]
    assert rows[0] == [f"{directory}:", "running", "(this", "process)"]
    assert ["best", "0", "acc", "=", "0.5", "2.5", "s", "lr=0.5,", "kernel=(3,", "3)"] in rows
    assert [row[:6] for row in rows if row[0] == "running"] == [["running", "2", "0", "acc", "=", "0.25"]]
    assert any(row[:3] == ["failed", "1", "ValueError:"] for row in rows)


def test_view_of_one_whose_driver_died_says_how_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, "view", "--text", made(tmp_path / "exp", None))
    assert "exp: broken off (its process has died)" in text
    assert f"lightning-nas resume {tmp_path / 'exp'}   goes on" in text


def test_view_in_a_pipe_prints_a_line_per_trial_until_the_end(directory: Path) -> None:
    with driven(directory):
        command = [sys.executable, "-m", "lightning_nas.cli", "view", "--text", str(directory)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("[1/3] trial 1 failed in 1 s: ValueError: [broken]")
        assert process.stdout.readline().startswith("[2/3] trial 0 completed in 2.5 s: acc = 0.5")
        with contextlib.closing(SqliteStore.open(directory, "write")) as store:
            store.write(
                Trial(2, TRIALS[2].sample, Status.COMPLETED, {"acc": 1.0}, 1.0, started=15, finished=16)
            )
    assert process.communicate(timeout=20)[0].splitlines() == [
        "[3/3] trial 2 completed in 1 s: acc = 1  lr=0.75, kernel=(5, 5)",
        f"{directory}: finished (all 3 trials are done)",
    ]
    assert process.returncode == 0


@pytest.mark.parametrize("width", [80, 120])
def test_a_narrow_terminal_cuts_samples_and_reasons_only(width: int) -> None:
    from rich.console import Console

    from lightning_nas.experiment.display import trials_at_work
    from lightning_nas.trial import Objective

    long = "TrialFailed: the command ended with exit code 1: RuntimeError: it is bad in many ways"
    sample = {f"label{number}": 0.5 for number in range(9)}
    trials = [Trial(1234, sample, Status.FAILED, reason=long, started=0, finished=75)]
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(trials_at_work(None, (), trials, Objective("acc")))
    (line,) = console.file.getvalue().splitlines()[1:]  # type: ignore[attr-defined]
    assert line.startswith("failed  1234 ")
    assert "1 min 15 s" in line
    assert line.count("…") == 2


def test_top_shows_running_trials_and_what_they_use(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed(capsys, "top", directory.parent, "--once").startswith("Nothing runs under")
    with driven(directory):
        head, row = printed(capsys, "top", directory.parent).splitlines()
    assert head.split()[:6] == ["experiment", "trial", "step", "result", "time", "pid"]
    assert row.split()[:6] == ["exp", "2", "0", "acc", "=", "0.25"]
    assert str(os.getpid()) in row.split()
    assert "MiB" in row or "GiB" in row


def test_what_a_process_has_started_counts_as_its_use() -> None:
    me = os.getpid()
    alone = usage([me])[me].memory_mib
    with subprocess.Popen(
        [sys.executable, "-c", "x = bytearray(200 << 20); input()"], stdin=subprocess.PIPE
    ) as child:
        deadline = time.monotonic() + 20
        while (usage([child.pid])[child.pid].memory_mib or 0) < 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        together = usage([me, -1])
        child.communicate(b"\n")
    assert set(together) == {me}
    assert alone is not None
    assert (together[me].memory_mib or 0) > alone + 190


# -- trials ------------------------------------------------------------------------------------------


def test_trial_ls_goes_by_number_and_knows_what_broke_off(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(capsys, "trial", "ls", directory).splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["0", "completed"],
        ["1", "failed"],
        ["2", "running"],
    ]
    assert lines[4] == "trial 1 failed: ValueError: [broken]"
    assert "what was running broke off" in lines[5]
    assert len(printed(capsys, "trial", "ls", directory, "--status", "failed").splitlines()) == 3


@pytest.fixture
def logs(directory: Path) -> Path:
    """Trial 0 ran a script, trial 1 a function in a process, trial 2 nothing with a log."""
    for number, name, text in (
        (0, "output.log", "ignored\n"),
        (0, "trial.stdout", "".join(f"line {n}\n" for n in range(50_000))),
        (0, "trial.stderr", "a warning\n"),
        (1, "output.log", "begins\n"),
    ):
        path = directory / "trials" / str(number) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def test_trial_log_prints_what_a_trial_printed(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(printed(capsys, "trial", "log", logs, "0").splitlines()) == 50_000
    assert printed(capsys, "trial", "log", logs, "0", "--tail", "2") == "line 49998\nline 49999\n"
    assert len(printed(capsys, "trial", "log", logs, "0", "--tail", "20000").splitlines()) == 20_000
    assert printed(capsys, "trial", "log", logs, "0", "--stderr") == "a warning\n"


def test_a_log_is_printed_character_by_character_wherever_it_is_cut(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = logs / "trials" / "0" / "trial.stdout"
    path.write_bytes("é".encode() * (1 << 20) + b"x\xc3")
    assert printed(capsys, "trial", "log", logs, "0") == "é" * (1 << 20) + "x\\xc3"
    path.write_bytes(b"x" + "é".encode() * (1 << 20))
    assert printed(capsys, "trial", "log", logs, "0") == "x" + "é" * (1 << 20)


def test_trial_log_of_a_failed_one_says_why(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trial", "log", str(logs), "1"]) == 0
    out, err = capsys.readouterr()
    assert out == "begins\n"
    assert err == "trial 1 failed: ValueError: [broken]\nTraceback\nValueError: [broken]\n"


def test_a_log_that_is_not_there_is_a_mistake(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Trial 2 has no log of its own: it ran in its driver's process" in mistake(
        capsys, "trial", "log", logs, "2"
    )
    assert "one log for both its streams; leave out --stderr" in mistake(
        capsys, "trial", "log", logs, "1", "--stderr"
    )


def test_trial_log_follows_a_trial_to_its_end(logs: Path) -> None:
    path = logs / "trials" / "2" / "output.log"
    path.parent.mkdir()
    path.write_bytes(b"one\n\xff\n")
    command = [
        sys.executable,
        "-m",
        "lightning_nas.cli",
        "trial",
        "log",
        str(logs),
        "2",
        "--follow",
        "--tail",
        "1",
    ]
    with driven(logs), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\\xff\n"
        with path.open("a") as file:
            file.write("three\n")
        assert process.stdout.readline() == "three\n"
        with path.open("a") as file:
            file.write("last")
        with contextlib.closing(SqliteStore.open(logs, "write")) as store:
            store.write(Trial(2, TRIALS[2].sample, Status.COMPLETED, {"acc": 1.0}, 1.0))
        assert process.communicate(timeout=20)[0] == "last"
    assert process.returncode == 0


# -- export ------------------------------------------------------------------------------------------


def test_export_of_trials_as_json_has_their_intermediate_results(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = json.loads(printed(capsys, "export", directory, "-t", "json"))
    assert [trial["number"] for trial in trials] == [0, 1, 2]
    assert trials[2]["intermediate"] == [{"step": 0, "metrics": {"acc": 0.25}}]
    assert trials[0]["sample"] == {"lr": 0.5, "kernel": [3, 3]}
    assert (trials[1]["status"], trials[1]["finished"]) == ("failed", 11)
    path = tmp_path / "best.json"
    assert printed(capsys, "export", directory, "-t", "json", "--top", "1", "--output", path) == f"{path}\n"
    assert [trial["number"] for trial in json.loads(path.read_text())] == [0]


def test_export_of_trials_as_csv_has_a_column_for_each_label_and_metric(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "export", directory, "-t", "csv"))))
    assert rows[0] == {
        "number": "0",
        "status": "completed",
        "score": "0.5",
        "reason": "",
        "started": "10.0",
        "finished": "12.5",
        "duration_s": "2.5",
        "sample.lr": "0.5",
        "sample.kernel": "[3, 3]",
        "metrics.acc": "0.5",
    }
    assert (rows[1]["reason"], rows[1]["metrics.acc"]) == ("ValueError: [broken]", "")
    assert len(rows) == 3


# -- resume ------------------------------------------------------------------------------------------


def test_resume_says_what_stands_against_it(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = mistake(capsys, "resume", directory)
    assert "exp is finished: all 3 trials are done; a larger --max-trials" in answer
    assert "it has no experiment.pkl" in mistake(capsys, "resume", directory, "--max-trials", "9")
    assert "it must be seconds, or text such as 90s" in mistake(
        capsys, "resume", directory, "--max-duration", "5 hours"
    )
    (directory / "config.json").write_text("{}")
    assert "it is not what `create` writes" in mistake(capsys, "resume", directory, "--max-trials", "9")
    with driven(directory):
        assert "is being worked on by this process" in mistake(
            capsys, "resume", directory, "--max-trials", "9"
        )


SCRIPT = "import nni; nni.report_final_result(nni.get_next_parameter()['x'])\n"
CONFIG = """searchSpace: {x: {_type: uniform, _value: [0, 1]}}
trialCommand: python main.py
trialConcurrency: 1
maxTrialNumber: 1
tuner: {name: Random}
trainingService: {platform: local}
"""


@pytest.mark.slow
def test_an_experiment_file_goes_on_from_its_copy_without_a_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, made = tmp_path / "code", tmp_path / "made"
    code.mkdir()
    (code / "main.py").write_text(SCRIPT)
    (code / "config.yml").write_text(CONFIG)
    assert (
        cli.main(["create", "--config", str(code / "config.yml"), "--directory", str(made), "--foreground"])
        == 0
    )
    (made / "experiment.pkl").unlink()
    (code / "config.yml").write_text("changed, and no experiment file any more")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["resume", "made", "--max-trials", "2", "--foreground"]) == 0
    assert "all 2 trials are done" in capsys.readouterr().out
    with contextlib.closing(SqliteStore.open(made)) as store:
        assert [trial.metrics["default"] for trial in store.trials()] == [
            t.sample["x"] for t in store.trials()
        ]
        assert len(store.trials()) == 2


@pytest.mark.slow
def test_a_python_experiment_goes_on_in_the_background(tmp_path: Path) -> None:
    script = tmp_path / "search.py"
    script.write_text(
        "from lightning_nas import Experiment, Float, strategies\n"
        "class Evaluator:\n"
        "    def evaluate(self, candidate, report):\n"
        "        return candidate.sample\n"
        "Experiment({'x': Float(0, 1)}, Evaluator(), strategies.Random(), directory='exp', max_trials=1,\n"
        "           runner='inprocess').run()\n"
    )
    subprocess.run([sys.executable, str(script)], cwd=tmp_path, check=True, capture_output=True)
    command = [sys.executable, "-m", "lightning_nas.cli", "resume", "exp", "--max-trials", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("exp (process ")
    deadline = time.monotonic() + 60
    while "Best: " not in (tmp_path / "exp" / "search.log").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(Experiment.resume(tmp_path / "exp").trials) == 3


def test_what_goes_wrong_in_the_background_before_it_begins_is_told(directory: Path) -> None:
    with pytest.raises(ExperimentError, match=r"exp did not start: lightning-nas: .* is finished"):
        running._run_behind(directory, ["resume", str(directory)])


def test_resuming_finds_the_modules_beside_the_script_but_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore.create(tmp_path, Description(SPACE, "Random()", "acc", None, 7))
    for command in ("code/search.py", "code/search.py", str(Path(running.__file__).with_name("__main__.py"))):
        store.begin_run({}, {"working_directory": "/home/me", "command": [command]})
    store.close()
    monkeypatch.setattr(sys, "path", ["before"])
    running.find_users_code(tmp_path)
    assert sys.path == [os.getcwd(), "/home/me/code", "before"]


def test_resuming_goes_on_where_the_script_ran_so_that_its_relative_paths_hold(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "data.txt").write_text("0.5")
    script = tmp_path / "there" / "search.py"
    script.write_text(
        "from pathlib import Path\n"
        "from lightning_nas import Experiment, Float, strategies\n"
        "class Evaluator:\n"
        "    def evaluate(self, candidate, report):\n"
        "        return float(Path('data.txt').read_text())\n"
        "Experiment({'x': Float(0, 1)}, Evaluator(), strategies.Random(), directory='exp', max_trials=1,\n"
        "           runner='inprocess').run()\n"
    )
    subprocess.run([sys.executable, str(script)], cwd=script.parent, check=True, capture_output=True)
    options = ["resume", "there/exp", "--max-trials", "2", "--foreground"]
    command = [sys.executable, "-m", "lightning_nas.cli", *options]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    trials = Experiment.resume(tmp_path / "there" / "exp").trials
    assert [trial.metrics for trial in trials] == [{"default": 0.5}] * 2
