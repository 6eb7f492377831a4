"""One-shot: how a search by shared weights went, epoch by epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nicegui import run, ui

from lightning_nas import charts, drawing
from lightning_nas.dashboard.data import Reader
from lightning_nas.dashboard.files import Refused, inside, plain, value_text
from lightning_nas.dashboard.look import Page
from lightning_nas.dashboard.parts import Text, element, facts, grid, named, notice, panel, slider, text
from lightning_nas.experiment.folder import TRIALS, trial_folder
from lightning_nas.search_history import FILE, SearchHistory, read_search

_NONE = "This experiment is no one-shot search: none of its trials has left a record of alphas."


async def show(page: Page, key: str) -> None:
    """Draws the page."""
    reader = await page.open(key, "/one-shot")
    if reader is None:
        return
    found = await run.io_bound(_searches, reader)
    if not found:
        notice(_NONE)
        return
    with element("div", "line"):
        trial = ui.select({n: f"Trial {n}" for n in found}, value=found[0], label="Search").props(
            "dense outlined"
        )
        trial.set_visibility(len(found) > 1)
    box = element("div")
    shown: list[_Search] = []

    async def draw() -> None:
        path = inside(reader.directory, f"{trial_folder(trial.value)}/{FILE}")
        history = await run.io_bound(_read, path)
        if isinstance(history, SearchHistory) and shown and set(shown[0].labels) == set(history.candidates):
            shown[0].update(history)
            return
        shown.clear()
        box.clear()
        with box:
            if isinstance(history, SearchHistory) and history.candidates:
                shown.append(_Search(page, history))
            else:
                notice(
                    history
                    if isinstance(history, str)
                    else "The search has just begun; no epoch has ended yet."
                )

    async def choose() -> None:
        shown.clear()
        await draw()

    trial.on_value_change(choose)
    await draw()
    page.live(reader, draw)


def _searches(reader: Reader) -> list[int]:
    """The trials that have a record."""
    place = reader.directory / TRIALS
    found = (path.parent.name for path in place.glob(f"*/{FILE}"))
    return sorted(int(name) for name in found if name.isdecimal())


def _read(path: Path) -> SearchHistory | str:
    """The record, or why it cannot be read."""
    try:
        return read_search(path)
    except (OSError, ValueError, Refused) as error:
        return f"The record of the search cannot be read: {error}"


class _Search:
    """The charts of one search; the slider stands at an epoch, or follows the last one."""

    def __init__(self, page: Page, history: SearchHistory) -> None:
        self._page = page
        self._history = history
        self.labels = list(history.candidates)
        self._cells: dict[str, str] = {}
        last = max(0, len(history.snapshots) - 1)
        with element("div", "line panel").style("margin-top: 14px"):
            self._epoch = text("", "number").style("min-width: 9em")
            self._slider = slider(0, max(1, last), last, "Epoch")
            titles = {label: plain(label) for label in self.labels}
            self._label = ui.select(titles, value=self.labels[0], label="Label").props("dense outlined")
        with grid():
            with panel("Probability of each candidate"):
                rows = max((len(each.rows) for each in history.candidates.values()), default=1)
                height = max(220, 120 + 26 * rows)
                self._alphas = page.chart(self._alpha_option(), "Probability of each candidate", height)
            with panel("Health of the search"):
                self._health = page.chart(charts.search_health(history), "Health of the search", 360)
            with panel("What would be derived"):
                self._derived = element("div")
        self._slider.on_value_change(self._draw)
        self._label.on_value_change(self._draw)
        self._draw()

    def update(self, history: SearchHistory) -> None:
        """Shows more epochs; a slider that stood at the last one goes along."""
        last, was_last = len(history.snapshots) - 1, self._position() >= len(self._history.snapshots) - 1
        if len(history.snapshots) == len(self._history.snapshots):
            return
        self._history = history
        self._slider.props["max"] = max(1, last)
        self._health.show(charts.search_health(history))
        if was_last:
            self._slider.value = last
        self._draw()

    def _position(self) -> int:
        return min(int(self._slider.value or 0), max(0, len(self._history.snapshots) - 1))

    def _alpha_option(self) -> dict[str, Any]:
        return charts.alphas(self._history, self._label.value, self._position())

    def _draw(self) -> None:
        snapshots, position = self._history.snapshots, self._position()
        self._alphas.show(self._alpha_option())
        if not snapshots:
            self._epoch.say("No epoch has ended")
            return
        now = snapshots[position]
        self._epoch.say(f"Epoch {now.epoch} of {snapshots[-1].epoch}")
        before = snapshots[position - 1].sample if position else None
        self._derived.clear()
        with self._derived:
            if before is not None and before != now.sample:
                changes = [label for label, value in now.sample.items() if before.get(label) != value]
                text(f"Changed in this epoch: {', '.join(map(plain, changes))}", "small")
            cells = drawing.cells_svg(now.sample)
            for name, svg in cells.items():
                drawing_of(svg, f"Cell {name}")
            if not cells:
                facts((label, value_text(value)) for label, value in now.sample.items())


def drawing_of(svg: str, name: str) -> Text | Any:
    """A drawing in a box that scrolls."""
    box = named(element("div", "drawing"), tabindex="0", role="img", aria_label=name)
    with box:
        ui.html(svg)
    return box
