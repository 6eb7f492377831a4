"""Architecture: the network of a trial, beside that of another one if asked for, and its export."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from nicegui import run, ui

from lightning_nas import charts, drawing
from lightning_nas.architecture import FILE, Architecture, read_architecture
from lightning_nas.dashboard.data import Reader
from lightning_nas.dashboard.exports import Failure, export, has_netron, open_in_netron
from lightning_nas.dashboard.files import Refused, inside
from lightning_nas.dashboard.look import Page
from lightning_nas.dashboard.pages.one_shot import drawing_of
from lightning_nas.dashboard.parts import element, facts, grid, named, notice, panel, text
from lightning_nas.experiment.folder import CODE, trial_folder
from lightning_nas.trial import Status, Trial

_OFFERED = 500
_MOST_CODE = 200_000  # characters that are shown


async def show(page: Page, key: str, trial: str = "", other: str = "") -> None:
    """Draws the page."""
    reader = await page.open(key, "/architecture")
    if reader is None:
        return
    best = reader.summary.best if reader.summary is not None else None
    offered = _offered(reader)
    if not offered:
        notice("No trial has begun yet.")
        return
    first = (
        int(trial)
        if trial.isdecimal() and int(trial) in reader.trials
        else best.number
        if best
        else offered[0]
    )
    second = int(other) if other.isdecimal() and int(other) in reader.trials else None
    names = {
        n: _name(reader.trials[n], best)
        for n in dict.fromkeys([first, *([second] if second else []), *offered])
    }
    with element("div", "line pair"):
        chosen = ui.select(names, value=first, label="Trial", with_input=True).props("dense outlined")
        compared = ui.select({None: "nothing", **names}, value=second, label="Compare with").props(
            "dense outlined"
        )
    box = element("div")

    def go() -> None:
        query = f"trial={chosen.value}" + ("" if compared.value is None else f"&other={compared.value}")
        ui.navigate.to(f"/experiment/{reader.key}/architecture?{query}")

    chosen.on_value_change(go)
    compared.on_value_change(go)
    await _draw(page, reader, box, first, second)


def _offered(reader: Reader) -> list[int]:
    """The trials in the lists: the best first, then the latest."""
    ranked = sorted(reader.ordered(), key=lambda t: (t.score is None, -(t.score or 0.0), -t.number))
    return [trial.number for trial in ranked[:_OFFERED]]


def _name(trial: Trial, best: Trial | None) -> str:
    score = "" if trial.score is None else f", score {trial.score:.4g}"
    mark = " (best)" if best is not None and best.number == trial.number else ""
    return f"Trial {trial.number}{mark}{score}"


async def _draw(page: Page, reader: Reader, box: Any, first: int, second: int | None) -> None:
    trial = reader.trials[first]
    built = await run.io_bound(_read, reader, first)
    another = None if second is None else await run.io_bound(_read, reader, second)
    code = await run.io_bound(_read_code, reader, first)
    with box:
        _draw_buttons(reader, trial)
        with grid():
            if isinstance(built, Architecture):
                _draw_networks(page, first, built, second, another)
            else:
                with panel("Network"):
                    text(built, "quiet")
            cells = drawing.cells_svg(trial.sample)
            if cells:
                with panel("Cells"):
                    for name, svg in cells.items():
                        drawing_of(svg, f"Cell {name}")
            with panel("Sample", "wide" if second is None else "half"):
                facts(trial.sample.items())
            if second is not None:
                with panel(f"What trial {second} has instead", "half"):
                    _draw_changes(trial, reader.trials[second])
            if code is not None:
                with panel("Code"):
                    text(
                        'The network as the trial built it; "Download code" proves, too, that it computes the same.',
                        "quiet small",
                    )
                    text(
                        code,
                        "log",
                        tag="pre",
                        tabindex="0",
                        role="region",
                        aria_label=f"Code of trial {first}",
                    )


def _draw_networks(
    page: Page, first: int, built: Architecture, second: int | None, another: Architecture | str | None
) -> None:
    if isinstance(another, Architecture):
        with panel(f"From trial {first} to trial {second}"):
            _draw_size(built, another)
            drawing_of(drawing.difference_svg(built, another), f"Difference of trials {first} and {second}")
    else:
        with panel("Network"):
            if another is not None:
                notice(another)
            _draw_size(built, None)
            drawing_of(drawing.network_svg(built), f"Network of trial {first}")
    for number, network in ((first, built), (second, another)):
        if isinstance(network, Architecture):
            with panel(f"Blocks of trial {number}", "half" if isinstance(another, Architecture) else "wide"):
                page.chart(charts.blocks(network), f"Parameters and operations per block of trial {number}")


def _draw_size(one: Architecture, two: Architecture | None) -> None:
    sizes = [f"{each.params:,} parameters" + ("" if each.macs is None else f", {each.macs:,} MACs")
             for each in (one, two) if each is not None]  # fmt: skip
    text(" → ".join(sizes), "number")


def _draw_changes(trial: Trial, other: Trial) -> None:
    labels = dict.fromkeys([*trial.sample, *other.sample])
    differ = [label for label in labels if trial.sample.get(label, "-") != other.sample.get(label, "-")]
    if differ:
        facts((label, f"{trial.sample.get(label, '-')} → {other.sample.get(label, '-')}") for label in differ)
    else:
        text("Both have the same sample.", "quiet")


def _read(reader: Reader, number: int) -> Architecture | str:
    """The network of a trial, or why there is none."""
    try:
        return read_architecture(inside(reader.directory, f"{trial_folder(number)}/{FILE}"))
    except Refused:
        status = reader.trials[number].status
        when = "" if status in (Status.COMPLETED, Status.STOPPED, Status.FAILED) else " yet"
        return (
            f"Trial {number} has left no record of its network{when}; a search without a model leaves none."
        )
    except (OSError, ValueError) as error:
        return f"The network of trial {number} cannot be read: {error}"


def _read_code(reader: Reader, number: int) -> str | None:
    """The code of a trial's network, None if it left none; cut where it is longer than anyone reads."""
    try:
        with inside(reader.directory, f"{trial_folder(number)}/{CODE}").open(
            encoding="utf-8", errors="replace"
        ) as file:
            found = file.read(_MOST_CODE)
    except (Refused, OSError):
        return None
    return found if len(found) < _MOST_CODE else found + "\n..."


