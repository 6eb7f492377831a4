"""One-shot searches in a report: heat maps and derived cells that follow a slider over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_nas import charts
from lightning_nas.drawing import cells_svg
from lightning_nas.html_report.charting import Chart
from lightning_nas.html_report.contents import Search
from lightning_nas.html_report.embedding import changes
from lightning_nas.html_report.words import counted, evenly, number
from lightning_nas.search_history import SearchHistory, Snapshot

MOST_EPOCHS = 40
"""So many positions has the slider: an epoch of a DARTS search takes about 20 kB."""

MOST_LABELS = 12

_HEALTH = {
    "search/entropy": "entropy",
    "search/parameter_free": "parameter-free share",
    "search/derived_score": "derived score",
    "search/gap": "gap",
}


@dataclass(frozen=True)
class SearchPart:
    """A one-shot search as the page shows it.

    Args:
        name: in the page.
        number: of the trial that searched.
        maps: a heat map for each label, as it stood after the last epoch, by their names in the page.
        health: the chart of entropy and so on.
        drawings: of the derived cells, each once: pairs of the epochs' positions on the slider and the SVGs.
        words: what is said of each position.
        note: what is left out.
        steps: for each position and each heat map what changes in its last state.
    """

    name: str
    number: int
    maps: Mapping[str, Chart]
    health: Chart
    drawings: Sequence[tuple[tuple[int, ...], tuple[str, ...]]]
    words: Sequence[str]
    note: str
    steps: Sequence[Mapping[str, Any]]

    def as_data(self) -> dict[str, Any]:
        """What the page's program needs for the slider; JSON can hold it."""
        drawn = {position: i for i, (positions, _) in enumerate(self.drawings) for position in positions}
        shown = [drawn.get(position) for position in range(len(self.words))]
        return {"words": self.words, "steps": self.steps, "drawings": shown}


def search_part(search: Search) -> SearchPart | None:
    """The part of a page on one search; None if no epoch has ended."""
    everything = search.history
    if not everything.snapshots:
        return None
    snapshots = evenly(everything.snapshots, MOST_EPOCHS)
    positions = [everything.snapshots.index(snapshot) for snapshot in snapshots]
    labels = list(everything.candidates)
    notes = []
    if len(snapshots) < len(everything.snapshots):
        notes.append(f"The slider has {len(snapshots)} of {len(everything.snapshots)} epochs.")
    if len(labels) > MOST_LABELS:
        notes.append(f"Shows the first {MOST_LABELS} of {len(labels)} labels.")
        labels = labels[:MOST_LABELS]
    name = f"search-{search.trial.number}"
    maps = {f"{name}-{i}": _heat_map(everything, label) for i, label in enumerate(labels)}
    steps = [
        {
            name: changes(chart.option, charts.alphas(everything, label, position))
            for label, (name, chart) in zip(labels, maps.items())
        }
        for position in positions
    ]
    return SearchPart(
        name,
        search.trial.number,
        maps,
        Chart(
            "Health of the search", charts.search_health(everything), 380 if _has_score(everything) else 300
        ),
        _drawings(snapshots),
        [_words(snapshot) for snapshot in snapshots],
        " ".join(notes),
        steps,
    )


def _heat_map(history: SearchHistory, label: str) -> Chart:
    height = 100 + 24 * len(history.candidates[label].rows)
    return Chart(
        f"Probabilities of {label}",
        charts.alphas(history, label, -1),
        height,
        has_rows=True,
        narrow=height + 60,
    )


def _has_score(history: SearchHistory) -> bool:
    return any("search/derived_score" in snapshot.health for snapshot in history.snapshots)


def _drawings(snapshots: Sequence[Snapshot]) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
    """The cells that each snapshot derives; equal ones are drawn once."""
    positions: dict[tuple[str, ...], list[int]] = {}
    for position, snapshot in enumerate(snapshots):
        cells = tuple(cells_svg(snapshot.sample).values())
        if cells:
            positions.setdefault(cells, []).append(position)
    return [(tuple(where), cells) for cells, where in positions.items()]


def _words(snapshot: Snapshot) -> str:
    health = [
        f"{word} {number(snapshot.health[key])}" for key, word in _HEALTH.items() if key in snapshot.health
    ]
    return ", ".join([f"after epoch {snapshot.epoch}", counted(snapshot.step, "step"), *health])
