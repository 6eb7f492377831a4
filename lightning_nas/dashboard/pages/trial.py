"""Trial: one of them, with all that is known of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nicegui import run, ui

from lightning_nas import charts
from lightning_nas.dashboard import files
from lightning_nas.dashboard.actions import Answer, ask, changed, resume_command
from lightning_nas.dashboard.chart import Chart
from lightning_nas.dashboard.data import Reader
from lightning_nas.dashboard.files import plain
from lightning_nas.dashboard.look import Page
from lightning_nas.dashboard.pages.log import draw_log
from lightning_nas.dashboard.pages.trials import metric_names
from lightning_nas.dashboard.parts import (
    element,
    facts,
    grid,
    named,
    notice,
    panel,
    row,
    state_class,
    table,
    tell_answer,
    text,
    usage_facts,
)
from lightning_nas.experiment.display import duration_text, time_taken_s
from lightning_nas.experiment.folder import trial_folder
from lightning_nas.experiment.requests import Copy, Kill, Request, Retry
from lightning_nas.experiment.usage import Usage
from lightning_nas.space import Domain
from lightning_nas.trial import Trial


async def show(page: Page, key: str, number: str) -> None:
    """Draws the page."""
    reader = await page.open(key, "/trials/NUMBER")
    if reader is None or reader.description is None:
        return
    trial = await _read(reader, number)
    if trial is None:
        notice(f"There is no trial {number}; there are {len(reader.trials)}.", "bad")
        return
    page.title(f"Trial {trial.number} · {reader.directory.name}")
    with element("div", "line"):
        text(f"Trial {trial.number}", tag="h2").style("margin: 0")
        state = text("", "state")
        _draw_neighbours(reader, trial.number)
        buttons = element("div", "line push")
    hint = text("", "quiet small")
    reason = notice("", "warn")
    with grid():
        with panel("Sample", "half"):
            facts(trial.sample.items())
        with panel("Result", "half"):
            result = element("div")
        with panel("Intermediate results"):
            reports = element("div")
        with panel("Traceback") as failure:
            traceback = text("", "log")
        with panel("Log"):
            redraw_log = draw_log(reader, trial)
        with panel("Files"):
            artifacts = element("div")
    stop, retry, copy = _draw_buttons(reader, trial, buttons)
    curve: dict[str, Any] = {}
    seen: list[Trial] = []
    listed: list[tuple[str, int]] = []

    def draw(now: Trial) -> None:
        state.say(now.status.value)
        state.classes(replace=state_class(now.status.value))
        reason.say(now.reason or "")
        reason.set_visibility(bool(now.reason))
        failure.set_visibility(bool(now.traceback))
        traceback.say(now.traceback or "")
        stop.set_visibility(not now.status.is_final)
        retry.set_visibility(now.status.is_final)
        for button in (stop, retry, copy):
            button.set_enabled(reader.is_running)
        hint.set_visibility(not reader.is_running)
        hint.say(_why_not(reader))
        result.clear()
        with result:
            _draw_result(now, reader.usage(now.number))
        if seen and now == seen[-1]:
            return
        seen[:] = [now]
        _draw_reports(page, reader, now, reports, curve)
        found = files.listed(reader.directory, trial_folder(now.number))
        if found != listed or not list(artifacts):
            listed[:] = found
            artifacts.clear()
            with artifacts:
                _draw_files(reader, now, found)

    draw(trial)

    async def again() -> None:
        now = await _read(reader, number)
        if now is not None:
            draw(now)
        await redraw_log()

    await redraw_log()
    page.live(reader, again)


def _why_not(reader: Reader) -> str:
    """Why nothing can be asked for while no search runs, and what makes it go on."""
    is_finished = reader.summary is not None and reader.summary.state == "finished"
    command = resume_command(reader.directory) + (" --max-trials N" if is_finished else "")
    return f"No search runs here that could take up a retry or a copy; `{command}` makes it go on."


async def _read(reader: Reader, number: str) -> Trial | None:
    if not number.isdecimal() or int(number) not in reader.trials:
        return None
    found = await run.io_bound(_with_reports, reader, int(number))
    return found or reader.trials.get(int(number))


def _with_reports(reader: Reader, number: int) -> Trial | None:
    try:
        return next(iter(reader.with_reports([number])), None)
    except Exception:  # what cannot be read now is told at the top of the page
        return None


def _draw_neighbours(reader: Reader, number: int) -> None:
    for title, other in (("Previous trial", number - 1), ("Next trial", number + 1)):
        if other in reader.trials:
            ui.link(title, f"/experiment/{reader.key}/trials/{other}").classes("small")
    ui.link("Architecture", f"/experiment/{reader.key}/architecture?trial={number}").classes("small")


def _draw_result(trial: Trial, usage: Usage | None) -> None:
    clock = "%Y-%m-%d %H:%M:%S"
    metrics = trial.metrics or (trial.intermediate[-1].metrics if trial.intermediate else {})
    facts(
        [
            *((name, f"{value:.6g}") for name, value in metrics.items()),
            ("score", "-" if trial.score is None else f"{trial.score:.6g}"),
            ("steps", trial.steps),
            ("begun", "-" if trial.started is None else time.strftime(clock, time.localtime(trial.started))),
            (
                "ended",
                "-" if trial.finished is None else time.strftime(clock, time.localtime(trial.finished)),
            ),
            ("time taken", duration_text(time_taken_s(trial)) or "-"),
            *usage_facts(usage),
        ]
    )


def _draw_reports(page: Page, reader: Reader, trial: Trial, box: Any, curve: dict[str, Any]) -> None:
    """The chart of the reports, made at the first of them."""
    names = metric_names([trial])
    if not trial.intermediate or not names:
        box.clear()
        curve.clear()
        with box:
            text("It has reported nothing.", "quiet")
        return
    if curve.get("names") != names:
        objective = reader.description.objective.metric if reader.description is not None else None
        start = objective if objective in names else names[0]
        box.clear()
        with box:
            choice = ui.select({name: plain(name) for name in names}, value=start, label="Metric")
            choice.props("dense outlined")
            chart: Chart = page.chart(charts.curves([trial], start), "Intermediate results", 280)
        choice.on_value_change(lambda event: chart.show(charts.curves([curve["trial"]], event.value)))
        curve.update(names=names, choice=choice, chart=chart)
    curve["trial"] = trial
    curve["chart"].show(charts.curves([trial], curve["choice"].value))


# ---------------------------------------------------------------- files


def _draw_files(reader: Reader, trial: Trial, found: Sequence[tuple[str, int]]) -> None:
    extra = {path: name for name, path in trial.artifacts.items()}
    if not found:
        text("Its folder holds no files.", "quiet")
        return
    with table("Files", ("File", "Size", "Artifact"), right=("Size",)):
        for relative, size in found:
            address = f"/files/{reader.key}/{quote(relative)}"
            name = relative.removeprefix(f"{trial_folder(trial.number)}/")
            row(_download(plain(name), address), files.size_text(size), extra.get(relative, ""), right=(1,))


def _download(name: str, address: str) -> Any:
    return lambda: ui.link(name, address).props("download")


# ---------------------------------------------------------------- actions


def _draw_buttons(reader: Reader, trial: Trial, box: Any) -> tuple[ui.button, ui.button, ui.button]:
    async def send(request: Request) -> None:
        tell_answer(await run.io_bound(ask, reader.directory, request))

    def open_copy() -> None:
        with box:
            _copy_dialog(reader, trial).open()

    with box:
        stop = ui.button("Stop trial", on_click=lambda: send(Kill(trial.number)), color="negative").props(
            "dense"
        )
        retry = ui.button("Retry trial", on_click=lambda: send(Retry(trial.number))).props("dense outline")
        copy = ui.button("Copy with changes", on_click=open_copy).props("dense outline")
    return stop, retry, copy


def _copy_dialog(reader: Reader, trial: Trial) -> ui.dialog:
    """A field for each label; what is typed is JSON or plain text, and an empty field leaves its label out."""
    domains: Mapping[str, Domain] = {} if reader.description is None else reader.description.space
    fields: dict[str, ui.input] = {}
    with ui.dialog() as dialog, ui.card():
        text(f"Copy trial {trial.number} with changes", tag="h2")
        text("An empty field leaves its label out; do that for labels that are not active.", "quiet small")
        with element("div").style("max-height: 60vh; overflow: auto; width: 100%"):
            for label, domain in domains.items():
                value = files.value_text(trial.sample[label]) if label in trial.sample else ""
                field = ui.input(plain(label), value=value).props("dense outlined").style("width: 100%")
                fields[label] = named(field, hint=plain(str(domain))[:200])
        wrong = notice("", "bad")
        wrong.set_visibility(False)

        async def send() -> None:
            try:
                texts = {label: field.value or "" for label, field in fields.items()}
                sample = changed(trial.sample, texts, domains)
            except ValueError as error:
                wrong.say(error)
                wrong.set_visibility(True)
                return
            answer: Answer | None = await run.io_bound(ask, reader.directory, Copy(trial.number, sample))
            if answer is not None and answer.outcome == "refused":
                wrong.say(answer.text)
                wrong.set_visibility(True)
                return
            dialog.close()
            tell_answer(answer)

        with element("div", "line"):
            ui.button("Run copy", on_click=send)
            ui.button("Cancel", on_click=dialog.close).props("flat")
    dialog.on("hide", dialog.delete)
    return named(dialog, aria_label="Copy with changes")
