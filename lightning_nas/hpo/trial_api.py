"""NNI's trial API under our own name: in a script trial, in a trial of a Python function, or alone."""

from __future__ import annotations

from typing import Any

from lightning_nas import report
from lightning_nas.hpo.shim import nni
from lightning_nas.hpo.shim.nni import get_experiment_id, get_sequence_id, get_trial_id
from lightning_nas.hpo.shim.nni.utils import merge_parameter

__all__ = [
    "get_current_parameter",
    "get_experiment_id",
    "get_next_parameter",
    "get_sequence_id",
    "get_trial_id",
    "merge_parameter",
    "report_final_result",
    "report_intermediate_result",
]


def get_next_parameter() -> dict[str, Any]:
    """The parameters of this trial; an empty dict outside of one, with a RuntimeWarning."""
    sample = report.current_sample()
    return nni.get_next_parameter() if sample is None else sample


def get_current_parameter(tag: str | None = None) -> Any:
    """The parameters of this trial, or the value for `tag`; None before they were asked for."""
    sample = report.current_sample()
    if sample is None:
        return nni.get_current_parameter(tag)
    return sample if tag is None else sample[tag]


def report_intermediate_result(metric: Any) -> None:
    """Reports progress: a number, or a dict of numbers whose `default` is the one that counts.

    Raises:
        TrialStopped: in a trial of a Python function, if a stopping rule ends it. Let it pass.
    """
    inside = report.current_sample() is not None
    (report if inside else nni).report_intermediate_result(metric)


def report_final_result(metric: Any) -> None:
    """Reports the result: a number, or a dict of numbers whose `default` is the one that counts."""
    inside = report.current_sample() is not None
    (report if inside else nni).report_final_result(metric)
