"""What a search shows while it runs: a live table, or a line per trial."""

from __future__ import annotations

import heapq
import math
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lightning_nas.experiment.failures import commonest
from lightning_nas.trial import Objective, Status, Trial, best

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table
    from rich.text import Text

_RUNNING_ROWS = 8
_RECENT_ROWS = 5
_FAILED_ROWS = 10
_REDRAW_S = 0.25


class Display(Protocol):
    """Shows a search. `__enter__` begins and `__exit__` ends it."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, trials: Sequence[Trial], changed: Trial | None) -> None:
        """Takes note of how the trials stand, the list being the one that goes on changing.

        Args:
            trials: all of them.
            changed: the one that began, reported or ended.
        """
        ...

    def say(self, text: str) -> None:
        """Shows a message that is to stay."""
        ...

    def failures(self, trials: Sequence[Trial]) -> None:
        """Shows the trials that failed, if any, and the commonest traceback."""
        ...


def make_display(
    progress: bool | None, objective: Objective, max_trials: int | None, runs_here: bool
) -> Display:
    """A live table on a terminal or in a notebook, else lines.

    Args:
        progress: False for silence, True for the live table wherever it is, None to find out.
        objective: names the metric shown.
        max_trials: the budget, None if unlimited.
        runs_here: whether trials run in this process, where a thread of ours could hold a lock that a
            forked data worker then waits for.
    """
    if progress is False:
        return Silence()
    from rich.console import Console

    console = Console(force_terminal=True if progress else None)
    if console.is_terminal or console.is_jupyter:
        return LiveTable(console, objective, max_trials, refresh=not runs_here)
    return Lines(objective, max_trials)


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, trials: Sequence[Trial], changed: Trial | None) -> None:
        """Shows nothing."""

    def say(self, text: str) -> None:
        """Shows nothing."""

    def failures(self, trials: Sequence[Trial]) -> None:
        """Shows nothing."""


class Lines:
    """A line on the standard output for each trial that ends, or is paused by its stopping rule."""

    def __init__(self, objective: Objective, max_trials: int | None) -> None:
        self._objective = objective
        self._limit = max_trials
        self._done: set[int] | None = None

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()

    def show(self, trials: Sequence[Trial], changed: Trial | None) -> None:
        """Prints `changed` if it has ended or is held."""
        if self._done is None:  # counted once: there may be many thousands
            self._done = {trial.number for trial in trials if _is_done(trial)}
        if changed is None or not _is_done(changed):
            if changed is not None:
                self._done.discard(changed.number)  # it goes on
            return
        self._done.add(changed.number)
        total = f"/{self._limit}" if self._limit is not None else ""
        result = metric_text(changed, self._objective)
        if changed.is_held:
            when = f"after step {changed.steps - 1}"
        else:
            when, result = f"in {duration_text(changed.duration_s)}", changed.reason or result
        line = f"[{len(self._done)}{total}] trial {changed.number} {changed.status.value} {when}"
        print(f"{line}: {result}  {sample_text(changed)}", flush=True)

    def say(self, text: str) -> None:
        """Prints the message."""
        print(text, flush=True)

    def failures(self, trials: Sequence[Trial]) -> None:
        """Prints the table of failures."""
        from rich.console import Console

        _print_failures(Console(width=110), trials)


class LiveTable:
    """A bar, the best trial, those that run and those that ended last, redrawn in place."""

    def __init__(self, console: Console, objective: Objective, max_trials: int | None, refresh: bool) -> None:
        from rich.live import Live

        self._console = console
        self._objective = objective
        self._limit = max_trials
        self._trials: Sequence[Trial] = ()
        self._began = time.monotonic()
        self._drawn = -math.inf
        self._done_before: int | None = None
        self._live = Live(
            console=console,
            get_renderable=self._render,
            auto_refresh=refresh,
            refresh_per_second=1 / _REDRAW_S,
        )

    def __enter__(self) -> LiveTable:
        self._began = time.monotonic()
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, trials: Sequence[Trial], changed: Trial | None) -> None:
        """Redraws, if that is due and no thread does it."""
        self._trials = trials
        if self._done_before is None:
            self._done_before = sum(map(_is_done, trials)) - bool(changed and _is_done(changed))
        if not self._live.auto_refresh and time.monotonic() - self._drawn > _REDRAW_S:
            self._live.refresh()
            self._drawn = time.monotonic()

    def say(self, text: str) -> None:
        """Prints the message above the table."""
        self._console.print(text, markup=False, highlight=False)

    def failures(self, trials: Sequence[Trial]) -> None:
        """Prints the table of failures."""
        _print_failures(self._console, trials)

    def _render(self) -> Group:
        from rich.console import Group

        return Group(self._bar(), self._table())

    def _bar(self) -> Table:
        done, elapsed = sum(map(_is_done, self._trials)), time.monotonic() - self._began
        counts = Counter(trial.status for trial in self._trials)
        left, here = None, done - (self._done_before or 0)
        if self._limit is not None and here > 0 and done < self._limit:
            left = elapsed / here * (self._limit - done)
        return progress_bar(done, self._limit, elapsed, counts, left)

    def _table(self) -> Table:
        trials = list(self._trials)
        leaders = best(trials)
        others = (trial for trial in trials if trial.status.is_final and trial not in leaders)
        recent = heapq.nlargest(_RECENT_ROWS, others, key=lambda trial: trial.finished or 0.0)
        running = [trial for trial in trials if trial.status is Status.RUNNING]
        return trials_at_work(next(iter(leaders), None), running, recent, self._objective)


def progress_bar(
    done: int, limit: int | None, elapsed_s: float, counts: Mapping[Status, int], left_s: float | None = None
) -> Table:
    """A line: a bar, how many trials are done in which time, and how many did not complete.

    Args:
        done: trials that are.
        limit: the budget of trials, None if unlimited.
        elapsed_s: how long the search has run.
        counts: trials by status.
        left_s: how long it is expected to run, if anything is.
    """
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    parts = [f"{done}" if limit is None else f"{done}/{limit}", duration_text(elapsed_s)]
    if left_s is not None:
        parts.append(f"{duration_text(left_s)} left")
    parts += [
        f"{counts[status]} {status.value}"
        for status in (Status.PAUSED, Status.STOPPED, Status.FAILED)
        if counts.get(status)
    ]
    row = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=limit, completed=done, width=30, pulse=limit is None)
    row.add_row("trials", bar, "  ".join(parts))
    return row


def trials_at_work(
    leader: Trial | None, running: Sequence[Trial], recent: Sequence[Trial], objective: Objective
) -> Table:
    """A table of the best trial, of some that run, and of those that ended last."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, expand=False)
    for column in ("", "trial", "step", "result", "time", "sample"):
        # Where the terminal is narrow those that may wrap are cut first; their cells do not wrap.
        table.add_column(column, no_wrap=column not in ("result", "sample"))
    rows = [("best", "green", leader)] if leader is not None else []
    rows += [("running", "cyan", trial) for trial in running[:_RUNNING_ROWS]]
    rows += [(t.status.value, _STYLES[t.status], t) for t in recent]
    for title, style, trial in rows:
        result = metric_text(trial, objective)
        cells: list[Any] = [
            Text(title, style=style),
            str(trial.number),
            str(trial.intermediate[-1].step) if trial.intermediate else "",
            _cut(result if trial.status is Status.RUNNING and result else trial.reason or result),
            duration_text(time_taken_s(trial)),
            _cut(sample_text(trial)),
        ]
        table.add_row(*cells)
    return table


