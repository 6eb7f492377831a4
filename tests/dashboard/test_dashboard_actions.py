"""What a page asks of a search, and what came of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from stored import SPACE, driven, made, trial

from lightning_nas.dashboard.actions import ask, changed, resume_command
from lightning_nas.experiment.requests import Copy, Kill, Retry, Stop
from lightning_nas.trial import Status

TRIALS = [trial(0), trial(1, Status.RUNNING)]
SAMPLE = {"lr": 0.25, "kernel": (5, 5), "act": "relu"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return made(tmp_path / "exp", TRIALS, ended=None)


def test_a_driver_does_what_it_is_asked_for(directory: Path) -> None:
    with driven(directory, TRIALS) as desk:
        answers = [ask(directory, request) for request in (Stop(), Kill(1), Retry(0), Copy(0, SAMPLE))]
    assert [answer.outcome for answer in answers] == ["done"] * 4
    assert desk.told == [
        ("stop", False),
        ("kill", 1),
        (TRIALS[0].sample, "retry of trial 0"),
        (SAMPLE, "changed copy of trial 0"),
    ]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (Kill(0), "Trial 0 does not run: it is completed."),
        (Retry(1), "Trial 1 is running; only one that has ended can be retried."),
        (Kill(7), "There is no trial 7."),
        (Copy(0, {"lr": 5, "kernel": (3, 3), "act": "relu"}), "'lr'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(directory: Path, request_: Kill, why: str) -> None:
    with driven(directory, TRIALS) as desk:
        answer = ask(directory, request_)
    assert answer.outcome == "refused"
    assert why in answer.text
    assert desk.told == []


def test_where_no_driver_runs_it_says_how_to_resume(directory: Path) -> None:
    answer = ask(directory, Retry(0))
    assert answer.outcome == "refused"
    assert f"lightning-nas resume {directory}" in answer.text
    assert not (directory / "requests").exists()


def test_a_driver_that_is_busy_is_waited_for_a_while(directory: Path) -> None:
    from lightning_nas.experiment import folder

    with folder.only_driver(directory):
        answer = ask(directory, Kill(1), patience_s=0.1)
    assert answer.outcome == "waiting"
    assert len(list((directory / "requests").glob("*.json"))) == 1


def test_an_experiment_that_is_gone_is_refused(tmp_path: Path) -> None:
    assert ask(tmp_path, Kill(0)).outcome == "refused"


def test_typed_values_are_read_as_the_label_has_them() -> None:
    texts = {"lr": "1e-1", "kernel": "[5, 5]", "act": "1"}
    assert changed({"lr": 0.5}, texts, SPACE) == {"lr": 0.1, "kernel": (5, 5), "act": "1"}


def test_an_empty_text_leaves_its_label_out() -> None:
    assert changed({"lr": 0.5, "act": "relu"}, {"lr": " "}, SPACE) == {"act": "relu"}


@pytest.mark.parametrize(
    ("label", "text"), [("lr", "5"), ("lr", "NaN"), ("lr", "fast"), ("kernel", "3"), ("act", "tanh")]
)
def test_a_value_that_a_label_cannot_have_is_refused_by_name(label: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{label}: "):
        changed({}, {label: text}, SPACE)


def test_the_command_to_resume_can_be_pasted_into_a_shell() -> None:
    assert resume_command(Path("my runs/a")) == "lightning-nas resume 'my runs/a'"
