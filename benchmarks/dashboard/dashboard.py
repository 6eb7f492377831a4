"""Claim: with 5,000 trials of 50 values each the dashboard is ready and painted within 3 s, picks a trial within 0.2 s,
and shows a new value within 2 s.

Of one experiment written through its store, A B C A B C, in a browser that begins without a cache each time:

    ready       from the start of `lightning-nas ui` to its first answer
    overview    from the address typed to the chart of the best so far painted and the tiles filled
    trials      from the address typed to the first rows of the grid
    pick        from the click on a trial in the grid to its curve painted; the second pick of a browser, and on
    live        from a running trial's value being stored to its being on the open overview

`server_mb` is the most memory the server has had (VmHWM), `external_requests` what went to other hosts than the
server. It needs Chromium and Playwright; on a machine that is busy with other work the times are the machine's, see
`load_average`.

    python benchmarks/dashboard/dashboard.py [--trials 5000] [--rounds 5] [--output benchmarks/dashboard/dashboard.json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from lightning_nas.experiment import folder
from lightning_nas.experiment.description import Description
from lightning_nas.experiment.store import SqliteStore
from lightning_nas.space import Categorical, Float, Integer, SearchSpace
from lightning_nas.trial import Intermediate, Status, Trial

VALUES, PICKS = 50, 5
LIMITS = {
    "ready_s": 3.0,
    "overview_s": 3.0,
    "trials_s": 3.0,
    "pick_s": 0.2,
    "live_s": 2.0,
    "server_mb": 200.0,
}
SPACE = SearchSpace(
    {"lr": Float(1e-4, 1e-1, log=True), "depth": Integer(1, 9), "act": Categorical(["relu", "gelu", "tanh"])}
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
# By the heading above the chart.
PAINTED = """heading => {
  const panel = [...document.querySelectorAll('h2')].find(h2 => h2.innerText == heading)?.closest('section');
  const canvas = panel?.querySelector('.chart canvas');
  if (!canvas || !canvas.width) return false;
  return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(value => value > 0);
}"""
# From the click to the frame in which the curve is there, by the browser's own clock.
PICK = f"""index => new Promise(resolve => {{
  const painted = {PAINTED}, start = performance.now();
  document.querySelectorAll('.ag-row a')[index].click();
  const look = () => painted('Intermediate results') && location.pathname.match(/[0-9]+$/)
    ? resolve(performance.now() - start) : requestAnimationFrame(look);
  requestAnimationFrame(look);
}})"""


def write(directory: Path, trials: int) -> SqliteStore:
    """An experiment with curves that differ, one in twenty trials failed; its store is open."""
    directory.mkdir(parents=True)
    rng = np.random.default_rng(0)
    store = SqliteStore.create(directory, Description(SPACE, "Random()", "acc", None, 0))
    store.begin_run({"max_trials": trials, "concurrency": 2}, {"python": platform.python_version()})
    for number in range(trials):
        sample, began = SPACE.sample(rng), 1e9 + 60 * number
        best, speed = rng.uniform(0.3, 0.95), rng.uniform(2, 20)
        store.write(Trial(number, sample, started=began))
        for step in range(VALUES):
            acc = best * (1 - math.exp(-(step + 1) / speed)) + rng.normal(0, 0.005)
            store.report(number, step, Intermediate(step, {"acc": acc, "loss": 1 - acc}))
        if number % 20 == 7:
            end: dict[str, Any] = {
                "status": Status.FAILED,
                "reason": "ValueError: no",
                "traceback": "ValueError: no",
            }
        else:
            end = {"status": Status.COMPLETED, "metrics": {"acc": acc, "loss": 1 - acc}, "score": acc}
        store.write(Trial(number, sample, started=began, finished=began + rng.uniform(20, 55), **end))
    return store


@contextlib.contextmanager
def served(root: Path) -> Iterator[tuple[str, int, float]]:
    """Address, process and seconds until the first answer of a server."""
    start = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "lightning_nas.dashboard", str(root), "--no-browser", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = "http://" + server.stdout.readline().partition("http://")[2].split()[0].rstrip("/")
        with urllib.request.urlopen(address) as answer:
            answer.read()
        yield address, server.pid, time.perf_counter() - start
    finally:
        server.terminate()
        server.wait()


def peak_mb(pid: int) -> float:
    """The most memory a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


