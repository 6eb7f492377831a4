"""Experiments: all under the folder, and how each stands."""

from __future__ import annotations

from nicegui import run, ui
from nicegui.element import Element

from lightning_nas.dashboard.data import Glance
from lightning_nas.dashboard.look import Page
from lightning_nas.dashboard.parts import Text, element, notice, panel, row, state_class, table, text
from lightning_nas.experiment.display import duration_text, metric_text
from lightning_nas.trial import Status

_COLUMNS = ("Experiment", "State", "Progress", "Best so far", "Failed", "Elapsed", "Budget left")


async def show(page: Page) -> None:
    """Draws the page."""
    page.title("Experiments")
    text("Experiments", tag="h1")
    hint = notice("Looking through the folder ...")
    with element("div", "grid"), panel():
        body = table("Experiments", _COLUMNS, right=("Failed",))
    rows: dict[str, _Row] = {}

    async def look() -> None:
        glances = await run.io_bound(page.experiments.glances)
        if glances is None or body.is_deleted:  # the server ends, or the page has been left
            return
        if list(rows) != [glance.key for glance in glances]:
            body.clear()
            rows.clear()
            with body:
                rows.update({glance.key: _Row(glance) for glance in glances})
        for glance in glances:
            rows[glance.key].fill(glance)
        hint.set_visibility(not glances)
        if page.experiments.is_complete:
            gone = not page.experiments.root.is_dir()
            hint.say(
                f"The folder {page.experiments.root} is gone."
                if gone
                else f"There is no experiment under {page.experiments.root} yet. One appears here as soon as it begins."
            )

    await look()
    ui.timer(1.0, look, immediate=False)


class _Row:
    """A row of the table, filled again as things change."""

    def __init__(self, glance: Glance) -> None:
        self._state: Text
        self._progress: Text
        self._track: Element
        self._bar: Element
        name = glance.directory.name if glance.name == "." else glance.name
        cells = row(
            lambda: ui.link(name, f"/experiment/{glance.key}"),
            self._draw_state,
            self._draw_progress,
            *("", "", "", ""),
            right=(4,),
        )
        self._cells = [cell for cell in cells if isinstance(cell, Text)]

    def _draw_state(self) -> None:
        self._state = text("", "state", tag="span")

    def _draw_progress(self) -> None:
        self._progress = text("", "number")
        with element("div", "bar") as self._track:
            self._bar = element("div").style("width: 0")

    def fill(self, glance: Glance) -> None:
        """Shows how it stands."""
        best, failed, elapsed, left = self._cells
        now = glance.summary
        self._track.set_visibility(now is not None and now.max_trials is not None)
        if now is None:
            self._state.say("unreadable")
            self._state.classes(replace=state_class("unreadable"))
            best.say(glance.trouble or "")
            return
        self._state.say(now.state)
        self._state.classes(replace=state_class(now.state))
        total = "" if now.max_trials is None else f" of {now.max_trials}"
        running = f", {len(now.running)} running" if now.running else ""
        self._progress.say(f"{now.done}{total}{running}")
        share = min(1.0, now.done / now.max_trials) if now.max_trials else 0.0
        self._bar.style(f"width: {share:.1%}")
        best.say(
            "" if now.best is None else f"{metric_text(now.best, now.objective)} (trial {now.best.number})"
        )
        failed.say(now.counts.get(Status.FAILED, 0) or "")
        elapsed.say(duration_text(now.elapsed_s))
        left.say("no limit" if now.max_trials is None else f"{max(0, now.max_trials - now.done)} trials")
