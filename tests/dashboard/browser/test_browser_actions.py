"""What can be pressed does what it says: to a real driver, to the store, to files."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ENVIRONMENT, SEARCHES, go, process, state, trials
from looking import CHART, choose, field, option, rows
from waiting import until

from lightning_nas.trial import Status

if TYPE_CHECKING:
    from playwright.sync_api import Page


def is_stopped(directory: Path, number: int) -> bool:
    return bool(trials(directory)[number].status is Status.STOPPED)


def made_after(directory: Path, known: int, what: str) -> Any:
    """The trial that came after `known` others with a reason or a sample; None as long as there is none."""
    return next((trial for trial in trials(directory)[known:] if what in (trial.reason or "")), None)


# ---------------------------------------------------------------- a driver that works


def test_a_trial_can_be_stopped_and_then_retried(page: Page, running: Path) -> None:
    number = state(running).running[0].number
    go(page, f"/experiment/running/trials/{number}")
    page.get_by_role("button", name="Stop trial").click()
    page.get_by_text(f"Trial {number} is told to end.").wait_for()
    until(lambda: is_stopped(running, number))
    retry = page.get_by_role("button", name="Retry trial")
    retry.wait_for()
    assert not page.get_by_role("button", name="Stop trial").is_visible()
    known = len(trials(running))
    retry.click()
    page.get_by_text(f"The sample of trial {number} is queued").wait_for()
    new = until(lambda: made_after(running, 0, f"retry of trial {number}") or trials(running)[known:])
    made = new[0] if isinstance(new, list) else new
    assert made.sample == trials(running)[number].sample
    assert made.number != number


def test_a_trial_can_be_copied_with_changes(page: Page, running: Path) -> None:
    old = trials(running)[0]
    go(page, "/experiment/running/trials/0")
    page.get_by_role("button", name="Copy with changes").click()
    dialog = page.get_by_role("dialog")
    field(page, "width").fill("17")
    dialog.get_by_role("button", name="Run copy").click()
    dialog.get_by_text("width: ").wait_for()
    assert dialog.is_visible()
    width = 64 if old.sample["width"] != 64 else 32
    field(page, "width").fill(str(width))
    field(page, "lr").fill("0.0123")
    dialog.get_by_role("button", name="Run copy").click()
    page.get_by_text("The changed sample of trial 0 is queued").wait_for()
    wanted = {**old.sample, "width": width, "lr": 0.0123}
    assert until(lambda: [trial for trial in trials(running) if trial.sample == wanted])


@pytest.mark.slow
def test_a_search_is_stopped_at_once_resumed_as_the_page_says_and_stopped_gently(
    page: Page, root: Path, address: str
) -> None:
    directory = root / "stoppable search"
    with process(
        SEARCHES, "stoppable", directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as driver:
        until(lambda: (directory / "experiment.db").exists() and state(directory).running, 120)
        go(page, "/")
        page.get_by_role("link", name="stoppable search").click()
        page.get_by_role("button", name="Stop search").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        page.get_by_role("dialog").wait_for(state="hidden")
        assert driver.poll() is None
        page.get_by_role("button", name="Stop search").click()
        page.get_by_role("dialog").get_by_role("button", name="Stop now", exact=True).click()
        driver.wait(20)
    page.get_by_text("No search runs here (stopped").wait_for()
    assert not page.get_by_role("button", name="Stop search").is_visible()
    go(page, "/experiment/stoppable~20search/trials/0")
    assert (
        page.get_by_role("button", name="Retry trial")
        .or_(page.get_by_role("button", name="Stop trial"))
        .first.is_disabled()
    )
    command = page.get_by_role("code").inner_text()
    # It goes on in the background, and the command returns.
    subprocess.run(command, shell=True, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    try:
        until(lambda: state(directory).running, 120)
        go(page, "/experiment/stoppable~20search")
        before = state(directory).running[0].number
        page.get_by_role("button", name="Stop search").click()
        page.get_by_role("dialog").get_by_role("button", name="Stop", exact=True).click()
        page.get_by_text("The search stops: no new trial starts.").wait_for()
        until(lambda: state(directory).driver is None, 60)
    except BaseException:
        subprocess.run(["lightning-nas", "stop", "--now", str(directory)], env=ENVIRONMENT, check=False)
        raise
    last = trials(directory)[-1]
    assert last.status is Status.COMPLETED, "the running trial was waited for"
    assert last.number - before <= 1, "a new trial started"


# ---------------------------------------------------------------- downloads


def test_what_is_downloaded_is_the_file(page: Page, experiments: Path, tmp_path: Path) -> None:
    go(page, "/experiment/finished/trials/3")
    with page.expect_download() as log:
        page.get_by_role("link", name="Download log").click()
    assert Path(log.value.path()).read_bytes() == (experiments / "finished/trials/3/output.log").read_bytes()
    assert log.value.suggested_filename == "output.log"
    page.get_by_role("link", name="Architecture", exact=True).last.click()
    page.get_by_role("button", name="Download sample").wait_for()
    with page.expect_download() as sample:
        page.get_by_role("button", name="Download sample").click()
    assert json.loads(Path(sample.value.path()).read_text()) == trials(experiments / "finished")[3].sample


def test_a_log_can_be_searched(page: Page, experiments: Path) -> None:
    go(page, "/experiment/finished/trials/3")
    field(page, "Search the log").fill("STEP 7")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_text("1 lines hold").or_(page.get_by_text("1 line holds")).wait_for()
    shown = page.get_by_role("region", name="Lines of the log")
    assert shown.inner_text().startswith("8: step 7: acc")
    assert "\n" not in shown.inner_text().strip()


@pytest.mark.slow
def test_code_and_onnx_are_made_and_downloaded(page: Page, experiments: Path) -> None:
    page.set_default_timeout(60_000)
    go(page, "/experiment/networks/architecture?trial=1")
    page.get_by_role("img", name="Network of trial 1").wait_for()
    with page.expect_download() as code:
        page.get_by_role("button", name="Download code").click()
    text = Path(code.value.path()).read_text()
    compile(text, "model.py", "exec")
    assert "nn.Module" in text
    with page.expect_download() as model:
        page.get_by_role("button", name="Download ONNX").click()
    import onnx

    onnx.checker.check_model(onnx.load(str(model.value.path())))


def test_the_code_that_a_trial_left_is_shown(page: Page, experiments: Path) -> None:
    go(page, "/experiment/networks/architecture?trial=1")
    shown = page.get_by_role("region", name="Code of trial 1")
    code = (experiments / "networks/trials/1/net.py").read_text()
    assert shown.inner_text().strip() == code.strip()


@pytest.mark.slow
def test_netron_opens_the_network(page: Page, experiments: Path) -> None:
    pytest.importorskip("netron", reason="NOT TESTED: Netron is not installed")
    page.set_default_timeout(60_000)
    go(page, "/experiment/networks/architecture?trial=0")
    page.get_by_role("button", name="Open in Netron").click()
    address = page.get_by_role("link", name="http://127.0.0.1:").get_attribute("href")
    assert address is not None
    with urllib.request.urlopen(address) as answer:
        assert "<title>Netron</title>" in answer.read().decode()
    with urllib.request.urlopen(f"{address}/data/net.onnx") as answer:
        assert (
            answer.read()
            == max(
                (experiments / "networks").rglob("net.onnx"), key=lambda path: path.stat().st_mtime
            ).read_bytes()
        )


# ---------------------------------------------------------------- grid, comparison, one-shot, Pareto


def test_the_grid_sorts_filters_and_shows_chosen_columns(page: Page, experiments: Path) -> None:
    go(page, "/experiment/finished/trials")
    by_number = trials(experiments / "finished")
    best = max(by_number, key=lambda trial: trial.metrics["acc"])
    header = page.get_by_role("columnheader", name="acc", exact=True)
    until(lambda: len(rows(page)) > 5)
    header.click()
    until(lambda: rows(page)[0]["number"] == str(min(by_number, key=lambda t: t.metrics["acc"]).number))
    header.click()
    until(lambda: rows(page)[0]["number"] == str(best.number))
    page.get_by_role("columnheader", name="optimizer", exact=True).locator(
        ".ag-header-cell-menu-button, .ag-header-cell-filter-button"
    ).first.click()
    page.get_by_role("dialog").or_(page.locator(".ag-filter")).get_by_role("textbox").first.fill("sgd")
    sgd = sum(trial.sample["optimizer"] == "sgd" for trial in by_number)
    until(
        lambda: len(rows(page)) == min(sgd, len(rows(page))) and {row["l1"] for row in rows(page)} == {"sgd"}
    )
    page.keyboard.press("Escape")
    field(page, "Columns").click()
    page.get_by_role("option", name="optimizer", exact=True).click()
    page.get_by_role("columnheader", name="optimizer", exact=True).wait_for(state="hidden")


def test_selected_trials_are_compared(page: Page, experiments: Path) -> None:
    go(page, "/experiment/finished/trials")
    for row in range(2):
        page.locator(f".ag-row[row-index='{row}'] [type=checkbox]").check()
    until(lambda: {each["name"] for each in option(page, "Compare")["series"]} == {"trial 23", "trial 22"})
    assert len(option(page, "Compare")["series"][0]["data"]) == 10
    choose(page, "Metric", "loss")
    until(lambda: "loss" in option(page, "Compare")["yAxis"][0]["name"])
    before = option(page, "Parameters and metrics")
    slider = page.get_by_role("slider", name="Best per cent of the trials").locator("[tabindex='0']")
    slider.focus()
    for _ in range(5):
        slider.press("PageDown")
    page.get_by_text("Best 50 % of the trials").wait_for()
    until(lambda: option(page, "Parameters and metrics")["series"] != before["series"])


def test_the_slider_of_a_one_shot_search_changes_the_heat_map(page: Page, experiments: Path) -> None:
    go(page, "/experiment/one_shot/one-shot")
    page.get_by_text("Epoch 3 of 3").wait_for()
    last = option(page, "Probability of each candidate")["series"][0]["data"]
    slider = page.get_by_role("slider", name="Epoch").locator("[tabindex='0']")
    slider.focus()
    for _ in range(3):
        slider.press("ArrowLeft")
    page.get_by_text("Epoch 0 of 3").wait_for()
    until(lambda: option(page, "Probability of each candidate")["series"][0]["data"] != last)
    choose(page, "Label", "hidden")
    until(lambda: len(option(page, "Probability of each candidate")["series"][0]["data"]) == 2)
    assert page.get_by_role("img", name="Cell normal").locator("svg").count() == 1


def test_the_axes_of_the_front_can_be_chosen_and_a_point_opens_its_trial(
    page: Page, experiments: Path
) -> None:
    go(page, "/experiment/finished/pareto")
    before = option(page, "Pareto front")
    choose(page, "Horizontal metric", "loss")
    until(lambda: "loss" in option(page, "Pareto front")["xAxis"][0]["name"])
    assert option(page, "Pareto front")["series"] != before["series"]
    choose(page, "Vertical direction", "lower is better")
    until(lambda: "lower" in option(page, "Pareto front")["yAxis"][0]["name"])
    place = page.evaluate(
        f"""() => {{ const chart = {CHART}('Pareto front'), series = chart.getOption().series;
        const at = series.findIndex(each => each.data.length), item = series[at].data[0];
        const [x, y] = chart.convertToPixel({{seriesIndex: at}}, item.value ?? item);
        const box = chart.getDom().getBoundingClientRect();
        return {{x: box.x + x, y: box.y + y, trial: item.trial}}; }}"""
    )
    page.mouse.click(place["x"], place["y"])
    page.wait_for_url("**/trials/*")
    assert place["trial"] is None or page.url.endswith(f"/{place['trial']}")
