"""The experiment that a file of NNI's describes, and how it goes on without a pickle: by the file it keeps."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lightning_nas.experiment import Experiment, Ray, folder
from lightning_nas.hpo.config_file import ExperimentConfig, read_config
from lightning_nas.hpo.documents import ConfigError
from lightning_nas.hpo.machines import FILE, write_cluster_file

KEPT = "config.json"


def load_experiment(
    path: str | Path, directory: str | Path | None = None, *, text: str | None = None, **changes: Any
) -> Experiment:
    """The `Experiment` that a file of NNI's describes, ready to `run`.

    A file with a list of remote machines is run on Ray: on the one of RAY_ADDRESS, or of `runner`. Without
    either, a cluster file for `ray up` is written beside it.

    Args:
        path: of the file.
        directory: of the experiment; None takes the file's working directory and name, else
            `runs/<date>-<time>`.
        text: what the file held once; None reads it.
        changes: further arguments of `Experiment`, such as `seed`.

    Raises:
        ConfigError: if the file is wrong, or its machines are not reached yet; the message says how.
        ExperimentError: if the directory cannot be used or holds another experiment.
    """
    config = read_config(path, text)
    if config.machines and "runner" not in changes:
        changes = {**changes, "runner": _on_machines(Path(path), config)}
    if directory is None and config.working_directory is not None:
        directory = config.working_directory / (config.name or Path(path).stem)
    arguments: dict[str, Any] = {
        "directory": directory,
        "max_trials": config.max_trials,
        "max_duration": config.max_duration_s,
        "concurrency": config.concurrency,
        "objective": "default",
        "mode": config.mode,
        "stopping": config.stopping,
        **changes,
    }
    return Experiment(config.space.space, config.evaluator, config.tuned.strategy, **arguments)


def _on_machines(path: Path, config: ExperimentConfig) -> Ray:
    """The Ray cluster that stands for the file's machines, once there is one."""
    if os.environ.get("RAY_ADDRESS"):
        return Ray(gpus_per_trial=config.gpus)
    file = path.absolute().parent / FILE
    is_new = write_cluster_file(file, config.name or path.stem, config.machines)
    raise ConfigError(
        f"{path}: its machines are reached through Ray; {file} {'is written' if is_new else 'is there'}: read it, "
        f"start the cluster with `ray up {FILE}`, and give the same command again with "
        f"RAY_ADDRESS=ray://{config.machines[0].host}:10001 in the environment."
    )


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
