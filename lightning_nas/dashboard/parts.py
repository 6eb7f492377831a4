"""What pages are made of: text that is only text, boxes, tables, messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeVar

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from lightning_nas.dashboard.actions import Answer
from lightning_nas.dashboard.files import plain
from lightning_nas.experiment.display import duration_text
from lightning_nas.experiment.usage import Usage

_NOTICES: Mapping[str, Literal["positive", "negative", "warning"]] = {
    "done": "positive",
    "refused": "negative",
    "waiting": "warning",
}


def element(tag: str, classes: str = "") -> Element:
    """An element of a tag."""
    return ui.element(tag).classes(classes)


class Text(TextElement):
    """Words on the page, without terminal codes; markup in them does nothing."""

    def __init__(self, words: object, classes: str = "", tag: str = "div") -> None:
        super().__init__(tag=tag, text=plain(str(words)))
        self.classes(classes)

    def say(self, words: object) -> None:
        """Puts other words in their place."""
        self.text = plain(str(words))


def text(words: object, classes: str = "", tag: str = "div", **attributes: str) -> Text:
    """Words on the page; see `Text`."""
    return named(Text(words, classes, tag), **attributes)


Some = TypeVar("Some", bound=Element)


def named(thing: Some, **attributes: str) -> Some:
    """The element with attributes of HTML, `aria_label="..."` for `aria-label`; any text will do as their value."""
    for name, value in attributes.items():
        thing.props[name.replace("_", "-")] = value
    return thing


def panel(title: str = "", classes: str = "wide") -> Element:
    """A box with a heading."""
    box = element("section", f"panel {classes}")
    if title:
        named(box, aria_label=title)
        with box:
            text(title, tag="h2")
    return box


def grid() -> Element:
    """Where panels stand beside each other if there is room."""
    return element("div", "grid")


class Slider(ui.slider):
    """A slider that stays where it was put; NiceGUI's goes back to where the server last saw it."""

    LOOPBACK = None


def slider(low: int, high: int, value: int, name: str) -> Slider:
    """A slider over whole numbers; `name` is for those who cannot see it."""
    return named(Slider(min=low, max=high, value=value), aria_label=name).classes("slider")


def notice(words: str, kind: str = "") -> Text:
    """A message that stays. `kind` is "", "good", "warn" or "bad"."""
    return text(words, f"notice {kind}", role="status")


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair a line."""
    with element("dl", "facts"):
        for name, value in pairs:
            text(name, tag="dt")
            text(value, "mono", tag="dd")


def usage_facts(usage: Usage | None) -> list[tuple[str, str]]:
    """What is known of a trial's processor time and memory, to be shown as names and values."""
    if usage is None:
        return []
    known = (("memory", usage.memory_mb), ("GPU memory", usage.gpu_memory_mb))
    return [
        ("processor time", duration_text(usage.cpu_s)),
        *((f"most {name}", f"{value:,.0f} MB") for name, value in known if value is not None),
    ]


def table(name: str, columns: Sequence[str], right: Iterable[str] = ()) -> Element:
    """A table that scrolls within its box; gives its body."""
    with (
        named(element("div", "scroll"), tabindex="0", role="region", aria_label=name),
        element("table", "plain"),
    ):
        with element("thead"), element("tr"):
            for column in columns:
                text(column, "right" if column in right else "", tag="th", scope="col")
        return element("tbody")


def row(*cells: object, right: Iterable[int] = ()) -> list[Element]:
    """A row of a table: words, or functions that draw a cell; gives the cells. `right` has the numbers of some."""
    made: list[Element] = []
    with element("tr"):
        for position, cell in enumerate(cells):
            style = "right" if position in right else "name"
            if callable(cell):
                with element("td", style) as drawn:
                    cell()
                made.append(drawn)
            else:
                made.append(text(cell, style, tag="td"))
    return made


def state_class(state: str) -> str:
    """The class of a state or status, which gives it its colour."""
    return "state " + state.replace(" ", "-")


def tell_answer(answer: Answer | None) -> None:
    """Says for some seconds, at the bottom of the page, what came of a request."""
    if answer is not None:
        ui.notify(
            plain(answer.text),
            type=_NOTICES[answer.outcome],
            timeout=8000,
            close_button="Close",
            multi_line=True,
        )
