"""The loggers in a LightningCLI config, for one trial."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from lightning_nas.evaluators.loggers import LOGS, is_in_files, names_of, read_run_ids, steps_in
from lightning_nas.loading import load
from lightning_nas.trial import Candidate


def loggers_of_trial(configured: Any, candidate: Candidate, lightning: str) -> Any:
    """The config of loggers whose run is that of the trial, also when it goes on.

    Args:
        configured: `trainer.logger` of a whole config, with all defaults written out.
        candidate: the trial. TensorBoardLogger and CSVLogger write to `logs` in its folder; others are given its
            names where the config says null, and that folder as their `save_dir`.
        lightning: the root, for the logger that Lightning takes by itself.
    """
    if configured is False:
        return False
    if configured in (None, True):
        has_tensorboard = find_spec("tensorboard") or find_spec("tensorboardX")
        name = "TensorBoardLogger" if has_tensorboard else "CSVLogger"
        configured = {"class_path": f"{lightning}.loggers.{name}", "init_args": {}}
    if isinstance(configured, dict):
        return _of_trial(configured, candidate, 0)
    return [_of_trial(logger, candidate, index) for index, logger in enumerate(configured)]


def _of_trial(logger: dict[str, Any], candidate: Candidate, index: int) -> dict[str, Any]:
    module, _, name = logger["class_path"].rpartition(".")
    cls = load(f"{module}:{name}")
    folder = candidate.directory.absolute()
    arguments = dict(logger.get("init_args", {}))
    if is_in_files(cls):
        arguments |= {"save_dir": str(folder), "name": "", "version": LOGS}
        further = dict(logger.get("dict_kwargs", {}))
        if is_in_files(cls, "TensorBoardLogger") and (folder / LOGS).is_dir():
            # What an earlier attempt logged after its checkpoint is not shown.
            further["purge_step"] = steps_in(candidate.resume_from)
        return {**logger, "init_args": arguments, **({"dict_kwargs": further} if further else {})}
    run_ids = read_run_ids(candidate)
    for key, value in names_of(candidate, run_ids[index] if index < len(run_ids) else None).items():
        if key in arguments and arguments[key] is None:
            arguments[key] = value
    if "save_dir" in arguments:
        arguments["save_dir"] = str(folder / LOGS)
    return {**logger, "init_args": arguments}
