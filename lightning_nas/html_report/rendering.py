"""From what a report tells to one HTML file that needs nothing else."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import jinja2
from markupsafe import Markup

from lightning_nas import __version__, charts
from lightning_nas.drawing import DARK, cells_svg, declarations, network_svg
from lightning_nas.experiment.display import duration_text
from lightning_nas.html_report import words
from lightning_nas.html_report.charting import Chart, as_data, comparing_charts, numbered, progress_charts
from lightning_nas.html_report.contents import Contents, Network
from lightning_nas.html_report.embedding import as_script_data, source_hash
from lightning_nas.html_report.searching import SearchPart, search_part

_HERE = Path(__file__).parent
_PAGE = _HERE / "page"
_ECHARTS = _HERE / "echarts" / "echarts.min.js"

_COLUMNS = 6  # for labels in the table of trials
_METRICS = 5
_DOMAINS = 200  # of a space
_FAILURES = 10
_TRACEBACK_LINES = 40
_CODE_LINES = 1500
_DRAWING_BYTES = 400_000

_NARROW = 460  # pixels: of a drawing that leaves room for a chart beside it

_WIDTH = re.compile(r'<svg [^>]*?\bwidth="(\d+)"')
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def render(contents: Contents) -> str:
    """The report's HTML."""
    searches = [part for search in contents.searches if (part := search_part(search)) is not None]
    progress = numbered(progress_charts(contents), "progress") if contents.trials else {}
    compared, comparing_notes = comparing_charts(contents)
    comparing = numbered(compared, "comparing")
    styles: dict[str, None] = {}
    networks = [
        _network(contents, network, styles) for network in contents.networks if _is_known(contents, network)
    ]
    drawn = _searches_without_styles(searches, styles)
    every = {**progress, **comparing}
    for each in networks:
        every |= each["charts"]
    for part in searches:
        every |= {**part.maps, f"{part.name}-health": part.health}
    data = {"charts": as_data(every), "searches": {part.name: part.as_data() for part in searches}}
    programs = [_ECHARTS.read_text(encoding="utf-8"), (_PAGE / "report.js").read_text(encoding="utf-8")]
    template = _environment().get_template("report.html")
    return template.render(
        contents=contents,
        now=contents.now,
        description=contents.description,
        name=words.plain(contents.directory.resolve().name),
        best=contents.leaders[0] if contents.leaders else None,
        version=__version__,
        policy=_policy(programs),
        style=Markup((_PAGE / "report.css").read_text(encoding="utf-8")),
        drawing_style=Markup("\n".join(styles)),
        drawing_dark=Markup(declarations(DARK)),
        programs=[Markup(program) for program in programs],
        data=Markup(as_script_data(data)),
        progress=progress,
        comparing=comparing,
        comparing_notes=comparing_notes,
        networks=networks,
        searches=list(zip(searches, drawn)),
        table=_table(contents),
        failures=contents.failures[:_FAILURES],
        more_failures=contents.failures[_FAILURES:],
        space=_space(contents),
        settings=_pairs(contents.runs[-1]["settings"]) if contents.runs else [],
        environment=_environment_pairs(contents),
        commands=_commands(contents),
        traceback_lines=_TRACEBACK_LINES,
    )


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for each in (
        words.plain,
        words.last_lines,
        words.number,
        words.amount,
        words.choice,
        words.moment,
        words.sentence,
    ):
        made.filters[each.__name__] = each
    made.filters["duration"] = duration_text
    made.globals["counted"] = words.counted
    made.globals["listed"] = words.listed
    return made


def _policy(programs: Sequence[str]) -> str:
    """Of the page's own programs, which run, and of nothing else: no network, no other script."""
    hashes = " ".join(map(source_hash, programs))
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
        "form-action 'none'"
    )


def _without_style(svg: str, styles: dict[str, None]) -> Markup:
    """A drawing without its style sheet, which goes to `styles`: the page has each once."""
    styles |= dict.fromkeys(_STYLE.findall(svg))
    return Markup(_STYLE.sub("", svg))


def _width(svg: str) -> float:
    found = _WIDTH.search(svg)
    return float(found[1]) if found else math.inf


def _searches_without_styles(
    parts: Sequence[SearchPart], styles: dict[str, None]
) -> list[list[list[Markup]]]:
    return [[[_without_style(svg, styles) for svg in svgs] for _, svgs in part.drawings] for part in parts]


def _is_known(contents: Contents, network: Network) -> bool:
    """Whether there is anything to tell of a trial's network; a search without a model has none."""
    return (
        contents.description.model is not None or network.architecture is not None or network.code is not None
    )


