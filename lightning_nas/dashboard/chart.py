"""A chart on a page, drawn by ECharts in the browser."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from nicegui import ui

from lightning_nas.charts import themed
from lightning_nas.dashboard.files import plain
from lightning_nas.dashboard.parts import named


class Chart(ui.echart, component="chart.js"):
    """A chart; `Page.chart` makes one that follows the page's theme.

    NiceGUI's own component draws some moments after it has come to be, fails in the browser's console if it goes
    before, and merges an option into the one that is shown.

    Args:
        option: what it shows, as ECharts takes it, see `lightning_nas.charts`.
        title: its name for those who cannot see it.
        height: in pixels.
        dark: whether the page is dark.
    """

    def __init__(self, option: Mapping[str, Any], title: str, height: int, dark: bool) -> None:
        super().__init__({})
        self._update_method = None  # the component sees for itself that it shall draw
        self._shown, self._dark = option, dark
        self.classes("chart").style(f"height: {height}px")
        named(self, role="img", aria_label=plain(title))
        self._draw()

    def show(self, option: Mapping[str, Any]) -> None:
        """Draws another option, if it is another."""
        if option != self._shown:
            self._shown = option
            self._draw()

    def turn(self, dark: bool) -> None:
        """Draws it for a dark page, or for a light one."""
        if dark != self._dark:
            self._dark = dark
            self._draw()

    def _draw(self) -> None:
        if not self.is_deleted:
            option = {**themed(self._shown, self._dark), "animation": False}
            self.props["options"] = json.dumps(_finite(option), separators=(",", ":"))


def _finite(value: Any) -> Any:
    """A value that JSON can hold: NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
