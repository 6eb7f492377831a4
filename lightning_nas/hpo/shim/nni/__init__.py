"""NNI's trial API: what a trial script uses of `import nni`, by way of files in the trial's folder.

Beside it the base class of tuners, `nni.tuner.Tuner`.

It stands alone, so that it also works where a trial's Python has neither NNI nor this library, and it
imports in milliseconds. Imported as `nni` where the real NNI is installed, it steps aside for it.

The parameters are read from `parameter.cfg` in the folder NNI_SYS_DIR; results are appended to
`.nni/metrics` there, each as `ME`, six digits for the number of bytes, and that many bytes of JSON. This is
how the real NNI speaks to its own driver, so either can be on the other side.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import os
import sys
import warnings
from typing import Any

__all__ = [
    "NoMoreTrialError",
    "get_current_parameter",
    "get_experiment_id",
    "get_next_parameter",
    "get_sequence_id",
    "get_trial_id",
    "report_final_result",
    "report_intermediate_result",
    "utils",
]


class NoMoreTrialError(Exception):
    """A tuner has no more parameters to try."""


_MAX_BYTES = 999_999
_STANDALONE = "STANDALONE"

utils = importlib.import_module(f"{__name__}.utils")

_parameters: dict[str, Any] | None = None
_reports = 0


def get_next_parameter() -> dict[str, Any]:
    """The parameters of this trial, the same at each call.

    Outside of a trial it is an empty dict, with a RuntimeWarning, so that a script runs on its own with its
    own defaults.
    """
    global _parameters
    directory = _directory()
    if directory is None:
        warnings.warn(
            "Running NNI code without runtime: no trial is running, so there are no parameters and the script's "
            "own defaults count.",
            RuntimeWarning,
            stacklevel=2,
        )
        _parameters = {}
    elif _parameters is None:
        with open(os.path.join(directory, "parameter.cfg"), encoding="utf-8") as file:
            _parameters = json.load(file)["parameters"]
    return dict(_parameters)


def get_current_parameter(tag: str | None = None) -> Any:
    """What `get_next_parameter` gave, or its value for `tag`; None before it was called."""
    if _parameters is None or tag is None:
        return None if _parameters is None else dict(_parameters)
    return _parameters[tag]


def report_intermediate_result(metric: Any) -> None:
    """Reports progress: a number, or a dict of numbers whose `default` is the one that counts."""
    global _reports
    _report("PERIODICAL", metric, _reports)
    _reports += 1


def report_final_result(metric: Any) -> None:
    """Reports the result: a number, or a dict of numbers whose `default` is the one that counts."""
    _report("FINAL", metric, 0)


def get_experiment_id() -> str:
    """The name of the experiment; "STANDALONE" outside of a trial."""
    return os.environ.get("NNI_EXP_ID", _STANDALONE)


def get_trial_id() -> str:
    """The name of the trial; "STANDALONE" outside of a trial."""
    return os.environ.get("NNI_TRIAL_JOB_ID", _STANDALONE)


def get_sequence_id() -> int:
    """The number of the trial, from 0; 0 outside of a trial."""
    return int(os.environ.get("NNI_TRIAL_SEQ_ID", "0"))


def _directory() -> str | None:
    return os.environ.get("NNI_SYS_DIR") if os.environ.get("NNI_PLATFORM") else None


def _report(kind: str, metric: Any, sequence: int) -> None:
    plain = _plain(metric)
    directory = _directory()
    if directory is None:
        name = "Intermediate" if kind == "PERIODICAL" else "Final"
        print(
            f"{name} result: {plain}" + (f"  (Index {sequence})" if kind == "PERIODICAL" else ""), flush=True
        )
        return
    message = {
        "parameter_id": get_sequence_id(),
        "trial_job_id": get_trial_id(),
        "type": kind,
        "sequence": sequence,
        "value": json.dumps(plain),
    }
    data = (json.dumps(message) + "\n").encode()
    if len(data) > _MAX_BYTES:
        raise ValueError(f"A result may have up to {_MAX_BYTES} bytes, but this one has {len(data)}.")
    os.makedirs(os.path.join(directory, ".nni"), exist_ok=True)
    with open(os.path.join(directory, ".nni", "metrics"), "ab") as file:
        file.write(b"ME%06d%b" % (len(data), data))  # one write, so that two processes do not mix theirs


def _plain(metric: Any) -> Any:
    """A number or a dict of numbers, with those of numpy and torch as Python's own."""
    if isinstance(metric, dict):
        return {str(name): _plain(value) for name, value in metric.items()}
    if isinstance(metric, (bool, int, float, str)) or metric is None:
        return metric
    if hasattr(metric, "item"):
        return metric.item()
    return float(metric)


def _real() -> importlib.machinery.ModuleSpec | None:
    """The real NNI, if it is installed further along the path."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    rest = [path for path in sys.path if os.path.abspath(path or os.curdir) != here]
    found = importlib.machinery.PathFinder.find_spec("nni", rest)
    return found if found is not None and found.origin is not None else None


def _step_aside() -> None:
    """Puts the real NNI in the place of this module, if there is one."""
    found = _real()
    if found is None or found.loader is None:
        return
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or os.curdir) != here]
    for name in [name for name in sys.modules if name == "nni" or name.startswith("nni.")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    importlib.import_module("nni")


if __name__ == "nni":
    _step_aside()