def _draw_buttons(reader: Reader, trial: Trial) -> None:
    told = named(element("div"), aria_live="polite")

    async def make(formatter: str, then: Callable[[Path], Awaitable[None]]) -> None:
        told.clear()
        with told, element("div", "line notice"):
            ui.spinner(size="1.2em")
            text(f"Making {formatter} in a process of its own; this may take half a minute ...")
        made = await run.io_bound(export, reader.directory, trial.number, formatter)
        if told.is_deleted:  # the page has been left
            return
        told.clear()
        with told:
            if isinstance(made, Failure):
                with named(element("div", "notice bad"), role="alert"):
                    text(f"{formatter} could not be made:")
                    text(made.text, "log")
            elif made is not None:
                await then(made)

    async def download(path: Path) -> None:
        ui.download.content(path.read_bytes(), path.name)
        notice(f"{path.name} of trial {trial.number} is downloaded.", "good")

    async def netron(path: Path) -> None:
        address = await run.io_bound(open_in_netron, path)
        if address is None:  # the server ends
            return
        with element("div", "line notice good"):
            text("Netron runs at")
            ui.link(address, address, new_tab=True).props("rel=noopener")
            text("It is another program, which asks to report its use to its makers.", "quiet small")

    with element("div", "line").style("margin-top: 12px"):
        ui.button(
            "Download sample",
            on_click=lambda: ui.download.content(json.dumps(trial.sample, indent=2) + "\n", "sample.json"),
        ).props("outline dense")
        if (
            reader.description is not None
            and reader.description.model is not None
            and trial.score is not None
        ):
            ui.button("Download code", on_click=lambda: make("code", download)).props("outline dense")
            ui.button("Download ONNX", on_click=lambda: make("onnx", download)).props("outline dense")
            if has_netron():
                ui.button("Open in Netron", on_click=lambda: make("onnx", netron)).props("outline dense")
            text(
                "Code and ONNX run the objects kept in experiment.pkl: use them on experiments you trust.",
                "quiet small",
            )
