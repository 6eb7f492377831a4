"""Importance: which label matters for the objective."""

from __future__ import annotations

from nicegui import run

from lightning_nas import charts
from lightning_nas.dashboard.data import Reader
from lightning_nas.dashboard.look import Page
from lightning_nas.dashboard.parts import grid, notice, panel, text
from lightning_nas.errors import NASError
from lightning_nas.importance import importances
from lightning_nas.trial import Status

_AGAIN = 0.02  # computed again when so many more trials have ended


async def show(page: Page, key: str) -> None:
    """Draws the page."""
    reader = await page.open(key, "/importance")
    if reader is None:
        return
    with grid(), panel("Importance of each label"):
        text(
            "How much each label has to do with a trial being among the best tenth (PED-ANOVA); the shares sum to 1.",
            "quiet small",
        )
        told = notice("")
        chart = page.chart(charts.importance({}), "Importance of each label", 420)
    computed = 0

    async def draw() -> None:
        nonlocal computed
        completed = sum(trial.status is Status.COMPLETED for trial in reader.trials.values())
        if computed and completed - computed < max(1, _AGAIN * computed):
            return
        computed = completed
        found = await run.io_bound(_importances, reader)
        if told.is_deleted or page.client.is_deleted:  # it took seconds
            return
        if isinstance(found, str):
            told.say(found)
        told.set_visibility(isinstance(found, str))
        chart.set_visibility(isinstance(found, dict))
        if isinstance(found, dict):
            chart.show(charts.importance(found))

    page.live(reader, draw)
    await draw()


def _importances(reader: Reader) -> dict[str, float] | str:
    """The share of each label, or why there is none."""
    if reader.description is None:
        return "The experiment cannot be read."
    try:
        return importances(reader.description.space, reader.ordered(), reader.description.objective)
    except (NASError, ValueError) as error:
        return str(error)
