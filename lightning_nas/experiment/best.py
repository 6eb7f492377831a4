"""`DIR/best/`: the best trial so far, as files that need no experiment to be read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from lightning_nas.experiment.folder import BEST
from lightning_nas.trial import Trial

_EXPORT_LOG = "export.log"


def keep_best(directory: Path, trial: Trial) -> None:
    """Makes `DIR/best/` hold `trial`: `sample.json`, `metrics.json`, and weights and config if it has any.

    The folder changes as a whole: whoever reads it never sees files of two trials. Code and ONNX of the
    trial before it are gone.
    """
    draft, old = directory / f".{BEST}.new", directory / f".{BEST}.old"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    _write(draft / "sample.json", trial.sample)
    _write(
        draft / "metrics.json", {"trial": trial.number, "score": trial.score, "metrics": dict(trial.metrics)}
    )
    for name in ("weights", "inputs", "config"):
        if name in trial.artifacts:
            path = directory / trial.artifacts[name]
            shutil.copy2(path, draft / path.name)
    best = directory / BEST
    shutil.rmtree(old, ignore_errors=True)
    if best.exists():
        best.rename(old)
    draft.rename(best)
    shutil.rmtree(old, ignore_errors=True)


def kept_number(directory: Path) -> int | None:
    """The number of the trial in `DIR/best/`, None if there is none or it cannot be read."""
    try:
        number = json.loads((directory / BEST / "metrics.json").read_text())["trial"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) else None


def export_best(directory: Path, export: Callable[[Literal["code", "onnx"]], object]) -> list[str]:
    """Calls `export` for "code" and "onnx"; `DIR/best/export.log` tells what came of it.

    Args:
        directory: of the experiment; `best/` exists.
        export: writes one format into `best/`.

    Returns:
        A line for each format that failed.
    """
    formatters: tuple[Literal["code", "onnx"], ...] = ("code", "onnx")
    sample = directory / BEST / "sample.json"
    whole_sample = sample.read_bytes()  # an export knows the model's labels only
    lines, failures = [], []
    for formatter in formatters:
        try:
            export(formatter)
            lines.append(f"{formatter}: written")
        except Exception as error:  # no trouble of an export may cost a search its end
            failures.append(f"{formatter}: {type(error).__name__}: {error}")
            lines.append(failures[-1])
    sample.write_bytes(whole_sample)
    (directory / BEST / _EXPORT_LOG).write_text("\n".join(lines) + "\n")
    return failures


def is_exported(directory: Path) -> bool:
    """Whether `export_best` has been here since the best trial changed."""
    return (directory / BEST / _EXPORT_LOG).exists()


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