def _network(contents: Contents, network: Network, styles: dict[str, None]) -> dict[str, Any]:
    """One of the leading networks, for the template."""
    trial, architecture = network.trial, network.architecture
    cells, graph, notes = list(cells_svg(trial.sample).values()), "", []
    if architecture is not None:
        graph = network_svg(architecture)
        if len(graph) > _DRAWING_BYTES:
            notes.append(f"Its drawing is left out, as it takes {len(graph) / 1e6:.1f} MB.")
            graph = ""
    found: dict[str, Chart] = {}
    if architecture is not None:
        blocks = charts.blocks(architecture)
        rows = max((len(axis["data"]) for axis in blocks.get("yAxis", [])), default=0)
        if rows > 1:
            # On a narrow page, and on paper beside a drawing, both halves lie one beneath the other.
            stacked = 150 + 48 * rows
            chart = Chart(
                "Parameters and MACs by block", blocks, 80 + 24 * rows, has_rows=True, narrow=stacked
            )
            found = {f"blocks-{trial.number}": chart}
    code = network.code
    if code is not None and code.count("\n") > _CODE_LINES:
        notes.append(f"Shows the first {_CODE_LINES:,} of {code.count(chr(10)):,} lines of its code.")
        code = "\n".join(code.split("\n")[:_CODE_LINES])
    return {
        "trial": trial,
        "architecture": architecture,
        "cells": [_without_style(svg, styles) for svg in cells],
        "graph": _without_style(graph, styles),
        "is_narrow": graph != "" and _width(graph) <= _NARROW,
        "charts": found,
        "code": code,
        "notes": notes,
    }


def _table(contents: Contents) -> dict[str, Any]:
    """The columns of the table of the best trials."""
    labels = list(dict.fromkeys(label for trial in contents.leaders for label in trial.sample))
    labels = [label for label in contents.description.space if label in labels] or labels
    metrics = list(dict.fromkeys(name for trial in contents.leaders for name in trial.metrics))
    metrics.sort(key=lambda name: name != contents.metric)
    left_out = []
    if len(metrics) > _METRICS:
        left_out.append(f"{_METRICS} of {len(metrics)} metrics")
    if len(labels) > _COLUMNS:
        left_out.append(f"{_COLUMNS} of {len(labels)} labels")
    return {"labels": labels[:_COLUMNS], "metrics": metrics[:_METRICS], "note": " and ".join(left_out)}


def _space(contents: Contents) -> dict[str, Any]:
    space = contents.description.space
    # The labels of a cell have but a few domains between them.
    alike: dict[tuple[str, str], list[str]] = {}
    for label in space:
        key = words.plain(str(space[label])), words.plain(str(space.conditions.get(label, "")))
        alike.setdefault(key, []).append(words.plain(label))
    rows = [(", ".join(labels), *key) for key, labels in alike.items()]
    return {
        "rows": rows[:_DOMAINS],
        "left": max(0, len(rows) - _DOMAINS),
        "size": words.many(space.size, "sample"),
    }


def _pairs(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, "-" if value is None else words.plain(str(value))) for name, value in settings.items()]


def _environment_pairs(contents: Contents) -> list[tuple[str, str]]:
    if not contents.runs:
        return []
    found = dict(contents.runs[-1]["environment"])
    packages = found.pop("packages", {})
    for known in ("command", "working_directory", "pid"):
        found.pop(known, None)
    found["gpus"] = ", ".join(map(str, found.get("gpus") or [])) or "none"
    return _pairs({**found, **packages})


def _commands(contents: Contents) -> dict[str, Any]:
    """How the run is made again: the shell's lines, and what must be said of them."""
    environment = contents.runs[-1]["environment"] if contents.runs else {}
    argv, folder, commit = (environment.get(key) for key in ("command", "working_directory", "commit"))
    place = shlex.quote(str(contents.directory.resolve()))
    lines, notes = [], []
    if isinstance(commit, str):
        lines.append(f"git checkout {shlex.quote(commit.rstrip('+'))}")
        if commit.endswith("+"):
            notes.append("Files had changes that were not committed when it ran.")
    if isinstance(folder, str):
        lines.insert(0, f"cd {shlex.quote(folder)}")
    command = command_line(argv) if isinstance(argv, list) else None
    if command is None:
        notes.append("It ran in a notebook or an interactive Python, of which no command is known.")
        lines = []
    else:
        lines.append(command)
    return {
        "lines": words.plain("\n".join(lines)),
        "notes": notes,
        "resume": words.plain(f"lightning-nas resume {place}"),
        "export": words.plain(f"lightning-nas export {place} --top 3 --format code"),
    }


def command_line(argv: Sequence[str]) -> str | None:
    """The command of a program, by its `sys.argv`; None where that does not tell.

    >>> command_line(["search.py", "--lr", "0.1 0.2"])
    "python search.py --lr '0.1 0.2'"
    >>> command_line(["/usr/lib/python3/site-packages/lightning_nas/cli/__main__.py", "demo"])
    'python -m lightning_nas.cli demo'
    >>> command_line(["-c"]) is None
    True
    """
    program, *options = map(str, argv or [""])
    path = PurePath(program)
    if path.name in ("", "-c", "-", "-m") or path.name in (
        "ipykernel_launcher.py",
        "ipython",
        "colab_kernel_launcher.py",
    ):
        return None
    if path.name == "__main__.py" and "lightning_nas" in path.parts:
        module = ".".join(path.parts[path.parts.index("lightning_nas") : -1])
        return shlex.join(["python", "-m", module, *options])
    if path.suffix == ".py":
        return shlex.join(["python", program, *options])
    return shlex.join([path.name, *options])
