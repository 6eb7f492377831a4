"""The small parts: settings, folder and lock, the best folder, what is shown, what is known of the machine."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_nas.errors import ExperimentError
from lightning_nas.experiment import environment as environments
from lightning_nas.experiment import folder
from lightning_nas.experiment.best import export_best, is_exported, keep_best, kept_number
from lightning_nas.experiment.description import describe
from lightning_nas.experiment.display import Lines, LiveTable, Silence, make_display
from lightning_nas.experiment.model import model_and_space, with_graph_keys
from lightning_nas.experiment.settings import check_at_least, new_directory, seconds
from lightning_nas.space import Categorical, Float, SearchSpace
from lightning_nas.trial import Intermediate, Objective, Status, Trial

# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("1h", 3600),
        ("1h30m", 5400),
        ("2d", 172800),
        (" .5 m ", 30),
        (5, 5),
        (0, 0),
    ],
)
def test_durations_are_read(text: str | float, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["1", "1 hour", "h", "", "-1h", -1, float("nan"), float("inf"), None])
def test_other_durations_are_refused_by_name(text: Any) -> None:
    with pytest.raises(ValueError, match=r"`max_duration` must be seconds, or text such as .*, but got"):
        seconds(text)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "2"])
def test_settings_below_their_minimum_are_refused_by_name(value: Any) -> None:
    with pytest.raises(
        ValueError, match=f"`concurrency` must be an integer of at least 1, but got {value!r}"
    ):
        check_at_least(1, concurrency=value)


def test_new_folders_never_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "now")
    names = []
    for _ in range(3):
        new_directory().mkdir(parents=True)
        names = sorted(path.name for path in Path("runs").iterdir())
    assert names == ["now", "now-2", "now-3"]


def test_a_strategy_is_described_without_addresses() -> None:
    class Custom: ...

    def rule() -> None: ...

    assert " at 0x" not in describe(Custom())
    assert describe([rule, Custom()]) == describe([rule, Custom()])


# -- the model ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plain:
    def ask(self, space, trials, rng):
        return None


@dataclass(frozen=True)
class Keyed:
    strategy: Any
    key: Any = None

    def ask(self, space, trials, rng):
        return None


class Net:
    """Stands for a class under @model_wrapper whose graph does not see the sign."""

    def graph_key(self, sample):
        return abs(sample["x"])


class Model:
    """Stands for its blueprint."""

    cls, args, kwargs = Net, (), {}
    space = SearchSpace({"x": Categorical([-1, 1, 2])})

    def instance(self) -> Net:
        return Net()


def test_the_key_graph_becomes_the_models_however_deep() -> None:
    space = Model.space | {"lr": Categorical([0.1, 0.2])}
    changed = with_graph_keys(Keyed(Keyed(Plain(), key="graph"), key=len), Model(), space)
    assert changed.key is len
    key = changed.strategy.key
    assert key({"x": 1, "lr": 0.1}) == key({"x": -1, "lr": 0.1})
    assert key({"x": 1, "lr": 0.1}) != key({"x": 2, "lr": 0.1})
    assert key({"x": 1, "lr": 0.1}) != key({"x": 1, "lr": 0.2})


def test_strategies_without_the_key_graph_stay_what_they_are() -> None:
    strategy = Keyed(Plain(), key=len)
    assert with_graph_keys(strategy, Model(), Model.space) is strategy


def test_the_key_graph_needs_a_model() -> None:
    with pytest.raises(ValueError, match=r"key='graph'` needs a model"):
        with_graph_keys(Keyed(Plain(), key="graph"), None, Model.space)


def test_a_search_space_may_be_any_mapping() -> None:
    assert model_and_space(Model.space) == (None, Model.space)
    assert model_and_space(dict(Model.space)) == (None, Model.space)


# -- the folder --------------------------------------------------------------------------------------


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ExperimentError, match=r"file is a file; give `directory` the path of a folder"):
        folder.make(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExperimentError, match=r"file/below cannot be written \(Not a directory\)"):
        folder.make(tmp_path / "file" / "below")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ExperimentError, match=r"cannot be written \(Permission denied\)"):
        folder.make(tmp_path)


def enter(directory: Path) -> None:
    with folder.only_driver(directory):
        pass


def test_this_process_cannot_drive_a_folder_twice(tmp_path: Path) -> None:
    with folder.only_driver(tmp_path):
        for _ in range(2):
            with pytest.raises(ExperimentError, match="is being worked on by this process"):
                enter(tmp_path)
    enter(tmp_path)


def test_another_driver_is_refused_by_its_number_and_host_until_it_dies(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from lightning_nas.experiment import folder
        with folder.only_driver(Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        for _ in range(2):
            with pytest.raises(ExperimentError, match=rf"worked on by process {other.pid} on .+; wait"):
                enter(tmp_path)
        other.kill()
        other.wait()
        enter(tmp_path)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    folder.replace(path, b"one")
    folder.replace(path, b"two")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"two"


# -- the best ----------------------------------------------------------------------------------------


def completed(directory: Path, number: int, text: str) -> Trial:
    """A completed trial whose weights are a file with `text`."""
    place = directory / "trials" / str(number)
    place.mkdir(parents=True)
    (place / "weights.pt").write_text(text)
    artifacts = {"weights": f"trials/{number}/weights.pt"}
    return Trial(number, {"x": number}, Status.COMPLETED, {"acc": 0.5}, 0.5, artifacts=artifacts)


def contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (directory / "best").iterdir()}


def test_the_best_folder_holds_one_trial_and_nothing_of_the_one_before(tmp_path: Path) -> None:
    assert kept_number(tmp_path) is None
    keep_best(tmp_path, completed(tmp_path, 0, "first"))
    (tmp_path / "best" / "net.py").write_text("of the first")
    keep_best(tmp_path, completed(tmp_path, 4, "fourth"))
    found = contents(tmp_path)
    assert sorted(found) == ["metrics.json", "sample.json", "weights.pt"]
    assert found["weights.pt"] == "fourth"
    assert json.loads(found["sample.json"]) == {"x": 4}
    assert json.loads(found["metrics.json"]) == {"trial": 4, "score": 0.5, "metrics": {"acc": 0.5}}
    assert kept_number(tmp_path) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "trials"]


@pytest.mark.parametrize("step", range(3))
def test_a_best_folder_is_whole_wherever_its_change_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Cut off before the first rename, before the second, or before the old one is removed."""
    keep_best(tmp_path, completed(tmp_path, 0, "first"))
    new = completed(tmp_path, 1, "second")
    rename, count = Path.rename, iter(range(9))

    def cut(path: Path, target: Path) -> Path:
        if next(count) == step:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", cut)
    if step < 2:
        with pytest.raises(KeyboardInterrupt):
            keep_best(tmp_path, new)
        assert kept_number(tmp_path) in (0, None)
    monkeypatch.undo()
    keep_best(tmp_path, new)
    assert contents(tmp_path)["weights.pt"] == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "trials"]


