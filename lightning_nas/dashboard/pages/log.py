"""What a trial printed: the end of it, a search in it, the whole as a download."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nicegui import run, ui

from lightning_nas.dashboard import files
from lightning_nas.dashboard.data import Reader
from lightning_nas.dashboard.parts import element, named, text
from lightning_nas.experiment.folder import trial_folder
from lightning_nas.experiment.logs import OUTPUT, SCRIPT
from lightning_nas.trial import Trial


def draw_log(reader: Reader, trial: Trial) -> Any:
    """The end of what it printed; gives what draws it again."""
    place = trial_folder(trial.number)
    streams = {OUTPUT: "output", SCRIPT["stdout"]: "stdout", SCRIPT["stderr"]: "stderr"}
    seen: list[Any] = [None]
    with element("div", "line"):
        stream = named(ui.toggle(streams, value=OUTPUT), role="group", aria_label="Stream").props(
            "dense no-caps"
        )
        words = ui.input("Search the log").props("dense outlined clearable")
        find = ui.button("Search", on_click=lambda: search()).props("outline dense")
        load = ui.link("Download log", "/").props("download")
    about = text("", "quiet small")
    shown = text("", "log", tabindex="0", aria_label="Lines of the log", role="region")

    async def search() -> None:
        if not words.value:
            seen[0] = None
            await redraw()
            return
        path = _path(reader, f"{place}/{stream.value}")
        found = await run.io_bound(_search, path, words.value)
        if found is not None:
            lines, is_whole = found
            limit = "" if is_whole else f" in the first {files.SEARCH_BYTES >> 20} MiB"
            about.say(f"{len(lines)} lines{limit} hold {words.value!r}; an empty search shows the end again.")
            shown.say("\n".join(f"{number}: {line}" for number, line in lines))

    async def redraw() -> None:
        if words.value:
            return
        path = _path(reader, f"{place}/{stream.value}")
        load.set_visibility(path is not None)
        load.props["href"] = f"/files/{reader.key}/{quote(f'{place}/{stream.value}')}"
        size = path.stat().st_size if path is not None and path.exists() else None
        if seen[0] == (stream.value, size):
            return
        seen[0] = (stream.value, size)
        if path is None or size is None:
            about.say("")
            shown.say("It printed nothing here. A trial in the driver's own process prints where that does.")
            return
        ending = await run.io_bound(files.tail, path)
        if ending is not None:
            end, start, whole = ending
            about.say(f"{whole:,} bytes" + (f"; the last {whole - start:,} are shown" if start else ""))
            shown.say(end or "It is empty.")

    def available() -> None:
        have = {
            name: title for name, title in streams.items() if _path(reader, f"{place}/{name}") is not None
        }
        stream.set_visibility(len(have) > 1)
        if have:
            stream.set_options(have, value=stream.value if stream.value in have else next(iter(have)))

    available()
    stream.on_value_change(redraw)
    words.on("keydown.enter", search)
    words.on("clear", search)
    find.props("no-caps")
    return redraw


def _search(path: Any, words: str) -> tuple[list[tuple[int, str]], bool]:
    return ([], True) if path is None else files.search(path, words)


def _path(reader: Reader, relative: str) -> Any:
    try:
        return files.inside(reader.directory, relative)
    except (files.Refused, OSError):
        return None
