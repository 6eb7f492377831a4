"""What all pages share: the header with the theme, what stands above an experiment, charts that follow the theme."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nicegui import Client, run, ui
from nicegui.element import Element

from lightning_nas.dashboard.actions import resume_command
from lightning_nas.dashboard.chart import Chart
from lightning_nas.dashboard.data import Experiments, Reader
from lightning_nas.dashboard.parts import Text, element, named, notice, state_class, text

THEMES = {"auto": "Auto", "light": "Light", "dark": "Dark"}
THEME_COOKIE, DARK_COOKIE = "lightning-nas-theme", "lightning-nas-dark"
_IS_DARK = {"light": False, "dark": True, "auto": None}
_REFRESH_S = 1.0
# Tells whether the page is dark; and loads it again when a server that had ended is back.
_SCRIPT = """
addEventListener("load", () => {
  const tell = () => emitEvent("dark", Quasar.Dark.isActive);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTimeout(tell, 50));
  setTimeout(tell, 100);
  let missed = 0;
  setInterval(async () => {
    missed = window.did_handshake && !window.socket?.connected ? missed + 1 : 0;
    if (missed < 2) return;
    try {
      if ((await fetch("/look.css", { cache: "no-store" })).ok) location.reload();
    } catch {}
  }, 2000);
});
"""
PAGES = {
    "": "Overview",
    "/trials": "Trials",
    "/architecture": "Architecture",
    "/one-shot": "One-shot",
    "/pareto": "Pareto",
    "/importance": "Importance",
}


class Page:
    """What one browser tab looks at.

    Args:
        experiments: all there are.
        cookies: of the browser: the theme that was chosen, and whether it was dark the last time.

    Attributes:
        dark: whether it is dark now; in the theme "auto" the browser tells.
    """

    def __init__(self, experiments: Experiments, cookies: Mapping[str, str]) -> None:
        self.experiments = experiments
        theme = cookies.get(THEME_COOKIE, "auto")
        self.theme = theme if theme in THEMES else "auto"
        self.dark = self.theme == "dark" or (self.theme == "auto" and cookies.get(DARK_COOKIE) == "true")
        self.client: Client = ui.context.client
        self._charts: weakref.WeakSet[Chart] = weakref.WeakSet()

    def header(self) -> None:
        """The line at the top: the way back to all experiments, the folder, the theme."""
        mode = ui.dark_mode(_IS_DARK[self.theme])
        with element("header", "top"):
            ui.link("lightning-nas", "/").classes("brand")
            text(self.experiments.root, "where small", title=str(self.experiments.root))
            choice = named(ui.toggle(THEMES, value=self.theme), role="group", aria_label="Theme")
            choice.props("dense no-caps unelevated")

        def choose(event: Any) -> None:
            self.theme = event.value
            mode.value = _IS_DARK[self.theme]
            _keep(THEME_COOKIE, self.theme)
            ui.run_javascript("emitEvent('dark', Quasar.Dark.isActive)")

        choice.on_value_change(choose)
        ui.on("dark", lambda event: self._turn(bool(event.args)))
        ui.add_body_html(f"<script>{_SCRIPT}</script>")

    def _turn(self, dark: bool) -> None:
        _keep(DARK_COOKIE, str(dark).lower())
        if dark != self.dark:
            self.dark = dark
            for chart in list(self._charts):
                chart.turn(dark)

    async def open(self, key: str, current: str) -> Reader | None:
        """Reads an experiment and draws what stands above each of its pages; None, and says so, if there is none.

        Args:
            key: of the experiment.
            current: the end of the page's address, one of `PAGES`.
        """
        reader = self.experiments.reader(key)
        if reader is None:  # it may have begun since the folder was gone through
            await run.io_bound(self.experiments.scan)
            reader = self.experiments.reader(key)
        if reader is None:
            self.title("No experiment")
            text("No experiment", tag="h1")
            notice(f"There is no experiment of this name under {self.experiments.root}.", "bad")
            ui.link("All experiments", "/")
            return None
        await run.io_bound(reader.refresh)
        name = reader.directory.name if reader.name == "." else reader.name
        self.title(f"{name} · {PAGES.get(current, 'Trial')}")
        with element("div", "line"):
            text(name, tag="h1")
            state = text("", "state")
        with named(element("nav", "pages"), aria_label="Pages of the experiment"):
            for end, title in PAGES.items():
                link = ui.link(title, f"/experiment/{reader.key}{end}")
                if end == current or (end == "/trials" and current.startswith("/trials")):
                    link.props("aria-current=page")
        told = element("div")

        def tell() -> None:
            _tell_state(reader, state, told)

        tell()
        self.live(reader, tell)
        return reader

    def title(self, words: str) -> None:
        """The title of the tab."""
        ui.page_title(f"{words} · lightning-nas")

    def live(self, reader: Reader, draw: Callable[[], Awaitable[None] | None]) -> None:
        """Calls `draw` whenever the experiment has changed, for as long as the page is shown.

        While it runs `draw` is called each second, since times go on; it must then change little.
        """
        seen = reader.version
        if self.client.is_deleted:  # while something was awaited
            return

        async def look() -> None:
            nonlocal seen
            version = await run.io_bound(reader.refresh)
            if version is None:  # the server ends
                return
            if version != seen or reader.is_running:
                seen = version
                waiting = draw()
                if waiting is not None:
                    await waiting

        ui.timer(_REFRESH_S, look, immediate=False)

    def chart(self, option: Mapping[str, Any], title: str, height: int = 320) -> Chart:
        """A chart that follows the theme; `title` is its name for those who cannot see it."""
        made = Chart(option, title, height, self.dark)
        self._charts.add(made)
        return made

    def opens_trials(self, chart: Chart, reader: Reader) -> None:
        """A click on a trial's point in the chart opens its page."""

        def go(event: Any) -> None:
            number = event.data.get("trial") if isinstance(event.data, dict) else None
            if isinstance(number, int):
                ui.navigate.to(f"/experiment/{reader.key}/trials/{number}")

        chart.on_point_click(go)


def _keep(cookie: str, value: str) -> None:
    """Has the browser keep one of our own words for a year."""
    ui.run_javascript(f"document.cookie = '{cookie}={value}; path=/; max-age=31536000; samesite=strict'")


def _tell_state(reader: Reader, state: Text, told: Element) -> None:
    now = reader.summary
    words = "unreadable" if reader.trouble else now.state if now is not None else ""
    state.say(words)
    state.classes(replace=state_class(words))
    ending = now.ending if now is not None else None
    message = (reader.trouble, words, ending)
    if getattr(told, "message", None) == message:
        return
    told.message = message  # type: ignore[attr-defined]
    told.clear()
    with told:
        if reader.trouble is not None:
            notice(reader.trouble, "bad")
        elif now is not None and now.state not in ("running", "finished"):
            why = "its process has died" if now.state == "broken off" else now.ending or "unknown"
            with named(element("div", "notice warn"), role="status"):
                text(f"No search runs here ({why}). It goes on with:", tag="span")
                ui.element("span").style("display: inline-block; width: 6px")
                text(resume_command(reader.directory), "command mono", tag="code")
