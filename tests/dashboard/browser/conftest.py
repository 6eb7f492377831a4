"""One server and one browser for all tests, real experiments, and a page whose log must be clean."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from waiting import PATIENCE_S, until

from lightning_nas.experiment.store import SqliteStore
from lightning_nas.experiment.summary import Summary, summary

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SEARCHES = Path(__file__).with_name("searches.py")
PACKAGE = Path(__file__).resolve().parents[3]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions"),
)
NAMES = ("finished", "flawed", "hostile", "one_shot", "networks")
"""The experiments that have ended, see `searches.py`."""
SEARCHES_S = 180.0  # 15 on a machine that does nothing else
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(PACKAGE),
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    "PYTHONUNBUFFERED": "1",
}


@contextlib.contextmanager
def process(*arguments: str | Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A Python process in a group of its own, which ends with the block, with all that it has started."""
    started = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=ENVIRONMENT,
        text=True,
        start_new_session=True,
        **options,
    )
    try:
        yield started
    finally:
        end(started)


def end(started: subprocess.Popen[Any]) -> None:
    """Ends a process and its group, and waits for it."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(10)
            break
    if started.stdout is not None:
        started.stdout.close()


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the server shows."""
    return tmp_path_factory.mktemp("shown") / "runs"


@pytest.fixture(scope="session")
def address(root: Path) -> Iterator[str]:
    """Where the server of all tests is."""
    pytest.importorskip("nicegui", reason="NOT TESTED: the dashboard needs NiceGUI, which is not installed")
    root.mkdir()
    with serving(root) as found:
        yield found


@contextlib.contextmanager
def serving(root: Path) -> Iterator[str]:
    """A server that shows a folder; gives its address without the last slash."""
    command = ("-m", "lightning_nas.dashboard", root, "--no-browser", "--port", "0")
    with process(*command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        yield line.partition("http://")[1] + line.partition("http://")[2].split()[0].rstrip("/")


@pytest.fixture(scope="session")
def searching(root: Path, address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A process that runs all searches of `NAMES`, and then one that goes on; gives what it prints."""
    arguments = [part for name in (*NAMES, "running") for part in (name, root / name)]
    printed = tmp_path_factory.mktemp("searches") / "printed.log"
    with printed.open("w") as file, process(SEARCHES, *arguments, stdout=file, stderr=file):
        yield printed


@pytest.fixture(scope="session")
def experiments(root: Path, searching: Path) -> Path:
    """The folder, once all experiments of `NAMES` have ended in it."""
    try:
        until(lambda: (root / "running").exists(), SEARCHES_S)
    except AssertionError:
        pytest.fail(f"The searches have not ended; they said:\n{searching.read_text()}")
    return root


@pytest.fixture(scope="session")
def running(experiments: Path) -> Path:
    """An experiment whose driver works, two trials at a time, until they are told to stop."""
    directory = experiments / "running"
    until(lambda: (directory / "experiment.db").exists() and len(state(directory).running) == 2)
    return directory


def state(directory: Path) -> Summary:
    """How an experiment stands, read from its store."""
    return summary(directory)


def trials(directory: Path) -> list[Any]:
    """The trials of an experiment, read from its store."""
    with contextlib.closing(SqliteStore.open(directory)) as store:
        return store.trials()


# ---------------------------------------------------------------- the browser


# For a module, since Playwright can be started once at a time, and other tests do so too.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright."""
    with chromium() as found:
        yield found


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, if there is one."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="NOT TESTED in a browser: playwright is not installed"
    )
    if CHROMIUM is None:
        pytest.skip("NOT TESTED in a browser: there is no Chromium")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        yield started
        started.close()


@dataclass
class Log:
    """What a browser has noted of a page.

    Args:
        host: where all requests must go.
        complaints: console errors and warnings, exceptions, failed and refused requests.
        foreign: requests to other hosts.
        requests: how many there were.
    """

    host: str
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    requests: int = 0

    def watch(self, page: Page) -> None:
        """Notes from now on what happens in a page."""
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", lambda socket: self._asked(socket.url))
        page.on("requestfailed", lambda request: self._failed(request.url, request.failure))
        page.on("response", lambda r: r.status >= 400 and self.complaints.append(f"{r.url}: {r.status}"))

    def _said(self, kind: str, text: str) -> None:
        # The tests look at what is painted, of which Chromium says that it takes time.
        if kind in ("error", "warning") and not text.startswith("Canvas2D: Multiple readback"):
            self.complaints.append(text)

    def _failed(self, url: str, why: str | None) -> None:
        if why != "net::ERR_ABORTED":  # by leaving the page
            self.complaints.append(f"{url} failed: {why}")

    def _asked(self, url: str) -> None:
        self.requests += 1
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != self.host:
            self.foreign.append(url)


@pytest.fixture
def log(address: str) -> Iterator[Log]:
    """The log of the test's page; what is in it at the end fails the test."""
    noted = Log(urlsplit(address).netloc)
    yield noted
    assert noted.complaints == []
    assert noted.foreign == []
    assert noted.requests > 0


@pytest.fixture
def page(browser: Browser, address: str, log: Log) -> Iterator[Page]:
    """A tab of 1280 x 900 in a context of its own, light, at nowhere yet."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", base_url=address
    )
    context.set_default_timeout(PATIENCE_S * 1000)
    tab = context.new_page()
    log.watch(tab)
    yield tab
    # Long-lived sockets and requests under way end with the page; only what came before counts.
    noted = list(log.complaints)
    context.close()
    log.complaints[:] = noted


def go(page: Page, path: str) -> None:
    """Opens a page and waits until it is drawn."""
    page.goto(path)
    page.get_by_role("heading").first.wait_for()
