"""Each page, on experiments that have ended and on one that runs: whole, readable, and from this server alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from conftest import CHROMIUM, FLAGS, NAMES, Log, go, state, trials
from looking import faint, option, protruding, wait_for_charts
from searches import HOSTILE_LABELS, HOSTILE_METRIC, HOSTILE_VALUE
from waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HEADINGS = {
    "": [
        *(
            "Best so far, beside every trial",
            "Trials by status",
            "Running trials",
            "Search space",
            "Settings",
        ),
        *("Environment of the last run", "Log of the search"),
    ],
    "/trials": ["All trials", "Compare", "Parameters and metrics", "Durations"],
    "/trials/0": ["Trial 0", "Sample", "Result", "Intermediate results", "Log", "Files"],
    "/architecture": ["Network", "Sample"],
    "/one-shot": [],
    "/pareto": ["Pareto front"],
    "/importance": ["Importance of each label"],
}
TITLES = {
    "": "Overview",
    "/trials": "Trials",
    "/architecture": "Architecture",
    "/one-shot": "One-shot",
    "/pareto": "Pareto",
    "/importance": "Importance",
}


@pytest.mark.parametrize("end", HEADINGS)
@pytest.mark.parametrize("name", ["finished", "running"])
def test_a_page_is_whole(page: Page, experiments: Path, running: Path, name: str, end: str) -> None:
    go(page, f"/experiment/{name}{end}")
    page.get_by_text(name, exact=True).and_(page.get_by_role("heading", level=1)).wait_for()
    for heading in HEADINGS[end]:
        page.get_by_role("heading", name=heading, exact=True).wait_for()
    wait_for_charts(page)
    title = f"Trial 0 · {name}" if end == "/trials/0" else f"{name} · {TITLES[end]}"
    assert page.title() == f"{title} · lightning-nas"
    here = page.get_by_role("navigation").locator("[aria-current=page]")
    assert here.inner_text() == TITLES[end.removesuffix("/0")]
    assert protruding(page) == []
    assert faint(page) == []


def test_the_list_of_experiments_says_how_each_stands(page: Page, experiments: Path, running: Path) -> None:
    go(page, "/")
    table = page.get_by_role("region", name="Experiments")
    for name in (*NAMES, "running"):
        row = table.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))
        row.get_by_text("running" if name == "running" else "finished", exact=True).last.wait_for()
        best = state(experiments / name).best
        if best is not None:
            assert f"(trial {best.number})" in row.inner_text()
    assert faint(page) == []
    page.get_by_role("link", name="finished", exact=True).click()
    page.get_by_role("heading", name="Trials by status").wait_for()
    assert urlsplit(page.url).path == "/experiment/finished"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (400, "light"), (400, "dark")])
def test_pages_fit_and_can_be_read(
    page: Page, experiments: Path, running: Path, width: int, scheme: str
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    failed = next(trial.number for trial in trials(experiments / "flawed") if trial.reason)
    for address in (
        "/",
        *(f"/experiment/running{end}" for end in ("", "/trials/0")),
        *(f"/experiment/finished{end}" for end in ("/trials", "/pareto", "/importance")),
        f"/experiment/flawed/trials/{failed}",
        *("/experiment/one_shot/one-shot", "/experiment/networks/architecture?trial=0&other=1"),
    ):
        go(page, address)
        wait_for_charts(page)
        assert protruding(page) == [], address
        assert faint(page) == [], address


def test_the_theme_can_be_chosen_and_stays(page: Page, experiments: Path) -> None:
    go(page, "/experiment/finished")
    page.wait_for_function("!Quasar.Dark.isActive")
    light = option(page, "Best so far, beside every trial")["xAxis"][0]["axisLabel"]["color"]
    page.get_by_role("group", name="Theme").get_by_role("button", name="Dark").click()
    page.wait_for_function("document.body.classList.contains('body--dark')")
    until(lambda: option(page, "Best so far, beside every trial")["xAxis"][0]["axisLabel"]["color"] != light)
    assert faint(page) == []
    page.reload()
    page.wait_for_function("document.body.classList.contains('body--dark')")
    assert option(page, "Best so far, beside every trial")["xAxis"][0]["axisLabel"]["color"] != light
    page.get_by_role("group", name="Theme").get_by_role("button", name="Auto").click()
    page.wait_for_function("!document.body.classList.contains('body--dark')")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.body.classList.contains('body--dark')")


def test_labels_values_logs_and_tracebacks_do_nothing(page: Page, experiments: Path) -> None:
    failed = next(trial for trial in trials(experiments / "hostile") if trial.traceback)
    done = next(trial for trial in trials(experiments / "hostile") if trial.score is not None)
    shown = {
        "": [*HOSTILE_LABELS],
        "/trials": [HOSTILE_VALUE],
        f"/trials/{done.number}": [*HOSTILE_LABELS, HOSTILE_METRIC, "</script> <img src=x onerror"],
        f"/trials/{failed.number}": [f"RuntimeError: {HOSTILE_VALUE}"],
        "/architecture": [*HOSTILE_LABELS],
        "/pareto": [HOSTILE_METRIC],
        "/importance": [],
    }
    for end, texts in shown.items():
        go(page, f"/experiment/hostile{end}")
        wait_for_charts(page)
        for text in texts:
            page.get_by_text(text).first.wait_for()
        # Tooltips are the only part of a chart that is HTML.
        page.evaluate(
            """() => document.querySelectorAll('.chart').forEach(chart => [0, 1, 2].forEach(i => { try {
            getElement(+chart.id.slice(1)).chart.dispatchAction({type: 'showTip', seriesIndex: i, dataIndex: 0})
            } catch { /* parallel axes cannot be pointed at by number */ } }))"""
        )
        made = page.evaluate(
            "document.querySelectorAll('img, [onmouseover], [onload], [onerror], .body script').length"
        )
        assert made == 0, end
        assert page.title() != "owned"
    go(page, f"/experiment/hostile/trials/{done.number}")
    log = page.get_by_role("region", name="Lines of the log").inner_text()
    assert log.startswith("red <script>")
    assert "\x1b" not in log


def test_chromium_itself_notes_no_request_to_another_host(
    browser: Browser, experiments: Path, address: str, tmp_path: Path
) -> None:
    """Of all that our pages make it ask for, in its own log of the network."""
    path = tmp_path / "net.json"
    own = browser.browser_type.launch(executable_path=CHROMIUM, args=[*FLAGS, f"--log-net-log={path}"])
    page = own.new_page(base_url=address)
    for end in (
        "/",
        "/experiment/finished",
        "/experiment/finished/trials",
        "/experiment/networks/architecture",
    ):
        go(page, end)
        wait_for_charts(page)
    own.close()
    asked = [event.get("params", {}) for event in json.loads(path.read_text())["events"]]
    # What has no page for an initiator comes from the browser: its sign-in, its autofill.
    urls = {str(each["url"]) for each in asked if each.get("initiator") == address and "url" in each}
    assert len(urls) > 10
    assert {urlsplit(url).netloc for url in urls} == {urlsplit(address).netloc}


def test_a_page_that_is_not_there_says_so(page: Page, experiments: Path) -> None:
    go(page, "/experiment/nowhere")
    page.get_by_text("There is no experiment of this name").wait_for()
    page.get_by_role("link", name="All experiments").click()
    page.get_by_role("heading", name="Experiments").wait_for()
    go(page, "/experiment/finished/trials/999")
    page.get_by_text("There is no trial 999; there are 24.").wait_for()


def test_the_log_of_the_browser_fails_a_test(browser: Browser, address: str) -> None:
    """What `log` asserts can fail."""
    log = Log(urlsplit(address).netloc)
    page = browser.new_page(base_url=address)
    log.watch(page)
    go(page, "/")
    page.evaluate("console.error('wrong')")
    page.evaluate("fetch('/nothing').then(() => fetch('http://127.0.0.2:9/').catch(() => 0))")
    page.close()
    assert any(text == "wrong" for text in log.complaints)
    assert any("404" in text for text in log.complaints)
    assert log.foreign == ["http://127.0.0.2:9/"] or any("127.0.0.2" in text for text in log.complaints)
