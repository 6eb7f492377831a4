"""The charts of a report: which trials each shows, how tall it is, and what it says of those that it leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_nas import charts
from lightning_nas.charts.numbers import pareto_numbers
from lightning_nas.html_report.contents import Contents
from lightning_nas.html_report.embedding import Change, changes
from lightning_nas.html_report.words import evenly
from lightning_nas.importance import importances
from lightning_nas.trial import Objective, Status, Trial, best

MOST_TRIALS = 2000
"""So many are charted one by one: each takes 200 bytes or more with the text of its tooltip."""

MOST_CURVES = 50
MOST_AXES = 9
MOST_SOUGHT = 2000
"""So many trials are asked about importance, in about a second."""

_PRINTED = 300
"""Of the height of a chart on paper, where it is made smaller by a fifth, in pixels."""

_COSTS = ("params", "flops", "macs", "latency", "memory", "size", "seconds", "duration")


@dataclass(frozen=True)
class Chart:
    """A chart as the page draws it.

    Args:
        title: what it shows.
        option: of ECharts, for a light page.
        height: in pixels.
        note: what it leaves out; may be empty.
        narrow: its height on a narrow page, in pixels; None if that is the same.
        is_half: whether two such charts may stand side by side.
        has_rows: whether its height follows from what it shows, so that paper gives it as much.
    """

    title: str
    option: Mapping[str, Any]
    height: int = 340
    note: str = ""
    narrow: int | None = None
    is_half: bool = False
    has_rows: bool = False

    @property
    def printed(self) -> int:
        """Its height on paper, in pixels."""
        return self.height if self.has_rows else min(self.height, _PRINTED)

    @property
    def dark(self) -> list[Change]:
        """What a dark page changes in the option."""
        return changes(self.option, charts.themed(self.option, dark=True))


def progress_charts(contents: Contents) -> list[Chart]:
    """How the search went."""
    objective = contents.description.objective
    shown, note = charted(contents.trials)
    found = [Chart("Best so far", charts.history(shown, objective), note=note)]
    curves = curves_chart(contents)
    if curves is not None:
        found.append(curves)
    found.append(
        Chart(
            "Trials by status", charts.statuses(contents.counts), 56 + 40 * len(contents.counts), is_half=True
        )
    )
    if any(trial.duration_s is not None for trial in shown):
        found.append(Chart("Duration of each trial", charts.durations(shown), 280, note, is_half=True))
    return found


def charted(trials: Sequence[Trial], most: int = MOST_TRIALS) -> tuple[list[Trial], str]:
    """At most `most` of the trials, by number, and a note on those left out.

    All are there that were the best in their time, so that the best so far is drawn as it was; then the
    best, and of the others every k-th.
    """
    if len(trials) <= most:
        return list(trials), ""
    kept: dict[int, Trial] = {}
    for trial in trials:
        if trial.status is Status.COMPLETED and trial.score is not None:
            leader = next(reversed(kept.values()), None)
            if leader is None or trial.score > (leader.score or 0.0):
                kept[trial.number] = trial
    kept |= {trial.number: trial for trial in best(trials, most // 4)}
    rest = [trial for trial in trials if trial.number not in kept]
    kept |= {trial.number: trial for trial in evenly(rest, most - len(kept))}
    note = (
        f"Shows {len(kept):,} of {len(trials):,} trials: each that was the best in its time, the best {most // 4:,}, "
        "and an even choice of the others."
    )
    return sorted(kept.values(), key=lambda trial: trial.number), note


def curves_chart(contents: Contents) -> Chart | None:
    """What the trials reported of the objective, or of what they reported first; None if they reported nothing."""
    reporting = [trial for trial in contents.trials if trial.intermediate]
    if not reporting:
        return None
    names = reporting[-1].intermediate[-1].metrics
    metric = contents.metric if contents.metric in names else next(iter(names), None)
    if metric is None:
        return None
    ranked = best(reporting, MOST_CURVES)
    shown = reporting if len(reporting) <= MOST_CURVES else ranked or evenly(reporting, MOST_CURVES)
    note = (
        f"Shows {len(shown)} of {len(reporting):,} trials, the best." if len(shown) < len(reporting) else ""
    )
    return Chart(f"Reports of {metric}", charts.curves(shown, metric), note=note)


def comparing_charts(contents: Contents) -> tuple[list[Chart], list[str]]:
    """What mattered: importance, parallel coordinates, and two metrics against each other; and why one is missing."""
    completed = [t for t in contents.trials if t.status is Status.COMPLETED and t.score is not None]
    if len(completed) < 2:
        return [], []
    found, notes = [], []
    space, objective = contents.description.space, contents.description.objective
    asked = evenly(contents.trials, MOST_SOUGHT)
    shares: dict[str, float] = {}
    try:
        shares = importances(space, asked, objective)
    except ValueError as error:
        notes.append(str(error))
    else:
        note = (
            f"From {len(asked):,} of {len(contents.trials):,} trials."
            if len(asked) < len(contents.trials)
            else ""
        )
        height = 56 + 26 * min(len(shares), 31)
        found.append(
            Chart("Importance of each label", charts.importance(shares), height, note, has_rows=True)
        )
    labels = sorted(varied(completed, space), key=lambda label: -shares.get(label, 0.0))
    shown, note = charted(completed)
    metrics = [contents.metric] if contents.metric is not None else []
    kept = labels[: MOST_AXES - len(metrics)]
    if kept:
        if len(kept) < len(labels):
            which = "most important" if shares else "first"
            note = f"Shows the {len(kept)} {which} of {len(labels)} labels. {note}".strip()
        option = charts.parallel(shown, kept, metrics, space=space)
        axes = len(kept) + len(metrics)
        found.append(Chart("Completed trials, choice by choice", option, 380, note, narrow=120 + 60 * axes))
    other = opposed(completed, contents.metric)
    if other is not None:
        x, y = Objective(other), Objective(contents.metric, contents.description.mode)
        shown, note = with_front(completed, x, y)
        found.append(Chart(f"{contents.metric} against {other}", charts.pareto(shown, x, y), 360, note))
    return found, notes


def with_front(trials: Sequence[Trial], x: Objective, y: Objective) -> tuple[list[Trial], str]:
    """At most `MOST_TRIALS` of the trials, by number, and a note on those left out.

    Half of them at most are on the Pareto front, which is whole if it is no longer than that.
    """
    if len(trials) <= MOST_TRIALS:
        return list(trials), ""
    front = [trial for trial, *_ in pareto_numbers(trials, x, y).front]
    shown = evenly(front, MOST_TRIALS // 2)
    on_front = {trial.number for trial in front}
    shown += evenly([trial for trial in trials if trial.number not in on_front], MOST_TRIALS - len(shown))
    which = (
        "the whole front"
        if len(front) <= MOST_TRIALS // 2
        else f"{MOST_TRIALS // 2:,} of {len(front):,} on the front"
    )
    note = f"Shows {len(shown):,} of {len(trials):,} trials: {which}, and an even choice of the others."
    return sorted(shown, key=lambda trial: trial.number), note


def varied(trials: Iterable[Trial], labels: Iterable[str]) -> list[str]:
    """The labels of which the trials have more than one value, or that only some have."""
    values: dict[str, set[str]] = {label: set() for label in labels}
    for trial in trials:
        for label in values:
            values[label].add(repr(trial.sample[label]) if label in trial.sample else "")
    return [label for label, found in values.items() if len(found) > 1]


def opposed(trials: Sequence[Trial], metric: str | None) -> str | None:
    """The metric that is most of interest beside the objective: a cost if there is one; None without a second."""
    if metric is None:
        return None
    names = [name for name in dict.fromkeys(n for trial in trials for n in trial.metrics) if name != metric]
    costs = (name for name in names if any(word in name.lower() for word in _COSTS))
    return next(costs, names[0] if names else None)


def numbered(found: Sequence[Chart], prefix: str) -> dict[str, Chart]:
    """Charts by the names that they have in the page."""
    return {f"{prefix}-{i}": chart for i, chart in enumerate(found)}


def as_data(found: Mapping[str, Chart]) -> dict[str, Any]:
    """What the page's program needs to draw them; JSON can hold it."""
    return {name: {"option": chart.option, "dark": chart.dark} for name, chart in found.items()}
