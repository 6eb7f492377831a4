"""Trials: all of them in a grid, and some of them compared."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from nicegui import run, ui
from nicegui.element import Element

from lightning_nas import charts
from lightning_nas.dashboard.data import Reader
from lightning_nas.dashboard.files import plain
from lightning_nas.dashboard.look import Page
from lightning_nas.dashboard.parts import (
    Slider,
    element,
    grid,
    named,
    panel,
    row,
    slider,
    table,
    text,
    usage_facts,
)
from lightning_nas.experiment.display import time_taken_s
from lightning_nas.trial import Trial

_COMPARED = 50
_SHOWN_COLUMNS = 8  # labels and metrics that are shown at first, each
_POINTS, _LINES = 2000, 1000
_GRID_FIRST_S = 0.3

_LINK = """params => {
  if (params.value == null) return '';
  const link = document.createElement('a');
  link.href = %s + params.value;
  link.textContent = params.value;
  return link;
}"""
_FORMAT = "params => typeof params.value === 'number' ? +params.value.toPrecision(5) + '' : params.value"
_COMPARE = """(a, b) => {
  const x = typeof a === 'number', y = typeof b === 'number';
  return x && y ? a - b : x ? 1 : y ? -1 : String(a ?? '').localeCompare(String(b ?? ''));
}"""
_OPEN = """event => event.event?.key === 'Enter'
  && document.querySelector('a[href="' + %s + event.data.number + '"]')?.click()"""


class Columns:
    """The columns of the grid: fixed names, whatever the labels and metrics are called.

    Args:
        labels, metrics: in order.
    """

    def __init__(self, labels: Sequence[str], metrics: Sequence[str]) -> None:
        self.labels, self.metrics = list(labels), list(metrics)

    def titles(self) -> dict[str, str]:
        """What each column is called."""
        return {
            "number": "Trial",
            "status": "Status",
            "score": "Score",
            **{f"m{i}": plain(metric) for i, metric in enumerate(self.metrics)},
            **{f"l{i}": plain(label) for i, label in enumerate(self.labels)},
            "step": "Step",
            "duration": "Seconds",
            "reason": "Reason",
        }

    def shown(self) -> list[str]:
        """Those that are shown at first."""
        some = [f"m{i}" for i in range(len(self.metrics))][:_SHOWN_COLUMNS]
        return [
            "number",
            "status",
            *some,
            *[f"l{i}" for i in range(len(self.labels))][:_SHOWN_COLUMNS],
            "duration",
        ]

    def row(self, trial: Trial) -> dict[str, Any]:
        """A trial as the grid takes it."""
        last = trial.intermediate[-1] if trial.intermediate else None
        metrics = trial.metrics or (last.metrics if last is not None else {})
        result: dict[str, Any] = {
            "number": trial.number,
            "status": trial.status.value,
            "score": trial.score,
            "step": None if last is None else last.step,
            "duration": time_taken_s(trial),
            "reason": plain(trial.reason or ""),
        }
        result |= {f"m{i}": _cell(metrics[name]) for i, name in enumerate(self.metrics) if name in metrics}
        result |= {f"l{i}": _cell(trial.sample[n]) for i, n in enumerate(self.labels) if n in trial.sample}
        return result


def _cell(value: Any) -> Any:
    """Numbers as numbers, all else as text; JSON has no NaN."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, (int, float)):
        return value if math.isfinite(value) else str(value)
    return plain(value if isinstance(value, str) else json.dumps(value))


def metric_names(trials: Sequence[Trial]) -> list[str]:
    """All metrics that some trial has, those of the latest trials first."""
    names: dict[str, None] = {}
    for trial in reversed(trials):
        names |= dict.fromkeys(trial.metrics)
        for report in trial.intermediate:
            names |= dict.fromkeys(report.metrics)
    return list(names)


async def show(page: Page, key: str) -> None:
    """Draws the page."""
    reader = await page.open(key, "/trials")
    if reader is None or reader.description is None:
        return
    version, trials = reader.version, reader.ordered()
    columns = Columns(list(reader.description.space), metric_names(trials))
    titles = columns.titles()
    with panel():
        with element("div", "line"):
            text("All trials", tag="h2")
            count = text("", "quiet small")
            chosen = named(
                ui.select(titles, value=columns.shown(), multiple=True, label="Columns"), aria_label="Columns"
            )
            chosen.classes("push").props("dense outlined options-dense").style("max-width: 260px")
        table = _grid(reader, columns, set(columns.shown()))
        text("Sort by a click on a column's title; select trials to compare them below.", "quiet small")
    with grid():
        with panel("Compare"):
            compared = element("div")
        parameters, times = panel("Parameters and metrics"), panel("Durations")

    def choose() -> None:
        wanted = {"number", *(chosen.value or [])}
        table.run_grid_method("setColumnsVisible", sorted(wanted), True)
        table.run_grid_method("setColumnsVisible", sorted(titles.keys() - wanted), False)
        named(chosen, display_value=f"{len(wanted)} of {len(titles)}")

    chosen.on_value_change(choose)
    named(chosen, display_value=f"{len(columns.shown())} of {len(titles)}")

    selected: list[int] = []

    async def compare(event: Any) -> None:
        selected[:] = sorted(event.args)
        now = [*selected]
        found = await run.io_bound(reader.with_reports, now[:_COMPARED]) if now else []
        # Others may have been selected meanwhile, and the server may end.
        if found is not None and now == selected and not compared.is_deleted:
            _draw_comparison(page, reader, compared, found, len(now))

    numbers = f"getElement({table.id}).api.getSelectedRows().slice(0, {_COMPARED + 1}).map(row => row.number)"
    table.on("selectionChanged", compare, js_handler=f"() => emit({numbers})")
    _draw_comparison(page, reader, compared, [], 0)
    rows = [columns.row(trial) for trial in trials]
    table.run_grid_method("setGridOption", "rowData", rows)
    known = {trial.number for trial in trials}
    count.say(f"{len(known):,}")
    await asyncio.sleep(_GRID_FIRST_S)
    with parameters:
        top, parallel = _draw_parallel(page, reader, columns)
    with times:
        durations = page.chart(charts.durations(trials[-_POINTS:]), "Durations")

    async def draw() -> None:
        nonlocal version
        changed, version = reader.changed_since(version), reader.version
        if not set(metric_names(changed)) <= set(columns.metrics):
            await page.client.sub_pages_router.refresh()  # with a column for the new metric
        elif changed:
            added = [columns.row(trial) for trial in changed if trial.number not in known]
            updated = [columns.row(trial) for trial in changed if trial.number in known]
            known.update(trial.number for trial in changed)
            table.run_grid_method("applyTransaction", {"add": added, "update": updated})
            count.say(f"{len(known):,}")
            now = reader.ordered()
            durations.show(charts.durations(now[-_POINTS:]))
            parallel(now, top.value)

    page.live(reader, draw)


