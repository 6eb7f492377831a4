"""Experiments of which reports are written, without a trial that runs; and what an HTML file consists of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nas.architecture import Architecture, Layer
from lightning_nas.experiment import SqliteStore
from lightning_nas.experiment.description import Description
from lightning_nas.hub import DARTS_V1, DARTS_V2
from lightning_nas.search_history import Candidates, append_epoch, write_search
from lightning_nas.space import Categorical, Condition, Float, SearchSpace
from lightning_nas.trial import Intermediate, Status, Trial

EVIL = "<script>document.title='taken'</script>\u2028 \"'&{{7*7}}</title><!--"
SPACE = SearchSpace(
    {"lr": Float(1e-4, 1.0, log=True), "optimizer": Categorical(["adam", "sgd"]), "momentum": Float(0, 1)},
    {"momentum": Condition({"optimizer": ["sgd"]})},
)
ENVIRONMENT = {
    "python": "3.11.7",
    "packages": {"torch": "2.15.0"},
    "commit": "0123456789abcdef+",
    "host": "here",
    "gpus": [],
    "command": ["search.py", "--lr", "0.1 0.2"],
    "working_directory": "/home/me/my runs",
}
NETWORK = Architecture(
    (
        Layer("x", "input", shape=(1, 8)),
        Layer("body.0", "Linear", "8 -> 16", "body", "width", 144, 128, (1, 16)),
        Layer("head", "Linear", "16 -> 4", "head", None, 68, 64, (1, 4)),
        Layer("output", "output"),
    ),
    ((0, 1), (1, 2), (2, 3)),
    212,
    192,
)


def made(
    directory: Path,
    trials: Iterable[Trial],
    *,
    ended: str | None = "all trials are done",
    space: SearchSpace = SPACE,
    strategy: str = "Random()",
    model: str | None = "Net",
    environment: Mapping[str, Any] = ENVIRONMENT,
) -> Path:
    """The folder of an experiment, with no driver."""
    directory.mkdir(parents=True, exist_ok=True)
    store = SqliteStore.create(directory, Description(space, strategy, "acc", None, 7, model))
    store._connection.execute("PRAGMA synchronous = OFF")
    store.begin_run({"max_trials": 30, "retries": 1}, environment)
    for trial in trials:
        store.write(trial)
        for position, report in enumerate(trial.intermediate):
            store.report(trial.number, position, report)
    if ended is not None:
        store.end_run(ended)
    store.close()
    return directory


def finished(count: int, seed: int = 0, reports: int = 3) -> list[Trial]:
    """Completed trials, the better the nearer `lr` is to 0.1; a tenth of them failed."""
    rng = np.random.default_rng(seed)
    trials = []
    for number in range(count):
        sample = SPACE.sample(rng)
        score = 1 - abs(math.log10(sample["lr"]) + 1) / 4
        curve = [Intermediate(step, {"acc": score * (step + 1) / reports}) for step in range(reports)]
        times = {"started": 1e9 + 10 * number, "finished": 1e9 + 10 * number + 5 * score}
        if number % 10 == 9:
            why = {
                "reason": f"RuntimeError: out of memory: {number} MiB",
                "traceback": "Traceback\nRuntimeError",
            }
            trials.append(Trial(number, sample, Status.FAILED, intermediate=tuple(curve), **times, **why))
        else:
            metrics = {"acc": score, "latency_ms": 5 + 10 * score}
            trials.append(Trial(number, sample, Status.COMPLETED, metrics, score, tuple(curve), **times))
    return trials


def with_files(directory: Path, number: int) -> None:
    """Adds what a trial leaves of its network."""
    place = directory / "trials" / str(number)
    place.mkdir(parents=True, exist_ok=True)
    (place / "architecture.json").write_text(json.dumps(NETWORK.to_json()))
    (directory / "best").mkdir(exist_ok=True)
    (directory / "best" / "metrics.json").write_text(json.dumps({"trial": number}))
    (directory / "best" / "net.py").write_text(f"class Net:\n    '''{EVIL}'''\n")


def with_search(directory: Path, epochs: int = 6) -> None:
    """Adds the search of a DARTS-like cell in trial 0, which changes its mind halfway."""
    rng = np.random.default_rng(0)
    rows = tuple(f"{node}_{state}" for node in range(2, 6) for state in range(node))
    columns = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
    path = directory / "trials" / "0" / "search.jsonl"
    write_search(path, {label: Candidates(rows, columns) for label in ("normal", "reduce")}, [])
    for epoch in range(epochs):
        weights = {label: rng.dirichlet(np.ones(4), len(rows)).tolist() for label in ("normal", "reduce")}
        sample = (DARTS_V1 if epoch < epochs / 2 else DARTS_V2).sample()
        health = {"search/entropy": 1 - epoch / 100, "search/parameter_free": 0.25}
        append_epoch(
            path, {"epoch": epoch, "step": 10 * epoch + 10, "weights": weights, "sample": sample, **health}
        )


@dataclass
class Page(HTMLParser):
    """What a file holds: its elements, the text outside of programs, and its programs and styles."""

    text: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: str = ""
    raw: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    VOID = frozenset({"meta", "link", "input", "br", "hr", "img"})

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self.feed(self.text)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.faults.append(f"<{tag}> has an attribute twice")
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes another element")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            self.raw.append(data)
        else:
            self.words += data

    def attributes(self, name: str) -> list[str]:
        """The values of an attribute wherever it stands."""
        return [value or "" for _, attrs in self.tags for key, value in attrs.items() if key == name]

    @property
    def data(self) -> Any:
        """What the page's program draws."""
        return json.loads(next(raw for raw in self.raw if raw.startswith('{"charts"')))
