"""Commands that show experiments: `show`, `view`, `list`, `top`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nas.cli.options import Commands, add_experiment, add_root, count
from lightning_nas.cli.page import add_page, show_page
from lightning_nas.cli.reading import as_json, console, experiments, name_of, open_store, table
from lightning_nas.errors import StoreError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lightning_nas.experiment.summary import Summary
    from lightning_nas.trial import Trial

_VIEW_S, _TOP_S = 0.5, 2.0
_LATEST = 8
_FAILED = 5


def add(commands: Commands) -> None:
    """Adds the commands."""
    show = commands.add("show", _show, "Show the trials of an experiment, best first.")
    add_experiment(show)
    show.add_argument("--top", type=count(1), metavar="K", help="only the K best (default: all)")
    show.add_argument("--json", action="store_true", help="as JSON, for other programs")

    view = commands.add("view", _view, "Show an experiment as a page in the browser, or in the terminal.")
    add_experiment(view)
    view.add_argument("--text", action="store_true", help="in the terminal instead, until the search ends")
    _add_once(view)
    add_page(view)

    listing = commands.add("list", _list, "List the experiments under a folder.")
    add_root(listing)

    top = commands.add("top", _top, "Show what runs now: trials, their last value, their use of the machine.")
    add_root(top)
    _add_once(top)


def _add_once(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="print it once, and end")


# ---------------------------------------------------------------- show


def _show(options: argparse.Namespace) -> None:
    from lightning_nas.trial import best

    with open_store(options.experiment) as store:
        description, trials = store.description, store.trials()
    ranked = {trial.number: trial for trial in [*best(trials, len(trials)), *trials]}
    shown = list(ranked.values())[: options.top]
    if options.json:
        document = {**description.to_json(), "trials": [as_json(trial) for trial in shown]}
        print(json.dumps(document, indent=2, allow_nan=False))
        return
    counts = ", ".join(
        f"{n} {status}" for status, n in Counter(trial.status.value for trial in trials).items()
    )
    print(f"{options.experiment}: {len(trials)} trials{counts and f' ({counts})'}")
    print(
        f"strategy {description.strategy}, objective {description.metric or 'default'}, seed {description.seed}"
    )
    print_trials(shown)


def print_trials(trials: Sequence[Trial]) -> None:
    """Prints a table of trials, and why some of them failed or were stopped."""
    from lightning_nas.experiment.display import duration_text, sample_text

    columns = {
        "trial": "right",
        "status": "left",
        "score": "right",
        "metrics": "wrap",
        "sample": "wrap",
        "time": "left",
    }
    rows = (
        (
            str(trial.number),
            trial.status.value,
            "" if trial.score is None else f"{trial.score:.5g}",
            ", ".join(f"{name}={value:.5g}" for name, value in trial.metrics.items()),
            sample_text(trial),
            duration_text(trial.duration_s),
        )
        for trial in trials
    )
    console().print(table(columns, rows))
    for trial in trials:
        if trial.reason and not trial.is_held:
            print(f"trial {trial.number} {trial.status.value}: {trial.reason}")


# ---------------------------------------------------------------- view


def _view(options: argparse.Namespace) -> None:
    from lightning_nas.experiment.summary import summary

    directory = options.experiment
    now = summary(directory, _LATEST)
    if not options.text and not options.once:
        show_page(directory, options)
    elif options.once or (now.state != "running" and not sys.stdout.isatty()):
        console().print(_page(now))
    elif sys.stdout.isatty():
        _live(lambda: summary(directory, _LATEST), _page, _VIEW_S, lambda now: now.state == "running")
    else:
        _view_lines(directory)


def _page(now: Summary) -> RenderableType:
    """The state, the bar and the trials at work."""
    from rich.console import Group
    from rich.text import Text

    from lightning_nas.experiment.display import progress_bar, trials_at_work

    best = [] if now.best is None else [now.best.number]
    others = [trial for trial in now.latest if trial.number not in best]
    why = now.driver or now.ending
    if now.state == "broken off":
        why = "its process has died"
    parts: list[RenderableType] = [
        Text(f"{now.directory}: {now.state}" + (f" ({why})" if why else "")),
        progress_bar(now.done, now.max_trials, now.elapsed_s, now.counts),
        trials_at_work(now.best, now.running, others, now.objective),
    ]
    if now.state not in ("running", "finished"):
        parts.append(Text(f"lightning-nas resume {now.directory}   goes on"))
    return Group(*parts)


def _view_lines(directory: Path) -> None:
    """A line for each trial that ends, until the experiment does: for a pipe or a file."""
    from lightning_nas.experiment.display import Lines
    from lightning_nas.experiment.summary import summary

    told: set[int] = set()
    while True:
        now = summary(directory)
        if now.done > len(told):
            with open_store(directory) as store:
                trials = store.trials()
            lines = Lines(now.objective, now.max_trials)
            ended = [trial for trial in trials if trial.status.is_final and trial.number not in told]
            for trial in sorted(ended, key=lambda trial: trial.finished or 0.0):
                told.add(trial.number)
                lines.show([each for each in trials if each.number in told], trial)
        if now.state != "running":
            print(f"{directory}: {now.state}" + (f" ({now.ending})" if now.ending else ""))
            return
        time.sleep(_VIEW_S)


def _live(
    look: Callable[[], Any],
    draw: Callable[[Any], RenderableType],
    every_s: float,
    goes_on: Callable[[Any], bool],
) -> None:
    """Draws what `look` sees on the terminal, again and again as long as it `goes_on`."""
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            seen = look()
            live.update(draw(seen), refresh=True)
            if not goes_on(seen):
                return
            time.sleep(every_s)


# ---------------------------------------------------------------- list


def _list(options: argparse.Namespace) -> None:
    from lightning_nas.experiment.display import duration_text, metric_text
    from lightning_nas.experiment.summary import summary

    rows, troubles = [], []
    for directory in experiments(options.root):
        try:
            now = summary(directory)
        except StoreError as error:  # one bad folder does not hide the others
            troubles.append(str(error))
            continue
        total = str(now.done) if now.max_trials is None else f"{now.done}/{now.max_trials}"
        best = ""
        if now.best is not None:
            best = f"{metric_text(now.best, now.objective)} (trial {now.best.number})"
        name = name_of(directory, options.root)
        rows.append((name, now.state, total, best, duration_text(now.elapsed_s)))
    if rows:
        columns = {
            "experiment": "wrap",
            "state": "left",
            "trials": "right",
            "best": "left",
            "elapsed": "left",
        }
        console().print(table(columns, rows))
    elif not troubles:
        print(f"There is no experiment under {options.root.absolute()}.")
    for trouble in troubles:
        print(trouble, file=sys.stderr)


# ---------------------------------------------------------------- top


def _top(options: argparse.Namespace) -> None:
    if options.once or not sys.stdout.isatty():
        console().print(_what_runs(options.root))
    else:
        _live(lambda: options.root, _what_runs, _TOP_S, lambda root: True)


def _what_runs(root: Path) -> RenderableType:
    """A row for each trial that runs under `root`."""
    from lightning_nas.cli.usage import Usage, usage
    from lightning_nas.experiment.display import duration_text, metric_text, time_taken_s
    from lightning_nas.experiment.summary import summary, trial_pid

    found: list[tuple[Summary, Trial | None, int | None]] = []
    for directory in experiments(root):
        try:
            now = summary(directory)
        except StoreError:
            continue
        found += [(now, trial, trial_pid(now, trial.number)) for trial in now.running]
        if now.driver is not None and not now.running:
            found.append((now, None, now.pid))
    used = usage([pid for _, _, pid in found if pid is not None])
    rows = []
    for now, trial, pid in found:
        load = used.get(pid, Usage()) if pid is not None else Usage()
        rows.append(
            (
                name_of(now.directory, root),
                "-" if trial is None else str(trial.number),
                str(trial.intermediate[-1].step) if trial and trial.intermediate else "",
                metric_text(trial, now.objective) if trial else "no trial runs",
                duration_text(time_taken_s(trial)) if trial else "",
                "" if pid is None else str(pid),
                *load.texts(),
            )
        )
    if not rows:
        return f"Nothing runs under {root.absolute()}."
    columns = {
        "experiment": "wrap",
        "trial": "right",
        "step": "right",
        "result": "left",
        "time": "left",
        "pid": "right",
        "CPU": "right",
        "memory": "right",
    }
    if any(load.gpu_mib is not None for load in used.values()):
        columns["GPU"] = "right"
        return table(columns, rows)
    return table(columns, [row[:-1] for row in rows])