def test_a_failed_export_is_told_beside_the_best(tmp_path: Path) -> None:
    keep_best(tmp_path, completed(tmp_path, 0, "first"))

    def export(formatter: str) -> None:
        if formatter == "onnx":
            raise RuntimeError("no such operation: fold")

    assert not is_exported(tmp_path)
    assert export_best(tmp_path, export) == ["onnx: RuntimeError: no such operation: fold"]
    assert is_exported(tmp_path)
    assert contents(tmp_path)["export.log"] == "code: written\nonnx: RuntimeError: no such operation: fold\n"


# -- what is shown -----------------------------------------------------------------------------------

FAILED = Trial(
    1,
    {"x": 0.5},
    Status.FAILED,
    reason="ValueError: [bold]",
    traceback="Traceback:\n[red]",
    started=0,
    finished=1,
)
TRIALS = [
    Trial(0, {"x": 0.25}, Status.COMPLETED, {"acc": 0.875, "loss": 1.0}, 0.875, started=0, finished=75),
    FAILED,
    Trial(2, {"x": 0.75}, Status.RUNNING, intermediate=(Intermediate(4, {"acc": 0.5}),), started=0),
]


def test_without_a_terminal_each_trial_that_ends_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    display = make_display(None, Objective("acc"), 20, runs_here=True)
    assert isinstance(display, Lines)
    with display:
        for trial in TRIALS:
            display.show(TRIALS, trial)
        display.say("done")
    assert capsys.readouterr().out.splitlines() == [
        "[2/20] trial 0 completed in 1 min 15 s: acc = 0.875  x=0.25",
        "[2/20] trial 1 failed in 1 s: ValueError: [bold]  x=0.5",
        "done",
    ]