def _grid(reader: Reader, columns: Columns, shown: set[str]) -> ui.aggrid:
    address = json.dumps(f"/experiment/{reader.key}/trials/")
    definitions: list[dict[str, Any]] = []
    for name, title in columns.titles().items():
        is_text = name in ("status", "reason")
        definition: dict[str, Any] = {
            "field": name,
            "headerName": title,
            "headerTooltip": title,
            "hide": name not in shown,
            "filter": "agTextColumnFilter" if is_text or name.startswith("l") else "agNumberColumnFilter",
            "minWidth": 84,
            "width": 240 if name == "reason" else 120,
        }
        if name == "number":
            definition |= {":cellRenderer": _LINK % address, "pinned": "left", "sort": "desc", "width": 100}
        elif not is_text:
            definition |= {":valueFormatter": _FORMAT, ":comparator": _COMPARE}
        definitions.append(definition)
    options = {
        "columnDefs": definitions,
        "defaultColDef": {"sortable": True, "resizable": True, "cellDataType": False},
        "rowData": [],
        "rowSelection": {"mode": "multiRow", "enableClickSelection": False},
        ":getRowId": "params => String(params.data.number)",
        ":onCellKeyDown": _OPEN % address,
        # Arrows go from cell to cell; Tab leaves the grid.
        ":tabToNextCell": "() => false",
        ":tabToNextHeader": "() => false",
        "animateRows": False,
        "tooltipShowDelay": 400,
        "overlayNoRowsTemplate": "No trials",
    }
    return named(ui.aggrid(options, auto_size_columns=False), aria_label="Trials")


Parallel = Callable[[Sequence[Trial], float], None]


def _draw_parallel(page: Page, reader: Reader, columns: Columns) -> tuple[Slider, Parallel]:
    """The chart of parallel axes and its slider; gives what draws it again."""
    objective = None if reader.description is None else reader.description.objective.metric
    labels = columns.labels[:_SHOWN_COLUMNS]
    metrics = sorted(columns.metrics, key=lambda name: name != objective)[:3]  # the first colours the lines
    with element("div", "line"):
        share = text("", "number")
        start = max(1, min(100, 100 * _LINES // max(1, len(reader.trials))))
        best = slider(1, 100, start, "Best per cent of the trials")
    chart = page.chart(charts.parallel([], labels, metrics), "Parameters and metrics", 360)

    def draw(trials: Sequence[Trial], percent: float) -> None:
        share.say("All trials" if percent >= 100 else f"Best {percent:g} % of the trials")
        space = None if reader.description is None else reader.description.space
        chart.show(charts.parallel(trials, labels, metrics, top=percent / 100, space=space))

    draw(reader.ordered(), start)
    page.opens_trials(chart, reader)
    best.on_value_change(lambda event: draw(reader.ordered(), event.value))
    return best, draw


def _draw_comparison(
    page: Page, reader: Reader, box: Element, trials: Sequence[Trial], selected: int
) -> None:
    box.clear()
    with box:
        if not trials:
            text(
                "Select trials in the grid: their intermediate results, samples and durations appear here.",
                "quiet",
            )
            return
        if selected > _COMPARED:
            text(f"The first {_COMPARED} of the selected trials:", "quiet small")
        names = metric_names(trials)
        if not names:
            text("None of them has reported anything.", "quiet")
            return
        objective = reader.description.objective.metric if reader.description is not None else None
        start = objective if objective in names else names[0]
        choice = ui.select({name: plain(name) for name in names}, value=start, label="Metric").props(
            "dense outlined"
        )
        chart = page.chart(charts.curves(trials, start), "Intermediate results")
        choice.on_value_change(lambda event: chart.show(charts.curves(trials, event.value)))
        page.chart(charts.durations(trials), "Durations of the selected trials", 220)
        used = [(trial.number, dict(usage_facts(reader.usage(trial.number)))) for trial in trials]
        names_of_use = list(dict.fromkeys(name for _, each in used for name in each))
        if names_of_use:
            with table("What the selected trials took", ("Trial", *names_of_use), right=names_of_use):
                for number, each in used:
                    cells = (each.get(name, "-") for name in names_of_use)
                    row(number, *cells, right=range(1, 1 + len(names_of_use)))
