"""The verbs that ask a driver for something, and every verb's answer to a mistake: one sentence, exit code 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from experiments import MISSING, TRIALS, Desk, driven, made, mistake, printed

from lightning_nas.experiment import folder


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return made(tmp_path / "exp")


@pytest.fixture
def desk(directory: Path) -> Iterator[Desk]:
    with driven(directory) as desk:
        yield desk


# -- mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    "words",
    ["resume", "view", "view --once", "stop", "stop --now", "show", "export", "export -t csv", "trial ls",
     "trial log D 0", "trial kill D 0", "trial retry D 0", "trial copy D 0 --set lr=1"],
)  # fmt: skip
def test_a_folder_that_holds_no_experiment_is_a_mistake(
    words: str, exists: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path if exists else tmp_path / "nowhere")
    arguments = [place if word == "D" else word for word in words.split()]
    arguments += [] if place in arguments else [place]
    assert f"{MISSING} {place}" in mistake(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["kill", "retry", "copy", "log"])
def test_a_number_that_no_trial_has_is_a_mistake(
    verb: str, directory: Path, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "There is no trial 7; they are 0 to 2." in mistake(capsys, "trial", verb, directory, "7")
    assert "it must be an integer of at least 0, but is 'x'" in mistake(capsys, "trial", verb, directory, "x")
    assert desk.told == []


def test_what_cannot_be_asked_of_a_trial_is_a_mistake(
    directory: Path, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> str:
        return mistake(capsys, "trial", words[0], directory, *words[1:])

    assert "Trial 0 does not run: it is completed." in said("kill", "0")
    assert "Trial 2 is running; only one that has ended can be retried." in said("retry", "2")
    assert "The value of 'lr' is wrong: 7" in said("copy", "0", "--set", "lr=7")
    assert "'momentum'" in said("copy", "0", "--set", "momentum=0.9")
    assert "'kernel'" in said("copy", "0", "--set", "kernel=")
    assert "The sample has no 'kernl' to remove; it has lr, kernel" in said("copy", "0", "--set", "kernl=")
    assert "no 'lr' to remove" in said("copy", "0", "--set", "lr=", "--set", "lr=")
    assert "it must be LABEL=VALUE, but is 'lr'" in said("copy", "0", "--set", "lr")
    assert desk.told == []


@pytest.mark.parametrize(
    "words", ["stop", "stop --now", "trial kill D 2", "trial retry D 0", "trial copy D 0"]
)
def test_without_a_driver_the_answer_says_how_to_resume(
    words: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(directory) if word == "D" else word for word in words.split()]
    arguments += [] if str(directory) in arguments else [str(directory)]
    answer = mistake(capsys, *arguments)
    assert f"No process works on {directory}" in answer
    assert f"`lightning-nas resume {directory}` goes on" in answer
    assert not (directory / "requests").exists()


def test_misspelt_words_are_answered_where_they_stand(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "trial: there is no command 'kil'; did you mean 'kill'?" in mistake(
        capsys, "trial", "kil", "x", "0"
    )
    assert "trial log: there is no option '--tale'; did you mean '--tail'?" in mistake(
        capsys, "trial", "log", directory, "0", "--tale", "3"
    )
    assert "show: 'more' is one argument too many" in mistake(capsys, "show", directory, "more")
    assert "not allowed with argument" in mistake(
        capsys, "export", directory, "-t", "csv", "--format", "onnx"
    )
    assert "There is no folder" in mistake(capsys, "list", directory / "nowhere")
    assert "There is no folder" in mistake(capsys, "top", directory / "nowhere")


# -- asking ------------------------------------------------------------------------------------------


def test_what_is_asked_for_reaches_the_driver(
    directory: Path, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "exp ends when its running trials have" in printed(capsys, "stop", directory)
    assert "exp ends now." in printed(capsys, "stop", directory, "--now")
    assert "Trial 2 of" in printed(capsys, "trial", "kill", directory, "2")
    assert "The sample of trial 1 is queued" in printed(capsys, "trial", "retry", directory, "1")
    printed(capsys, "trial", "copy", directory, "0", "--set", "kernel=[5, 5]", "--set", "lr=0.125")
    assert desk.told == [
        ("stop", False),
        ("stop", True),
        ("kill", 2),
        (TRIALS[1].sample, "retry of trial 1"),
        ({"lr": 0.125, "kernel": (5, 5)}, "changed copy of trial 0"),
    ]


def test_a_driver_that_is_busy_is_told_of(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_nas.cli.asking._PATIENCE_S", 0.05)
    with folder.only_driver(directory):
        assert "has not taken it up yet" in printed(capsys, "stop", directory)
        assert len(list((directory / "requests").iterdir())) == 1
