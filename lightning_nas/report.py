"""The trial that is being run: how user code reports to it from inside.

`report_intermediate_result` and `report_final_result` find their trial in a `ContextVar`, so that
a training function written for NNI needs no further argument. It is one of the two ambient values
of this package (the other is the chooser of a model being built).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_nas.trial import Candidate, Metrics, Report, Sample, as_metrics

_log = logging.getLogger(__name__)


class TrialStopped(Exception):
    """A stopping rule ended the trial: raised inside the user's function, caught by the evaluator."""


@dataclass
class RunningTrial:
    """The trial that user code runs in; `final` is None until a final result is reported."""

    candidate: Candidate
    report: Report
    final: Metrics | None = None
    steps: int = 0


_current: ContextVar[RunningTrial | None] = ContextVar("lightning_nas_current_trial", default=None)


@contextlib.contextmanager
def running(candidate: Candidate, report: Report) -> Iterator[RunningTrial]:
    """Makes `candidate` the current trial within the `with` block."""
    # What goes on from a checkpoint counts on; what begins anew reports the same steps again.
    trial = RunningTrial(candidate, report, steps=0 if candidate.resume_from is None else candidate.steps)
    token = _current.set(trial)
    try:
        yield trial
    finally:
        _current.reset(token)


def report_intermediate_result(value: Any, *, step: int | None = None) -> None:
    """Reports progress of the current trial: a number, or a dict of numbers.

    The step counts the calls from 0; in a trial that goes on from a checkpoint, from where it was paused. A
    function that writes checkpoints between its reports had better give `step` itself. One that may be paused
    writes its checkpoint before it reports. Outside a trial the value is logged and nothing else happens, so
    the same script runs on its own.

    Raises:
        TrialStopped: if a stopping rule ends the trial here. Let it pass.
        MetricError: if `value` is neither a number nor a dict of numbers.
    """
    metrics = as_metrics(value)
    trial = _current.get()
    if trial is None:
        _log.info("Intermediate result (no trial is running): %s", metrics)
        return
    step = trial.steps if step is None else step
    trial.steps = step + 1
    if not trial.report(step, metrics):
        raise TrialStopped(f"stopped by a stopping rule at step {step}")


def report_final_result(value: Any) -> None:
    """Reports the final result of the current trial: a number, or a dict of numbers.

    Outside a trial the value is logged and nothing else happens. The last call counts.

    Raises:
        MetricError: if `value` is neither a number nor a dict of numbers.
    """
    metrics = as_metrics(value)
    trial = _current.get()
    if trial is None:
        _log.info("Final result (no trial is running): %s", metrics)
        return
    trial.final = metrics


def current_trial() -> RunningTrial | None:
    """The trial that runs here, or None outside a trial."""
    return _current.get()


def current_sample() -> Sample | None:
    """The sample of the current trial, or None outside a trial."""
    trial = _current.get()
    return dict(trial.candidate.sample) if trial is not None else None


def resume_checkpoint() -> Path | None:
    """The checkpoint that an earlier attempt of the current trial left; None if there is none, or no trial."""
    trial = _current.get()
    return trial.candidate.resume_from if trial is not None else None


def output_directory() -> Path | None:
    """The current trial's own folder, for checkpoints and other files; None outside a trial."""
    trial = _current.get()
    return trial.candidate.directory if trial is not None else None
