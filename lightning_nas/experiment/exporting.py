"""The model of a trial, handed over as code, as ONNX or as a module."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from lightning_nas.errors import ExperimentError
from lightning_nas.experiment.tidying import DELETED
from lightning_nas.trial import Trial

Formatter = Literal["dict", "code", "onnx", "instance"]


def export_trial(
    directory: Path, model: Any, trial: Trial, formatter: Formatter, output: Path, keep_weights: int | None
) -> Any:
    """The model of a trial with its trained weights, proved to compute what the trained one computes.

    Args:
        directory: of the experiment.
        model: its model space; None if it has none.
        trial: one that has a score.
        formatter: what to make.
        output: the folder for the files.
        keep_weights: how many of the best trials have kept theirs.

    Raises:
        ExperimentError: if there is no model, or the weights were deleted.
        ExportError: if the model cannot be exported, or its export computes something else.
    """
    if model is None:
        raise ExperimentError(
            "There is no model to export: the experiment was given a search space; use formatter='dict'."
        )
    from lightning_nas.export import export_model

    weights, inputs = (trial.artifacts.get(name) for name in ("weights", "inputs"))
    if weights is None and DELETED in trial.artifacts:
        raise ExperimentError(
            f"The weights of trial {trial.number} were deleted, since it was not among the best "
            f"{keep_weights} (keep_weights); ask for fewer models, or for formatter='dict'."
        )
    sample = {label: value for label, value in trial.sample.items() if label in model.space}
    return export_model(
        model,
        sample,
        formatter,
        directory=output,
        weights=None if weights is None else directory / weights,
        inputs=None if inputs is None else directory / inputs,
        metrics=trial.metrics,
    )
