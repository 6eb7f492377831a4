"""What a sweep adds to the callbacks of a user's LightningCLI: it reports to the trial, and lets it be paused.

LightningCLI takes a callback only from its own Lightning, so the class exists once for each of the two; it
is made when its name is first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_nas.evaluators.callback import ReportCallback, logged_metrics
from lightning_nas.evaluators.loggers import LOGS, Rows, TrialLogs, kept_rows, steps_in
from lightning_nas.evaluators.pausing import trial_checkpoint
from lightning_nas.report import TrialStopped, current_trial, report_final_result, report_intermediate_result
from lightning_nas.trial import Metrics

_ROOTS = {"SweepCallback": "pytorch_lightning", "LightningSweepCallback": "lightning.pytorch"}


def class_path(root: str) -> str:
    """The class to name in a config for a Lightning of this name."""
    return next(f"{__name__}.{name}" for name, other in _ROOTS.items() if other == root)


class _SweepCallback:
    """Reports each validation run of the current trial, and all metrics in the end. Without a trial it does nothing.

    On several devices each rank has one: the others only hear what rank 0, which is the trial, was told.

    Args:
        checkpoint: the file that lets the trial go on later (see `pausing`).
        may_pause: whether a training that is told to stop is to go on later.
    """

    def __init__(self, checkpoint: str, may_pause: bool = False) -> None:
        self._checkpoint = Path(checkpoint)
        self._may_pause = may_pause
        self._metrics: Metrics = {}
        self._is_set_up = False
        self._rows = _rows()  # now: a CSVLogger deletes them when it is first used

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit" or self._is_set_up:
            return
        self._is_set_up = True
        # Only now: at its construction the Trainer would take ours for the user's own checkpoint callback.
        trainer.callbacks += [TrialLogs(self._rows), ReportCallback(_report)]
        lightning = importlib.import_module(_ROOTS[type(self).__name__])
        trainer.callbacks.append(trial_checkpoint(lightning, self._checkpoint, self._may_pause))

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._metrics |= logged_metrics(trainer)
        report_final_result(self._metrics)


def _rows() -> Rows:
    """What an earlier attempt of the trial left in its CSV file."""
    trial = current_trial()
    if trial is None:
        return {}
    return kept_rows(str(trial.candidate.directory.absolute() / LOGS), steps_in(trial.candidate.resume_from))


def _report(step: int, metrics: Mapping[str, float]) -> bool:
    try:
        report_intermediate_result(metrics, step=step)
    except TrialStopped:
        return False
    return True


def __getattr__(name: str) -> Any:
    if name not in _ROOTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    lightning = importlib.import_module(_ROOTS[name])
    made = type(name, (_SweepCallback, lightning.Callback), {"__module__": __name__})
    globals()[name] = made
    return made
