"""Pareto: any two metrics, and the trials that no other beats in both."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from lightning_nas import charts
from lightning_nas.dashboard.files import plain
from lightning_nas.dashboard.look import Page
from lightning_nas.dashboard.pages.trials import metric_names
from lightning_nas.dashboard.parts import element, grid, panel, text
from lightning_nas.trial import Objective

_MODES = {None: "by its name", "max": "higher is better", "min": "lower is better"}


async def show(page: Page, key: str) -> None:
    """Draws the page."""
    reader = await page.open(key, "/pareto")
    if reader is None or reader.description is None:
        return
    box = grid()
    drawn: list[str] = []

    def draw() -> None:
        # Drawn anew only when the first trial brings a metric.
        names = sorted(metric_names(reader.ordered()))
        if names == drawn and page_chart:
            page_chart[0]()
            return
        drawn[:] = names
        page_chart.clear()
        box.clear()
        with box, panel("Pareto front"):
            if not names:
                text("No trial has a metric yet.", "quiet")
                return
            _draw(page, reader, names, page_chart)

    page_chart: list[Any] = []
    draw()
    page.live(reader, draw)


def _draw(page: Page, reader: Any, names: list[str], redraw: list[Any]) -> None:
    objective = reader.description.objective
    first = objective.metric if objective.metric in names else names[0]
    second = next((name for name in names if name != first), first)
    titles = {name: plain(name) for name in names}
    choices = []
    with element("div", "line"):
        for title, start in (("Horizontal", second), ("Vertical", first)):
            metric = ui.select(titles, value=start, label=f"{title} metric").props("dense outlined")
            given = objective.mode if start == objective.metric else None
            mode = ui.select(_MODES, value=given, label=f"{title} direction").props("dense outlined")
            choices.append((metric, mode))

    def option() -> dict[str, Any]:
        x, y = (Objective(metric.value, mode.value) for metric, mode in choices)
        return charts.pareto(reader.ordered(), x, y)

    chart = page.chart(option(), "Pareto front", 440)
    page.opens_trials(chart, reader)
    text("A click on a point opens its trial.", "quiet small")
    for metric, mode in choices:
        metric.on_value_change(lambda: chart.show(option()))
        mode.on_value_change(lambda: chart.show(option()))
    redraw.append(lambda: chart.show(option()))
