"""What the commands share that read an experiment, without torch and without a pickle."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nas.errors import ExperimentError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lightning_nas.experiment.store import SqliteStore
    from lightning_nas.trial import Trial


def open_store(directory: Path) -> contextlib.closing[SqliteStore]:
    """The store of an experiment.

    Raises:
        StoreError: if there is no experiment, or it cannot be read.
    """
    from lightning_nas.experiment.store import SqliteStore

    return contextlib.closing(SqliteStore.open(directory))


def find_trial(store: SqliteStore, number: int) -> Trial:
    """The trial of a number.

    Raises:
        ExperimentError: if there is none.
    """
    trial = store.trial(number)
    if trial is None:
        total = sum(store.counts().values())
        have = f"they are 0 to {total - 1}" if total else "there are none yet"
        raise ExperimentError(f"There is no trial {number}; {have}.")
    return trial


def experiments(root: Path) -> list[Path]:
    """The folders of the experiments under `root`.

    Raises:
        ExperimentError: if there is no such folder.
    """
    from lightning_nas.experiment.summary import find_experiments

    if not root.is_dir():
        raise ExperimentError(f"There is no folder {root}.")
    return list(find_experiments(root))


def name_of(directory: Path, root: Path) -> str:
    """What an experiment under `root` is called: the way to it from there."""
    return str(directory if directory == root else directory.relative_to(root))


def as_json(trial: Trial) -> dict[str, Any]:
    """All that is known of a trial; JSON can hold it."""
    return {
        **vars(trial),
        "status": trial.status.value,
        "metrics": _finite(trial.metrics),
        "intermediate": [
            {"step": each.step, "metrics": _finite(each.metrics)} for each in trial.intermediate
        ],
        "artifacts": dict(trial.artifacts),
        "duration_s": trial.duration_s,
    }


def _finite(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """NaN and infinities as strings, for which JSON has no numbers."""
    return {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}


def console() -> Console:
    """Where tables are printed: as wide as the terminal, and in a pipe as wide as they are."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 100_000)


def table(columns: Mapping[str, str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of plain text: a value such as "[3, 3]" is no markup.

    Args:
        columns: their titles; how each is set: "left", "right", or "wrap" for one that may take lines.
        rows: the cells.
    """
    from rich.table import Table
    from rich.text import Text

    result = Table(box=None, pad_edge=False)
    for title, style in columns.items():
        result.add_column(title, justify="right" if style == "right" else "left", no_wrap=style != "wrap")
    for row in rows:
        result.add_row(*map(Text, row))
    return result
