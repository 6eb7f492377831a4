"""`run(ui=True)`, and the trials that the page exports."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest
from stored import made, trial

from lightning_nas import cli
from lightning_nas.dashboard.exports import Failure, export
from lightning_nas.errors import ExperimentError
from lightning_nas.evaluators import FunctionalEvaluator
from lightning_nas.experiment import Experiment, page
from lightning_nas.space import Float
from lightning_nas.strategies import Random
from lightning_nas.trial import Status


def experiment(directory: Path, address: str = "", seen: list[bytes] | None = None) -> Experiment:
    """A search of one trial, which looks at a page and notes what it sees."""

    def look(sample: dict[str, float]) -> float:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=30) as answer:
                (seen if seen is not None else []).append(answer.read())
                break
            time.sleep(0.05)
        return sample["x"]

    return Experiment(
        {"x": Float(0, 1)},
        FunctionalEvaluator(look),
        Random(),
        directory=directory,
        max_trials=1,
        runner="inprocess",
        progress=False,
    )


@pytest.mark.slow
def test_a_search_is_shown_while_it_runs(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    seen: list[bytes] = []
    search = experiment(tmp_path / "exp", f"http://127.0.0.1:{port}/experiment/~2E", seen)
    try:
        assert search.run(ui=port).best is not None
        assert b"lightning-nas" in seen[0]
    finally:
        process = page._pages.pop()
        os.kill(process.pid, signal.SIGTERM)
        process.wait(30)


def test_a_port_that_is_taken_ends_the_run_before_a_trial_is_asked_for(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        search = experiment(tmp_path / "exp")
        with pytest.raises(
            ExperimentError, match=f"Port {port} is taken by process {os.getpid()} .*; port [0-9]+ is free."
        ):
            search.run(ui=port)
    assert search.trials == []


def test_a_failed_export_is_told_in_the_words_of_the_command(tmp_path: Path) -> None:
    made_one = made(tmp_path / "exp", [trial(0)])
    failure = export(made_one, 0, "onnx")
    assert isinstance(failure, Failure)
    assert "experiment.pkl" in failure.text
    assert "Traceback" not in failure.text


def test_the_command_line_exports_one_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = made(tmp_path / "exp", [trial(0, acc=0.1), trial(1, acc=0.9), trial(2, Status.FAILED)])
    assert cli.main(["export", str(directory), "--trial", "0"]) == 0
    assert '"lr": 0.5' in capsys.readouterr().out
    assert cli.main(["export", str(directory), "--trial", "0", "-t", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert cli.main(["export", str(directory), "--trial", "9"]) == 2
    assert "There is no trial 9; they are 0 to 2." in capsys.readouterr().err
