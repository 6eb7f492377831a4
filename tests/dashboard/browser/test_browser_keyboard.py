"""Without a mouse: Tab reaches all that can be used and shows where it is; Enter and Space press it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import go
from looking import field, focused, option, unreached, wait_for_charts
from waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.mark.parametrize(
    "end", ["/", *(f"/experiment/running{end}" for end in ("", "/trials/0")),
            *(f"/experiment/finished{end}" for end in ("/trials", "/pareto")),
            "/experiment/one_shot/one-shot", "/experiment/networks/architecture"],
)  # fmt: skip
def test_tab_reaches_everything_and_shows_where_it_is(page: Page, running: Path, end: str) -> None:
    go(page, end)
    wait_for_charts(page)
    page.add_style_tag(content="*, *::before, *::after { transition: none !important }")
    seen, unmarked = [], []
    for _ in range(60):
        page.keyboard.press("Tab")
        now = focused(page)
        if now is None:
            break
        seen.append(now["name"])
        if not now["isMarked"]:
            unmarked.append(now["name"])
    assert unreached(page) == [], seen
    assert unmarked == []
    assert len(seen) >= 4


def test_a_dialog_keeps_the_focus_until_escape(page: Page, running: Path) -> None:
    go(page, "/experiment/running/trials/0")
    button = page.get_by_role("button", name="Copy with changes")
    button.focus()
    page.keyboard.press("Space")
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    page.wait_for_function("document.activeElement.closest('.q-dialog')")
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        now = page.evaluate(
            # After the last the browser's own buttons come, and the body stands for them.
            "[document.activeElement === document.body || !!document.activeElement.closest('.q-dialog'),"
            " document.activeElement.ariaLabel || document.activeElement.innerText]"
        )
        assert now[0], now
        reached.add(now[1])
    assert {"Run copy", "Cancel", "lr", "width", "optimizer"} <= {str(name).strip() for name in reached}
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert button.evaluate("button => button === document.activeElement")


def test_enter_and_space_press_links_buttons_and_choices(page: Page, running: Path) -> None:
    go(page, "/experiment/running")
    page.get_by_role("button", name="Stop search").focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.get_by_role("navigation").get_by_role("link", name="Pareto").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/pareto")
    go(page, "/experiment/finished/pareto")
    field(page, "Horizontal metric").focus()
    page.keyboard.press("Enter")
    page.get_by_role("option", name="loss", exact=True).wait_for()
    before = option(page, "Pareto front")["xAxis"][0]["name"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    until(lambda: option(page, "Pareto front")["xAxis"][0]["name"] != before)
    page.get_by_role("group", name="Theme").get_by_role("button", name="Dark").focus()
    page.keyboard.press("Space")
    page.wait_for_function("document.body.classList.contains('body--dark')")


def test_the_grid_can_be_used_by_keys(page: Page, running: Path) -> None:
    go(page, "/experiment/finished/trials")
    page.locator(".ag-row").first.wait_for()
    header = page.get_by_role("columnheader", name="Trial", exact=True)
    header.focus()
    page.keyboard.press("ArrowDown")
    number = page.evaluate("document.activeElement.innerText.trim()")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/trials/{number}")
