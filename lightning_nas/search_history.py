"""How a one-shot search went, as data that a page without torch can draw."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = "search.jsonl"
"""Its name in a trial's folder: a line with the candidates, then one for each epoch, as it ends."""


@dataclass(frozen=True)
class Candidates:
    """What the alphas of one label stand for.

    Args:
        rows: the edges of a cell, such as `2_0` (from state 0 into node 2); a single "" for a choice without.
        columns: the candidates of each row.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """The search at the end of an epoch.

    Args:
        epoch: from 0.
        step: steps on the weights so far.
        weights: by label, the probability of each candidate, one tuple for each row.
        sample: what would be derived now.
        health: what is known of `search/entropy`, `search/parameter_free`, `search/derived_score` and
            `search/gap`, see `oneshot.Health`.
    """

    epoch: int
    step: int
    weights: Mapping[str, tuple[tuple[float, ...], ...]]
    sample: Mapping[str, Any]
    health: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchHistory:
    """A one-shot search so far.

    Args:
        candidates: by label.
        snapshots: one for each epoch, in order.
    """

    candidates: Mapping[str, Candidates]
    snapshots: tuple[Snapshot, ...] = ()


def write_search(path: Path, candidates: Mapping[str, Candidates], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes the file of a search as a whole or not at all, over what an earlier attempt left there.

    Args:
        path: of the file; its folder is made.
        candidates: by label.
        rows: the epochs so far, as `OneShot.history` has them.
    """
    head = {
        "candidates": {
            label: {"rows": each.rows, "columns": each.columns} for label, each in candidates.items()
        }
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.write_text("".join(map(_line, [head, *rows])), encoding="utf-8")
    draft.replace(path)


def append_epoch(path: Path, row: Mapping[str, Any]) -> None:
    """Adds an epoch's line to the file of a search; a reader sees it as soon as this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(row))


def read_search(path: Path) -> SearchHistory:
    """Reads the file that a search leaves; a last line that is still being written does not count.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it holds something else.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if not lines:
        return SearchHistory({})
    whole = lines if lines[-1].endswith("\n") else lines[:-1]
    try:
        head, *rows = [json.loads(line) for line in whole]
        candidates = {
            label: Candidates(tuple(each["rows"]), tuple(each["columns"]))
            for label, each in head["candidates"].items()
        }
        # A search that was resumed from a checkpoint writes the epochs since then once more.
        by_epoch = {row["epoch"]: _snapshot(row, candidates) for row in rows}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no history of a one-shot search: {error}.") from error
    return SearchHistory(candidates, tuple(by_epoch[epoch] for epoch in sorted(by_epoch)))


def _snapshot(row: Mapping[str, Any], candidates: Mapping[str, Candidates]) -> Snapshot:
    weights = {label: _table(table, candidates[label]) for label, table in row["weights"].items()}
    health = {name: float(value) for name, value in row.items() if name.startswith("search/")}
    return Snapshot(int(row["epoch"]), int(row["step"]), weights, dict(row["sample"].items()), health)


def _table(table: Any, candidates: Candidates) -> tuple[tuple[float, ...], ...]:
    rows = tuple(tuple(map(float, row)) for row in (table if candidates.rows != ("",) else [table]))
    if list(map(len, rows)) != [len(candidates.columns)] * len(candidates.rows):
        raise TypeError(f"weights of shape {(len(candidates.rows), len(candidates.columns))} were expected")
    return rows


def _line(value: Any) -> str:
    return json.dumps(_finite(value), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """NaN and infinity as texts, which JSON can hold and `float` reads."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value
