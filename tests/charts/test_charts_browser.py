"""The charts as ECharts draws them in a browser: without a complaint, clickable, and deaf to hostile text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chart_data import HOSTILE, gallery, searched
from waiting import until

from lightning_nas import charts
from lightning_nas.charts.theme import Option
from lightning_nas.trial import Objective

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ECHARTS = Path(charts.__file__).parents[1] / "html_report" / "echarts" / "echarts.min.js"
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
PAGE = "<!doctype html><meta charset=utf-8><body style='margin:0'><div id=box></div>"
DRAW = """([option, width]) => {
    const box = document.getElementById("box");
    box.style.width = width + "px";
    box.style.height = "400px";
    if (window.chart) window.chart.dispose();
    window.clicks = [];
    window.chart = echarts.init(box);
    window.chart.on("click", (event) => window.clicks.push(event.data));
    window.chart.setOption(option);
}"""
INK = """() => {
    const canvas = document.querySelector("#box canvas");
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let ink = 0;
    for (let i = 3; i < data.length; i += 4) ink += data[i] > 0;
    return ink;
}"""
ON_A_LINE = """() => {
    for (let y = 30; y < 300; y++) {
        const found = chart.getZr().handler.findHover(300, y);
        if (found && found.target && found.target.shape && found.target.shape.points) return [300, y];
    }
}"""

pytestmark = [
    pytest.mark.skipif(not ECHARTS.exists(), reason=f"ECharts is not at {ECHARTS}"),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """A page with ECharts; `page.complaints` has what its console and its requests said."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 500})
        complaints: list[str] = []
        page.complaints = complaints
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url))
        page.set_content(PAGE)
        page.add_script_tag(content=ECHARTS.read_text(encoding="utf-8"))
        yield page
        browser.close()


def draw(page: Any, option: Option, width: int = 1280) -> None:
    """Puts a chart in place of the last one."""
    page.mouse.move(0, 490)
    page.evaluate(DRAW, [json.loads(json.dumps(option, allow_nan=False)), width])


def pixel(page: Any, series: int, at: list[float]) -> list[float]:
    found: list[float] = page.evaluate(
        "([s, at]) => window.chart.convertToPixel({seriesIndex: s}, at)", [series, at]
    )
    return found


@pytest.mark.parametrize("name", gallery())
def test_a_browser_draws_each_chart_without_a_complaint(page: Any, name: str) -> None:
    for dark in (False, True):
        for width in (1280, 400):
            draw(page, charts.themed(gallery()[name], dark), width)
            assert page.evaluate(INK) > 300  # a dozen letters
    assert page.complaints == []


@pytest.mark.parametrize("name", gallery())
def test_hostile_text_is_drawn_as_text(page: Any, name: str) -> None:
    option = gallery(HOSTILE)[name]
    draw(page, option)
    for i, series in enumerate(option["series"]):
        if series["type"] == "parallel":  # whose tooltips come by the pointer alone
            page.mouse.move(*page.evaluate(ON_A_LINE))
        elif not series.get("silent"):
            last = len(series["data"]) - 1
            page.evaluate(
                "at => chart.dispatchAction({type: 'showTip', ...at})", {"seriesIndex": i, "dataIndex": last}
            )
    if option["series"]:
        until(lambda: page.inner_text("#box").strip())  # a tooltip is there
    assert page.evaluate("document.querySelectorAll('#box img, #box script').length") == 0
    assert page.evaluate("window.hurt === undefined")
    assert page.complaints == []


def test_a_tooltip_shows_hostile_text_letter_by_letter(page: Any) -> None:
    draw(page, charts.importance({HOSTILE: 0.5, "other": 0.5}))
    page.evaluate("chart.dispatchAction({type: 'showTip', seriesIndex: 0, dataIndex: 0})")
    until(lambda: "<img src=x onerror=" in page.inner_text("#box"))


def test_a_click_on_a_point_gives_the_trials_number(page: Any) -> None:
    option = charts.history(searched(), Objective("acc"))
    draw(page, option)
    (i, series) = next((i, s) for i, s in enumerate(option["series"]) if s["name"] == "stopped")
    point = series["data"][1]
    page.mouse.click(*pixel(page, i, point["value"]))
    page.wait_for_function("clicks.length")
    assert page.evaluate("clicks.map(data => data.trial)") == [point["trial"]] == [16]


def test_a_click_among_ten_thousand_points_gives_a_trial_there(page: Any) -> None:
    trials = searched(10_000)
    option = charts.history(trials, Objective("acc"))
    draw(page, option)
    (i, series) = next((i, s) for i, s in enumerate(option["series"]) if s["name"] == "completed")
    assert series["large"]
    lowest = min(series["data"], key=lambda point: point["value"][1])
    page.mouse.click(*pixel(page, i, lowest["value"]))
    page.wait_for_function("clicks.length")
    assert page.evaluate("clicks.map(data => data.trial)") == [lowest["trial"]]


def test_a_drawn_chart_can_be_replaced_by_an_empty_one_and_back(page: Any) -> None:
    full = charts.history(searched(), Objective("acc"))
    draw(page, full)
    for option in (charts.history([], Objective("acc")), full):
        page.evaluate("option => chart.setOption(option, {notMerge: true})", json.loads(json.dumps(option)))
    assert page.complaints == []
