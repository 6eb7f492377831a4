"""The experiment file that an experiment was created from, kept in its folder: it goes on without a pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nas.experiment import folder
from lightning_nas.hpo.config_file import load_experiment
from lightning_nas.hpo.documents import ConfigError

if TYPE_CHECKING:
    from lightning_nas.experiment import Experiment

KEPT = "config.json"


def keep_config(path: str | Path, directory: Path) -> None:
    """Keeps an experiment file in the folder of its experiment, and where it was: paths in it are from there."""
    path = Path(path).absolute()
    content = {"file": str(path), "text": path.read_text(encoding="utf-8-sig")}
    folder.replace(directory / KEPT, json.dumps(content, indent=2).encode())


def resume_config(directory: str | Path, **changes: Any) -> Experiment | None:
    """The `Experiment` of a folder by the file kept there, ready to `run` on; None if there is no such file.

    The search space and the code are read from where they were.

    Args:
        directory: of the experiment.
        changes: arguments of `Experiment` that are to differ, such as `max_trials`.

    Raises:
        ConfigError: if the file no longer holds, in one line.
        ExperimentError: if it describes another experiment than the folder holds.
    """
    kept = Path(directory) / KEPT
    if not kept.exists():
        return None
    try:
        content = json.loads(kept.read_text(encoding="utf-8"))
        path, text = str(content["file"]), str(content["text"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{kept}: it is not what `create` writes ({error!r}).") from None
    return load_experiment(path, directory, text=text, **changes)
