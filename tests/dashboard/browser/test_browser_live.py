"""What is stored appears by itself, and what cannot be read is said."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import go, serving
from looking import option

from lightning_nas.experiment import folder
from lightning_nas.experiment.description import Description
from lightning_nas.experiment.store import DATABASE, SqliteStore
from lightning_nas.space import Float, SearchSpace
from lightning_nas.trial import Intermediate, Status, Trial

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SPACE = SearchSpace({"lr": Float(0, 1)})


def stored(directory: Path, trials: int = 1) -> SqliteStore:
    """An experiment with some trials, open for writing."""
    directory.mkdir()
    store = SqliteStore.create(directory, Description(SPACE, "Random()", "acc", None, 0))
    store.begin_run({"max_trials": 9}, {"python": "3"})
    for number in range(trials):
        store.write(
            Trial(number, {"lr": 0.5}, Status.COMPLETED, {"acc": 0.5}, 0.5, started=1.0, finished=2.0)
        )
    return store


@pytest.fixture
def directory(root: Path, address: str) -> Iterator[Path]:
    """Where a test puts its own experiment; it is gone afterwards."""
    directory = root / "own"
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def opened(page: Page, end: str = "") -> None:
    """Opens the test's experiment, which the server has not come across yet."""
    go(page, f"/experiment/own{end}")
    page.get_by_role("heading", name="own", exact=True).wait_for()


def test_a_value_that_is_stored_appears_on_the_page_as_it_is(page: Page, directory: Path) -> None:
    with contextlib.closing(stored(directory)) as store, folder.only_driver(directory):
        store.write(Trial(1, {"lr": 0.25}, started=time.time()))
        opened(page)
        page.evaluate("window.isTheSame = true")
        table = page.get_by_role("region", name="Running trials")
        for step, value in enumerate((0.1234, 0.2345, 0.3456)):
            store.report(1, step, Intermediate(step, {"acc": value}))
            table.get_by_text(str(value)).wait_for()
        store.write(Trial(1, {"lr": 0.25}, Status.COMPLETED, {"acc": 0.75}, 0.75, started=1.0, finished=2.0))
        page.get_by_text("acc = 0.75").first.wait_for()
        assert page.evaluate("window.isTheSame"), "the page was loaded again"


def test_a_trial_page_follows_its_trial(page: Page, directory: Path) -> None:
    with contextlib.closing(stored(directory)) as store, folder.only_driver(directory):
        store.write(Trial(1, {"lr": 0.25}, started=time.time()))
        opened(page, end="/trials/1")
        page.get_by_text("It has reported nothing.").wait_for()
        log = directory / "trials" / "1" / "output.log"
        log.parent.mkdir(parents=True)
        log.write_text("the first line\n")
        for step in range(3):
            store.report(1, step, Intermediate(step, {"acc": step / 4}))
        assert len(option(page, "Intermediate results")["series"][0]["data"]) > 0
        page.get_by_text("the first line").wait_for()
        store.write(
            Trial(
                1,
                {"lr": 0.25},
                Status.FAILED,
                reason="ValueError: no",
                traceback="Traceback: no",
                started=1.0,
                finished=2.0,
            )
        )
        page.get_by_text("ValueError: no").wait_for()
        page.get_by_role("heading", name="Traceback").wait_for()
        page.get_by_role("button", name="Retry trial").wait_for()


def test_an_experiment_that_is_removed_while_shown_is_told(page: Page, directory: Path) -> None:
    stored(directory).close()
    opened(page)
    page.get_by_text("1 of 9").first.wait_for()
    shutil.rmtree(directory)
    page.get_by_text("holds no experiment any more").wait_for()
    page.get_by_text("unreadable").wait_for()


@pytest.mark.parametrize("kind", ["newer", "damaged"])
def test_a_store_that_cannot_be_read_is_told(page: Page, directory: Path, kind: str) -> None:
    stored(directory).close()
    path = directory / DATABASE
    if kind == "newer":
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 999")
        why = "newer"
    else:
        for each in directory.glob(f"{DATABASE}-*"):
            each.unlink()
        path.write_bytes(b"no database " * 1000)
        why = "not a database"
    opened(page)
    page.get_by_text(why).first.wait_for()
    go(page, "/")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="own", exact=True))
    row.get_by_text("unreadable").wait_for()
    row.get_by_text(why).wait_for()


def test_values_that_are_not_finite_are_shown(page: Page, directory: Path) -> None:
    with contextlib.closing(stored(directory)) as store:
        store.write(Trial(1, {"lr": 0.5}, started=1.0))
        for step, value in enumerate((0.5, float("nan"), float("inf"), -float("inf"), 1e300)):
            store.report(1, step, Intermediate(step, {"acc": value}))
        store.write(
            Trial(
                1, {"lr": 0.5}, Status.FAILED, {"acc": float("nan")}, reason="nan", started=1.0, finished=2.0
            )
        )
    for end in ("", "/trials", "/trials/1", "/pareto"):
        opened(page, end=end)
        assert "nan" in page.locator(".body").inner_text() or end in ("", "/pareto")


def test_a_folder_without_experiments_and_a_server_that_ends_are_told(
    browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    page = browser.new_page()
    with serving(tmp_path / "runs") as address:
        go(page, address)
        page.get_by_text("There is no experiment under").wait_for()
        stored(tmp_path / "runs" / "first").close()
        page.get_by_role("link", name="first").wait_for()
        assert not page.get_by_text("There is no experiment under").is_visible()
    page.get_by_text("Connection lost").wait_for()
    page.close()


@pytest.mark.slow
def test_ten_thousand_trials_and_a_log_of_100_mb_open(page: Page, directory: Path) -> None:
    with contextlib.closing(stored(directory, 10_000)) as store:
        store.end_run("all are done")
    log = directory / "trials" / "7" / "output.log"
    log.parent.mkdir(parents=True)
    with log.open("w") as file:
        for number in range(1_000_000):
            file.write(f"line {number:07d} of a log that is " + "x" * 64 + " long\n")
    assert log.stat().st_size > 90e6
    for end in ("", "/trials", "/pareto", "/importance"):
        opened(page, end=end)
    opened(page, end="/trials/7")
    page.get_by_text("line 0999999").wait_for()
    assert len(page.get_by_role("region", name="Lines of the log").inner_text()) < 100_000
