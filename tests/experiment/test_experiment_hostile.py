"""What trials report and raise: nothing of it ends the search."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_nas.experiment import Experiment, SqliteStore
from lightning_nas.space import Float
from lightning_nas.strategies import Random
from lightning_nas.testing.runners import Evaluates
from lightning_nas.trial import Status, Trial

pytestmark = pytest.mark.usefixtures("warm_server")

RUNNERS: dict[str, dict[str, Any]] = {
    "inprocess": {"runner": "inprocess"},
    "processes": {},
    "reused": {"reuse": True},
}


def search(directory: Path, function: Callable[..., Any], **settings: Any) -> list[Trial]:
    """The trials of a search, which is also what its store says."""
    settings = {"max_trials": 2, "concurrency": 1, "progress": False, **settings}
    exp = Experiment({"x": Float(0, 1)}, Evaluates(function), Random(), directory=directory, **settings).run()
    store = SqliteStore.open(directory)
    try:
        assert store.trials() == exp.trials
    finally:
        store.close()
    return exp.trials


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_error_that_is_no_text_is_kept_escaped(tmp_path: Path, runner: str) -> None:
    def fail(candidate: Any, report: Any) -> None:
        raise OSError(os.fsdecode(b"no file \xff\xfe"))

    trials = search(tmp_path, fail, **RUNNERS[runner])
    assert [trial.reason for trial in trials] == [r"OSError: no file \udcff\udcfe"] * 2


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize(
    ("step", "value", "reason"),
    [
        ("first", 1.0, "The step of a report must be an integer of at least 0, but got 'first'"),
        (-1, 1.0, "integer of at least 0, but got -1"),
        (2**63, 1.0, "integer of at least 0, but got 9223372036854775808"),
        (float("nan"), 1.0, "integer of at least 0, but got nan"),
        (0, None, "'default' is of type NoneType"),
        (0, {"x": 10**400}, "'x' is of type int"),
        (0, np.ones(2), "'default' is of type ndarray"),
    ],
)
def test_a_report_of_the_wrong_type_is_the_trials_failure(
    tmp_path: Path, runner: str, step: Any, value: Any, reason: str
) -> None:
    def report_it(candidate: Any, report: Any) -> float:
        if candidate.number == 0:
            report(step, value)
        return 1.0

    trials = search(tmp_path, report_it, **RUNNERS[runner])
    assert [trial.status for trial in trials] == [Status.FAILED, Status.COMPLETED]
    assert "MetricError" in (trials[0].reason or "")
    assert reason in (trials[0].reason or "")
