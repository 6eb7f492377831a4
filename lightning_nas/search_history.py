"""How a one-shot search went, as data that a page without torch can draw."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    weights = {
        label: tuple(map(tuple, table if candidates[label].rows != ("",) else [table]))
        for label, table in row["weights"].items()
    }
    health = {name: value for name, value in row.items() if name.startswith("search/")}
    return Snapshot(row["epoch"], row["step"], weights, row["sample"], health)
