"""The report in a browser without a network: every chart is painted, and no script but its own runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from reported import EVIL, finished, made, with_files, with_search
from waiting import until

from lightning_nas.html_report import write_report
from lightning_nas.space import Categorical, SearchSpace
from lightning_nas.trial import Intermediate, Status, Trial, best

pytestmark = pytest.mark.slow

OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PAINTED = """() => [...document.querySelectorAll('.plot')].map(plot => {
    const svg = plot.querySelector('svg'), canvas = plot.querySelector('canvas');
    if (svg) return svg.querySelectorAll('path, text').length;
    if (!canvas) return 0;
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    return pixels.reduce((sum, value) => sum + (value > 0 ? 1 : 0), 0);
})"""


SHOWN_ARE_DRAWN = """() => [...document.querySelectorAll('.plot')].every(
    plot => !plot.clientWidth || plot.querySelector('svg, canvas'))"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip(
        "playwright.sync_api", reason="NOT TESTED in a browser: playwright is not installed"
    )
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("NOT TESTED in a browser: there is no Chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(OPTIONS))
        yield browser
        browser.close()


@dataclass
class Seen:
    """A page, and what it complained of or asked for."""

    page: Any
    troubles: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def look(chromium: Any) -> Iterator[Any]:
    contexts = []

    def opened(path: Path, width: int = 1280, dark: bool = False, **options: Any) -> Seen:
        scheme = "dark" if dark else "light"
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, **options
        )
        contexts.append(context)
        seen = Seen(context.new_page())
        seen.page.on("console", lambda message: seen.troubles.append(message.text))
        seen.page.on("pageerror", lambda error: seen.troubles.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            seen.page.wait_for_function(SHOWN_ARE_DRAWN)
        return seen

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an experiment that has all that a report may tell."""
    directory = tmp_path_factory.mktemp("rich")
    trials = finished(40)
    made(directory, trials)
    for trial in best(trials, 3):
        with_files(directory, trial.number)
    with_search(directory)
    return write_report(directory)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_every_chart_is_painted_and_nothing_is_asked_for(
    look: Any, rich: Path, width: int, dark: bool
) -> None:
    seen = look(rich, width, dark)
    seen.page.evaluate("() => document.querySelectorAll('details').forEach(each => each.open = true)")
    until(lambda: min(seen.page.evaluate(PAINTED)) >= 5)
    assert len(seen.page.evaluate(PAINTED)) == 4 + 3 + 3 + 3
    assert seen.troubles == []
    assert {url for url in seen.requests if url != "data:,"} == {rich.as_uri()}
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    background = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark


def test_the_slider_moves_maps_words_and_cells(look: Any, rich: Path) -> None:
    page = look(rich).page
    slider = page.locator("input[type=range]")
    maps = page.locator("[data-chart=search-0-0]")
    last = maps.inner_html()
    assert "epoch 5" in page.locator(".slider output").inner_text()
    assert page.locator("[data-drawing]:visible").get_attribute("data-drawing") == "1"
    slider.focus()
    slider.press("Home")
    assert "after epoch 0, 10 steps" in page.locator(".slider output").inner_text()
    assert page.locator("[data-drawing]:visible").get_attribute("data-drawing") == "0"
    until(lambda: "after epoch 0" in maps.inner_text())
    assert maps.inner_html() != last
    slider.press("End")
    until(lambda: "after epoch 5" in maps.inner_text())


def test_it_follows_when_the_page_turns_dark(look: Any, rich: Path) -> None:
    page = look(rich).page
    title = page.locator("[data-chart=progress-0] svg text").first
    light = title.evaluate("each => each.getAttribute('fill')")
    page.emulate_media(color_scheme="dark")
    until(lambda: title.evaluate("each => each.getAttribute('fill')") != light)


def test_it_prints_light_and_comes_back(look: Any, rich: Path) -> None:
    page = look(rich, dark=True).page
    charts = "() => [...document.querySelectorAll('.plot svg')].map(svg => svg.outerHTML)"
    before = page.evaluate(charts)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    printed = page.evaluate(charts)
    widths = page.evaluate("() => [...document.querySelectorAll('.plot svg')].map(svg => svg.clientWidth)")
    assert max(widths) == 820
    page.emulate_media(media="print")
    fits = """() => [...document.querySelectorAll('.plot')].filter(plot => plot.clientWidth).map(plot => {
        const place = plot.getBoundingClientRect(), drawn = plot.querySelector('svg').getBoundingClientRect();
        const box = plot.querySelector('svg').viewBox.baseVal, scale = drawn.width / box.width;
        return drawn.height > 50 && Math.abs(drawn.width - place.width) < 1
            && Math.abs(scale * box.height - drawn.height) < 1 && Math.abs(drawn.height - place.height) < 8;
    })"""
    assert page.evaluate(fits) == [True] * 11
    page.emulate_media(media="screen")
    assert all(one != other for one, other in zip(before, printed))
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".plot svg[viewBox]").count() == 0
    sizes = """() => [...document.querySelectorAll('.plot')].map(
        plot => [plot.clientWidth, plot.querySelector('svg')?.clientWidth])"""
    until(lambda: all(drawn in (None, place) for place, drawn in page.evaluate(sizes)))
    assert len(page.pdf(format="A4")) > 10_000


def test_other_peoples_text_does_nothing(look: Any, tmp_path: Path) -> None:
    markup = EVIL + "<img src=x onerror=\"document.title='taken'\">{a|b}{b}"
    space = SearchSpace({markup: Categorical([markup, "b", "c"])})
    trials = [
        Trial(
            i,
            {markup: value},
            Status.COMPLETED,
            {"acc": i / 9, markup: 1.0},
            i / 9,
            (Intermediate(0, {markup: i}),),
        )
        for i, value in enumerate([markup, "b", "c"])
    ]
    trials.append(Trial(3, {markup: "b"}, Status.FAILED, traceback=markup, reason=markup))
    directory = made(tmp_path, trials, space=space, strategy=markup, model=markup)
    for number in range(3):
        with_files(directory, number)
    seen = look(write_report(directory))
    assert seen.page.title().endswith("lightning-nas")
    assert seen.troubles == []
    seen.page.hover("[data-chart=progress-0]", position={"x": 64, "y": 150})
    assert seen.page.title().endswith("lightning-nas")
    assert len(seen.requests) <= 2


def test_a_script_that_got_in_would_not_run(look: Any, rich: Path, tmp_path: Path) -> None:
    """The second wall: the policy names the page's own programs by their sums."""
    path = tmp_path / "broken-into.html"
    path.write_text(rich.read_text().replace("</main>", "<script>document.title = 'taken'</script></main>"))
    seen = look(path)
    assert seen.page.title().endswith("lightning-nas")
    assert any("Content Security Policy" in trouble for trouble in seen.troubles)
    assert (
        min(
            seen.page.evaluate(
                "() => [...document.querySelectorAll('#progress svg')].map(s => s.children.length)"
            )
        )
        > 0
    )


def test_thousands_of_trials_are_painted(look: Any, tmp_path: Path) -> None:
    path = write_report(made(tmp_path, finished(3000, reports=2)))
    seen = look(path)
    until(lambda: min(seen.page.evaluate(PAINTED)) >= 5)
    assert seen.page.locator("canvas").count() >= 1
    assert seen.troubles == []


def test_without_javascript_it_still_tells(look: Any, rich: Path) -> None:
    page = look(rich, java_script_enabled=False).page
    assert page.locator("noscript").count() == 1
    assert "The charts need JavaScript" in page.locator("#progress").inner_text()
    assert "Trial" in page.locator("#networks").inner_text()