def _cut(text: str) -> Text:
    """Text that ends in an ellipsis where its column does; what users write may look like markup, and is none."""
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


def time_taken_s(trial: Trial) -> float | None:
    """Seconds that a trial took, or has taken so far if it runs; None if it has not begun."""
    if trial.status is Status.RUNNING and trial.started is not None:
        return max(0.0, time.time() - trial.started)
    return trial.duration_s


_STYLES = {Status.COMPLETED: "", Status.STOPPED: "yellow", Status.FAILED: "red"}


def _is_done(trial: Trial) -> bool:
    """Whether it has ended, or waits for its stopping rule, perhaps for ever."""
    return trial.status.is_final or trial.is_held


def metric_text(trial: Trial, objective: Objective) -> str:
    """The objective as `trial` has it, from its last report while it runs; another metric if need be."""
    metrics = trial.metrics or (trial.intermediate[-1].metrics if trial.intermediate else {})
    name = objective.metric if objective.metric in metrics else "default" if "default" in metrics else None
    if name is None:
        name = next(iter(metrics), None)
    return "" if name is None else f"{name} = {metrics[name]:.5g}"


def sample_text(trial: Trial) -> str:
    """The sample on one line."""
    return ", ".join(
        f"{label}={value:.4g}" if isinstance(value, float) else f"{label}={value}"
        for label, value in trial.sample.items()
    )


def duration_text(seconds: float | None) -> str:
    """A duration with the units that matter; empty for None.

    >>> duration_text(0.25), duration_text(75), duration_text(3700)
    ('0.25 s', '1 min 15 s', '1 h 1 min')
    """
    if seconds is None or not math.isfinite(seconds):
        return ""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _print_failures(console: Console, trials: Sequence[Trial]) -> None:
    from rich.table import Table
    from rich.text import Text

    failed = [trial for trial in trials if trial.status is Status.FAILED]
    if not failed:
        return
    title = f"{len(failed)} of {len(trials)} trials failed"
    if len(failed) > _FAILED_ROWS:
        title += f"; the last {_FAILED_ROWS}:"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("trial", min_width=5)
    table.add_column("reason", overflow="fold", min_width=min(40, console.width // 2))
    table.add_column("sample", overflow="ellipsis", no_wrap=True, max_width=console.width // 3)
    for trial in failed[-_FAILED_ROWS:]:
        table.add_row(str(trial.number), Text(trial.reason or ""), Text(sample_text(trial)))
    console.print(table)
    common, count = commonest(failed)
    if common is not None and common.traceback:
        console.print(Text(f"\nTrial {common.number}:\n{common.traceback.rstrip()}"))
        if count > 1:
            console.print(Text(f"So failed {count} of the {len(failed)}."))