def test_failures_are_shown_with_the_last_traceback_and_markup_is_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    display = Lines(Objective(), None)
    display.failures(TRIALS)
    out = capsys.readouterr().out
    assert "1 of 3 trials failed" in out
    assert "ValueError: [bold]" in out
    assert "Trial 1:\nTraceback:\n[red]" in out
    display.failures(TRIALS[:1])
    assert capsys.readouterr().out == ""


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    display = make_display(False, Objective(), 20, runs_here=True)
    assert isinstance(display, Silence)
    with display:
        display.show(TRIALS, TRIALS[0])
        display.say("done")
        display.failures(TRIALS)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_the_best_the_running_and_the_last_are_a_table() -> None:
    from rich.console import Console

    page = io.StringIO()
    console = Console(file=page, force_terminal=True, width=120, color_system=None)
    with LiveTable(console, Objective("acc"), 20, refresh=False) as display:
        display.show([], None)
        display.show(TRIALS, TRIALS[2])
        display.say("a [word] aside")
    text = page.getvalue()
    rows = [line.split() for line in text.splitlines()]
    assert ["best", "0", "acc", "=", "0.875", "1", "min", "15", "s", "x=0.25"] in rows
    assert ["failed", "1", "ValueError:", "[bold]", "1", "s", "x=0.5"] in rows
    assert any(row[:6] == ["running", "2", "4", "acc", "=", "0.5"] for row in rows)
    assert "2/20" in text
    assert "left" in text
    assert "1 failed" in text
    assert "a [word] aside" in text


# -- the machine -------------------------------------------------------------------------------------


def test_the_environment_is_json_and_names_versions() -> None:
    found = json.loads(json.dumps(environments.environment()))
    assert found["packages"]["numpy"] == np.__version__
    assert found["python"].split(".")[0] == "3"


def test_the_commit_has_a_plus_where_files_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environments.environment()["commit"] is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    (tmp_path / "file").write_text("one")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    commit = environments.environment()["commit"]
    assert len(commit) == 40
    (tmp_path / "file").write_text("two")
    assert environments.environment()["commit"] == commit + "+"


@pytest.mark.parametrize(
    ("given", "expected"), [("", []), ("-1", []), ("0", ["0"]), ("2, GPU-a", ["2", "GPU-a"])]
)
def test_the_visible_gpus_are_those_the_user_left(
    given: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert environments.visible_gpus() == expected


def test_floats_in_samples_are_shown_short() -> None:
    space = SearchSpace({"lr": Float(0, 1)})
    assert space.why_not({"lr": 1 / 3}) is None
    line = io.StringIO()
    display = Lines(Objective(), None)
    original, sys.stdout = sys.stdout, line
    try:
        display.show([], Trial(0, {"lr": 1 / 3}, Status.COMPLETED, {"default": 1.0}, 1.0))
    finally:
        sys.stdout = original
    assert "lr=0.3333" in line.getvalue()
