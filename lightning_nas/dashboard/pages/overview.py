"""Overview: one experiment at a glance."""

from __future__ import annotations

import math
import time

from nicegui import run, ui

from lightning_nas import charts
from lightning_nas.dashboard import files
from lightning_nas.dashboard.actions import ask
from lightning_nas.dashboard.data import Reader
from lightning_nas.dashboard.look import Page
from lightning_nas.dashboard.parts import (
    Text,
    element,
    facts,
    grid,
    named,
    panel,
    row,
    table,
    tell_answer,
    text,
)
from lightning_nas.experiment.display import duration_text, metric_text, sample_text, time_taken_s
from lightning_nas.experiment.requests import Stop
from lightning_nas.trial import Objective, Trial

_LOG = "search.log"
_ROWS = 30


async def show(page: Page, key: str) -> None:
    """Draws the page."""
    reader = await page.open(key, "")
    if reader is None or reader.summary is None or reader.description is None:
        return
    dialog = _stop_dialog(reader)
    tiles = element("div", "tiles")
    values: dict[str, Text] = {}
    with tiles:
        for name in ("Best so far", "Trials done", "Running now", "Elapsed", "Budget left"):
            with element("div", "tile"):
                text(name, "quiet small")
                values[name] = text("", "value number")
    with grid():
        with panel("Best so far, beside every trial", "two-thirds"):
            history = page.chart(
                charts.history(reader.ordered(), reader.description.objective), "Best so far"
            )
            page.opens_trials(history, reader)
        with panel("Trials by status", "third"):
            counts = page.chart(charts.statuses(reader.summary.counts), "Trials by status")
        with panel("Running trials"):
            with element("div", "line"):
                busy = text("", "quiet")
                stop = ui.button("Stop search", on_click=dialog.open).classes("push").props("outline dense")
            running = table(
                "Running trials", ("Trial", "Last value", "Step", "Time", "Sample"), right=("Trial", "Step")
            )
        with panel("Search space", "half"):
            _draw_space(reader)
        with panel("Settings", "half"):
            settings = element("div")
        with panel("Environment of the last run", "half"):
            environment = element("div")
        with panel("Log of the search", "half"):
            log = text("", "log")
    drawn = -1
    rows: dict[int, list[Text]] = {}

    def draw() -> None:
        nonlocal drawn
        _fill(reader, values)
        is_new, drawn = drawn != reader.version, reader.version
        now = reader.summary
        stop.set_visibility(reader.is_running)
        if now is None or reader.description is None:
            return
        busy.say("" if now.running else "No trial runs." if reader.is_running else "No search runs here.")
        at_work = now.running[:_ROWS]
        if list(rows) != [trial.number for trial in at_work]:
            running.clear()
            with running:
                rows.clear()
                rows.update({trial.number: _running_row(reader, trial.number) for trial in at_work})
        for trial in at_work:
            _fill_running(rows[trial.number], trial, now.objective)
        if is_new:
            history.show(charts.history(reader.ordered(), now.objective))
            counts.show(charts.statuses(now.counts))
            settings.clear()
            environment.clear()
            with settings:
                _draw_settings(reader)
            with environment:
                _draw_environment(reader)
        log.say(_log_tail(reader))

    draw()
    page.live(reader, draw)


def _fill(reader: Reader, values: dict[str, Text]) -> None:
    now = reader.summary
    if now is None:
        return
    best = "-" if now.best is None else metric_text(now.best, now.objective)
    total = "" if now.max_trials is None else f" of {now.max_trials}"
    values["Best so far"].say(best)
    values["Trials done"].say(f"{now.done}{total}")
    values["Running now"].say(len(now.running))
    values["Elapsed"].say(duration_text(now.elapsed_s) or "-")
    left = "no limit" if now.max_trials is None else f"{max(0, now.max_trials - now.done)} trials"
    values["Budget left"].say(left)


def _running_row(reader: Reader, number: int) -> list[Text]:
    """The cells of a row for a running trial, apart from the link to it, which keeps the focus as they change."""
    cells = row(
        lambda: ui.link(str(number), f"/experiment/{reader.key}/trials/{number}"),
        *("", "", "", ""),
        right=(0, 2),
    )
    return [cell for cell in cells if isinstance(cell, Text)]


def _fill_running(cells: list[Text], trial: Trial, objective: Objective) -> None:
    last = trial.intermediate[-1] if trial.intermediate else None
    value, step, taken, sample = cells
    value.say(metric_text(trial, objective))
    step.say("" if last is None else last.step)
    taken.say(duration_text(time_taken_s(trial)))
    sample.say(sample_text(trial))


def _draw_space(reader: Reader) -> None:
    if reader.description is None:
        return
    space = reader.description.space
    size = (
        "infinitely many"
        if space.size == math.inf
        else f"{space.size:,}"
        if space.size < 1e12
        else f"{space.size:.3g}"
    )
    text(f"{len(space)} labels, {size} samples", "quiet small")
    with table("Search space", ("Label", "Values", "Active if")):
        for label in list(space)[:200]:
            condition = space.conditions.get(label)
            row(label, space[label], "" if condition is None else condition)


def _draw_settings(reader: Reader) -> None:
    if reader.description is None:
        return
    asked = reader.description
    settings = reader.runs[-1]["settings"] if reader.runs else {}
    facts(
        [
            ("strategy", asked.strategy),
            ("objective", asked.metric or "the evaluator's"),
            ("mode", asked.mode or "by its name"),
            ("seed", asked.seed),
            *([("model", asked.model)] if asked.model else []),
            *((name, "-" if value is None else value) for name, value in settings.items()),
            ("folder", reader.directory),
        ]
    )


def _draw_environment(reader: Reader) -> None:
    if not reader.runs:
        text("It has not run yet.", "quiet")
        return
    last = reader.runs[-1]
    found = last["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in found.get("packages", {}).items())
    command = found.get("command")
    shown = {
        **{name: value for name, value in found.items() if name not in ("packages", "command")},
        "command": " ".join(map(str, command)) if isinstance(command, list) else command,
        "packages": packages,
    }
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last["started"]))
    facts(
        [
            ("begun", began),
            ("runs", len(reader.runs)),
            *((n, "-" if v in (None, []) else v) for n, v in shown.items()),
        ]
    )


def _log_tail(reader: Reader) -> str:
    try:
        return files.tail(files.inside(reader.directory, _LOG))[0] or "It is empty."
    except (files.Refused, OSError):
        return "The search printed to its own terminal; one that runs in the background leaves its log here."


def _stop_dialog(reader: Reader) -> ui.dialog:
    """Asks how the search is to be stopped."""
    with ui.dialog() as dialog, ui.card():
        text("Stop the search?", tag="h2")
        text(
            "No new trial starts. The running ones finish, or with `Stop now` end at once and run again on resume."
        )

        async def stop(now: bool) -> None:
            dialog.close()
            tell_answer(await run.io_bound(ask, reader.directory, Stop(now)))

        with element("div", "line"):
            ui.button("Stop", on_click=lambda: stop(False))
            ui.button("Stop now", on_click=lambda: stop(True), color="negative")
            ui.button("Cancel", on_click=dialog.close).props("flat")
    return named(dialog, aria_label="Stop the search?")