@contextlib.contextmanager
def tab(browser: Browser, address: str, external: list[str]) -> Iterator[Page]:
    """A page in a browser without a cache; requests to other hosts are noted."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=address)
    page = context.new_page()

    def note(url: str) -> None:
        if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != urlsplit(address).netloc:
            external.append(url)

    page.on("request", lambda request: note(request.url))
    page.on("websocket", lambda socket: note(socket.url))
    yield page
    context.close()


def overview(page: Page) -> float:
    start = time.perf_counter()
    page.goto("/experiment/search")
    page.get_by_text("acc = ").first.wait_for()
    page.wait_for_function(PAINTED, arg="Best so far, beside every trial")
    return time.perf_counter() - start


def grid(page: Page) -> float:
    start = time.perf_counter()
    page.goto("/experiment/search/trials")
    page.locator(".ag-row a").first.wait_for()
    return time.perf_counter() - start


def picks(page: Page) -> list[float]:
    """The first loads what charts need, unless the overview was there before; it does not count."""
    seconds = []
    for index in range(PICKS + 1):
        page.goto("/experiment/search/trials")
        page.locator(".ag-row a").nth(index).wait_for()
        page.wait_for_function(PAINTED, arg="Durations")
        seconds.append(page.evaluate(PICK, index) / 1000)
    return seconds[1:]


def live(page: Page, store: SqliteStore, number: int) -> list[float]:
    """A trial of this number reports three values while the overview is open, and ends."""
    page.goto("/experiment/search")
    page.get_by_text("acc = ").first.wait_for()
    trial = Trial(number, SPACE.sample(np.random.default_rng(number)), started=time.time())
    store.write(trial)
    running = page.get_by_role("region", name="Running trials")
    running.get_by_role("link", name=str(number), exact=True).wait_for()
    seconds = []
    for step, value in enumerate((0.1234, 0.2345, 0.3456)):
        store.report(number, step, Intermediate(step, {"acc": value}))
        start = time.perf_counter()
        running.get_by_text(str(value)).wait_for()
        seconds.append(time.perf_counter() - start)
    end: dict[str, Any] = {"metrics": {"acc": 0.3456}, "score": 0.3456, "finished": time.time()}
    store.write(replace(trial, status=Status.COMPLETED, **end))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in LIMITS}
    external: list[str] = []
    with (
        tempfile.TemporaryDirectory() as root,
        sync_playwright() as playwright,
        contextlib.ExitStack() as stack,
    ):
        store = stack.enter_context(contextlib.closing(write(Path(root) / "search", options.trials)))
        stack.enter_context(folder.only_driver(Path(root) / "search"))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for round_ in range(options.rounds):
            with served(Path(root)) as (address, pid, ready):
                times["ready_s"].append(ready)
                with tab(browser, address, external) as page:
                    times["overview_s"].append(overview(page))
                with tab(browser, address, external) as page:
                    times["trials_s"].append(grid(page))
                    times["pick_s"] += picks(page)
                with tab(browser, address, external) as page:
                    times["live_s"] += live(page, store, options.trials + round_)
                times["server_mb"].append(peak_mb(pid))
        browser.close()
    results: dict[str, Any] = {}
    for name, found in times.items():
        results[name] = round(statistics.median(found), 4)
        results[f"{name}_quartiles"] = [round(q, 4) for q in statistics.quantiles(found, n=4)[::2]]
        results[f"{name}_is_below_{LIMITS[name]:g}"] = results[name] < LIMITS[name]
    results |= {
        "external_requests": len(external),
        "trials": options.trials,
        "values_per_trial": VALUES,
        "rounds": options.rounds,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average": round(os.getloadavg()[0], 2),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
    }
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
