"""The command `export`: the best models, or all trials as data."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lightning_nas.cli.options import Commands, add_experiment, count
from lightning_nas.cli.reading import as_json, find_trial, open_store
from lightning_nas.errors import ExperimentError

if TYPE_CHECKING:
    from lightning_nas.trial import Trial

_COLUMNS = ("number", "status", "score", "reason", "started", "finished", "duration_s")


def add(commands: Commands) -> None:
    """Adds the commands."""
    export = commands.add(
        "export",
        _export,
        "Export the best models of an experiment, each proved equal first; or all its trials.",
    )
    add_experiment(export)
    which = export.add_mutually_exclusive_group()
    which.add_argument("--top", type=count(1), metavar="K", help="the K best (default: 1; with --type all)")
    which.add_argument("--trial", type=count(0), metavar="NUMBER", help="this one instead")
    what = export.add_mutually_exclusive_group()
    what.add_argument(
        "--format",
        choices=("dict", "code", "onnx"),
        default="dict",
        help="dict: the chosen values; code: a Python file that needs only torch; onnx (default: %(default)s)",
    )
    what.add_argument(
        "-t",
        "--type",
        choices=("json", "csv"),
        help="the trials instead: samples, metrics, status and times; json also has their intermediate results",
    )
    export.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="where to write: a folder (default: DIR/export; dict: print); with --type a file (default: print)",
    )
    export.epilog = (
        "code and onnx rebuild the models by the code that searched, kept in DIR/experiment.pkl: "
        "use them only on experiments that you trust."
    )


def _export(options: argparse.Namespace) -> None:
    if options.type is not None:
        _export_trials(options.experiment, options.type, options.top, options.trial, options.output)
    elif options.format == "dict":
        _export_samples(options.experiment, options.top or 1, options.trial, options.output)
    else:
        from lightning_nas.cli.running import find_users_code

        find_users_code(options.experiment)
        from lightning_nas.experiment import Experiment

        experiment = Experiment.resume(options.experiment)
        if options.trial is not None:
            print(experiment.export_trial(options.trial, options.format, options.output))
            return
        for path in experiment.export_top_models(options.top or 1, options.format, options.output):
            print(path)


def _export_samples(directory: Path, top: int, number: int | None, output: Path | None) -> None:
    from lightning_nas.trial import best

    with open_store(directory) as store:
        leaders = best(store.trials(), top) if number is None else [find_trial(store, number)]
    if not leaders:
        raise ExperimentError(f"There is nothing to export from {directory}: no trial has completed.")
    if output is None:
        print(json.dumps([trial.sample for trial in leaders], indent=2))
        return
    for trial in leaders:
        path = output / str(trial.number) / "sample.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(trial.sample, indent=2) + "\n")
        print(path)


def _export_trials(
    directory: Path, kind: str, top: int | None, number: int | None, output: Path | None
) -> None:
    from lightning_nas.trial import best

    with open_store(directory) as store:
        trials = store.trials() if number is None else [find_trial(store, number)]
    if top is not None:
        trials = best(trials, top)
    with _opened(output) as file:
        if kind == "json":
            json.dump([as_json(trial) for trial in trials], file, indent=2, allow_nan=False)
            file.write("\n")
        else:
            _write_csv(trials, file)


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[IO[str]]:
    if path is None:
        yield sys.stdout
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        yield file
    print(path)


def _write_csv(trials: Sequence[Trial], file: IO[str]) -> None:
    """A line for each trial, a column for each label and each metric; empty where it has none."""
    columns = dict.fromkeys(_COLUMNS)
    rows: list[dict[str, Any]] = []
    for trial in trials:
        row = {name: getattr(trial, name) for name in _COLUMNS} | {"status": trial.status.value}
        row |= {f"sample.{label}": _cell(value) for label, value in trial.sample.items()}
        row |= {f"metrics.{name}": value for name, value in trial.metrics.items()}
        rows.append(row)
    for prefix in ("sample.", "metrics."):
        columns |= dict.fromkeys(name for row in rows for name in row if name.startswith(prefix))
    writer = csv.DictWriter(file, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _cell(value: Any) -> Any:
    """A value as text: lists as JSON, the rest as it is."""
    return json.dumps(value) if isinstance(value, (tuple, list, dict)) else value
