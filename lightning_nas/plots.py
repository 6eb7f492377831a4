"""The charts of a search as figures of matplotlib, for notebooks and files: the twins of `lightning_nas.charts`.

The numbers behind a chart and its twin come from the same functions. matplotlib is loaded when a figure is made.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lightning_nas.charts.axes import NOT_ACTIVE, Axis, parallel_numbers
from lightning_nas.charts.numbers import (
    curve_colours,
    curve_numbers,
    direction_of,
    duration_numbers,
    history_numbers,
    importance_numbers,
    needs_log,
    pareto_numbers,
)
from lightning_nas.charts.text import directed, duration_text, number_text, plain, time_unit
from lightning_nas.charts.theme import FAINT, LINE, PALETTE, SCORES, STATUS_COLOURS, STATUS_SHAPES
from lightning_nas.importance import importances
from lightning_nas.space import SearchSpace
from lightning_nas.trial import Objective, Status, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = {"circle": "o", "triangle": "^", "ring": "o", "rect": "s", "diamond": "D"}


@dataclass(frozen=True)
class Plots:
    """Figures of a search. `experiment.plot` gives them for the trials so far.

    Each method returns a new `matplotlib.figure.Figure`, which a notebook shows and `figure.savefig("plot.png")`
    writes; matplotlib's state (the current figure, the backend) is left alone.

    Args:
        trials: of the search.
        space: that it searches.
        objective: which metric counts.

    Raises:
        ImportError: from each method, if matplotlib is not installed; it names the command that installs it.

    >>> trials = [Trial(i, {"x": i}, Status.COMPLETED, {"acc": i / 4}, i / 4) for i in range(5)]
    >>> figure = Plots(trials, SearchSpace({}), Objective("acc")).history()
    >>> figure.axes[0].get_ylabel()
    'acc (higher is better)'
    """

    trials: Sequence[Trial]
    space: SearchSpace
    objective: Objective

    def history(self) -> Figure:
        """The best so far, beside every trial; see `charts.history`."""
        numbers = history_numbers(self.trials, self.objective)
        figure, ax = _figure()
        if not numbers.points and not numbers.failed:
            return _empty(figure, ax, "No finished trial yet")
        _points(ax, ((trial, trial.number, value) for trial, value in numbers.points))
        if numbers.failed:
            # At the bottom edge, whatever the values are.
            _points(ax, ((t, t.number, 0.0) for t in numbers.failed), ax.get_xaxis_transform())
        if numbers.best:
            ax.step(*zip(*numbers.best), where="post", color=LINE, label="best so far")
        if needs_log([value for _, value in numbers.points], numbers.direction):
            ax.set_yscale("log")
        _name(ax, "trial", directed(numbers.metric, numbers.direction) if numbers.metric else "")
        _legend(ax)
        return figure

    def curves(self, metric: str | None = None, trials: Iterable[int] | None = None) -> Figure:
        """What trials reported over their steps; see `charts.curves`.

        Args:
            metric: a name among what they report; the objective if None.
            trials: the numbers of those to compare; all if None.
        """
        chosen = None if trials is None else set(trials)
        shown = [t for t in self.trials if chosen is None or t.number in chosen]
        name = metric or history_numbers(self.trials, self.objective).metric or "default"
        found = curve_numbers(shown, name)
        figure, ax = _figure()
        if not found:
            return _empty(figure, ax, f"No trial has reported {plain(name)} yet")
        colours = curve_colours(found)
        for curve in sorted(found, key=lambda curve: -curve.rank):
            is_coloured = curve.trial.number in colours
            ax.plot(
                curve.steps,
                [float("nan") if value is None else value for value in curve.values],
                color=colours.get(curve.trial.number, FAINT),
                linewidth=1.8 if is_coloured else 0.8,
                alpha=1.0 if is_coloured else 0.5,
                marker="o" if len(curve.steps) == 1 else None,
                label=f"trial {curve.trial.number}" if is_coloured else None,
            )
        values = [value for curve in found for value in curve.values if value is not None]
        if needs_log(values, direction_of(shown, name)):
            ax.set_yscale("log")
        _name(ax, "step", plain(name))
        _legend(ax, is_reversed=True)
        return figure

    def durations(self) -> Figure:
        """How long each trial took; see `charts.durations`."""
        numbers = duration_numbers(self.trials)
        figure, ax = _figure()
        if not numbers.seconds:
            return _empty(figure, ax, "No trial has ended yet")
        size, unit = time_unit(max(seconds for _, seconds in numbers.seconds))
        _points(ax, ((trial, trial.number, seconds / size) for trial, seconds in numbers.seconds))
        if numbers.median is not None:
            name = f"median {duration_text(numbers.median)}"
            ax.axhline(numbers.median / size, color=LINE, linestyle="--", linewidth=1, label=name)
        ax.set_ylim(bottom=0)
        _name(ax, "trial", f"duration ({unit})")
        _legend(ax)
        return figure

    def parallel(
        self, labels: Sequence[str] | None = None, metrics: Sequence[str] | None = None, top: float = 1.0
    ) -> Figure:
        """The completed trials over an axis for each label and metric; see `charts.parallel`.

        Args:
            labels: from left to right; all that some trial has, if None.
            metrics: to the right of them; the objective if None.
            top: the share of trials that is drawn, the best by score, in (0, 1].

        Raises:
            ValueError: if `top` is out of range, or a label is not in the space.
        """
        unknown = [label for label in labels or () if label not in self.space]
        if unknown:
            raise ValueError(f"The space has no label {unknown[0]!r}; it has {', '.join(self.space)}.")
        objective = history_numbers(self.trials, self.objective).metric
        if labels is None:
            used = {label for trial in self.trials for label in trial.sample}
            labels = [label for label in self.space if label in used]
        if metrics is None:
            metrics = [] if objective is None else [objective]
        numbers = parallel_numbers(self.trials, labels, metrics, top, self.space)
        figure, ax = _figure(width=max(7.0, 1.2 * len(numbers.axes)))
        if not numbers.rows or not numbers.axes:
            return _empty(figure, ax, "No finished trial yet")
        from matplotlib.colors import LinearSegmentedColormap

        colours = LinearSegmentedColormap.from_list("scores", SCORES)
        last = max(len(numbers.rows) - 1, 1)
        for rank, (_, values) in enumerate(numbers.rows):
            places = [axis.share(value) for axis, value in zip(numbers.axes, values)]
            ax.plot(range(len(places)), places, color=colours(rank / last), alpha=0.6, linewidth=1.0)
        for x, axis in enumerate(numbers.axes):
            _draw_axis(ax, x, axis)
        ax.set_xticks(
            range(len(numbers.axes)), [plain(axis.name, 18) for axis in numbers.axes], parse_math=False
        )
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        ax.tick_params(axis="x", length=0, pad=12)
        if len(numbers.axes) > 8:
            ax.tick_params(axis="x", labelrotation=30)
        ax.set_title(f"{len(numbers.rows)} trials, the best in the darkest colour", fontsize="medium")
        return figure

    def pareto(self, x: str | Objective, y: str | Objective) -> Figure:
        """The completed trials by two metrics, and their Pareto front; see `charts.pareto`.

        Args:
            x, y: metrics; which way is better follows from the name of one given as text (see `Objective`),
                or from the experiment if it is its objective.
        """
        numbers = pareto_numbers(self.trials, self._objective(x), self._objective(y))
        figure, ax = _figure()
        if not numbers.front:
            return _empty(figure, ax, "No finished trial has both metrics yet")
        if numbers.others:
            xs, ys = zip(*((x, y) for _, x, y in numbers.others))
            ax.scatter(xs, ys, s=18, color=PALETTE[0], alpha=0.6, label="other trials")
        xs, ys = zip(*((x, y) for _, x, y in numbers.front))
        where: Literal["pre", "post"] = "post" if numbers.step == "end" else "pre"
        ax.step(xs, ys, where=where, color=PALETTE[4], marker="o", label="Pareto front")
        _name(
            ax,
            *(directed(name, d) for name, d in zip((numbers.x, numbers.y), numbers.directions)),
        )
        _legend(ax)
        return figure

    def importance(self) -> Figure:
        """How much each label matters; see `importance.importances`.

        Raises:
            ValueError: if there are too few trials, or none is better than another.
        """
        ranked = importance_numbers(importances(self.space, self.trials, self.objective))[::-1]
        figure, ax = _figure(height=max(2.5, 0.32 * len(ranked) + 1))
        bars = ax.barh(range(len(ranked)), [100 * share for _, share in ranked], color=PALETTE[0], height=0.7)
        ax.set_yticks(range(len(ranked)), [plain(label, 32) for label, _ in ranked], parse_math=False)
        ax.bar_label(bars, [f"{100 * share:.0f} %" for _, share in ranked], padding=3)
        ax.margins(x=0.1)
        _name(ax, "share of what makes trials good (%)", "")
        return figure

    def _objective(self, metric: str | Objective) -> Objective:
        if isinstance(metric, Objective):
            return metric
        return self.objective if metric == self.objective.metric else Objective(metric)


def _figure(width: float = 7.0, height: float = 4.0) -> tuple[Figure, Axes]:
    """A figure that is nobody's current one, with empty axes.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'Plots need matplotlib, which is not installed; run: pip install "lightning-nas[plots]"'
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")

    def png() -> bytes:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()

    # Notebooks ask for this; without it they show figures only if pyplot was imported.
    setattr(figure, "_repr_png_", png)  # noqa: B010
    ax = figure.add_subplot()
    ax.grid(True, color="#e4e4e4", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def _empty(figure: Figure, ax: Axes, text: str) -> Figure:
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, parse_math=False)
    return figure


def _points(ax: Axes, points: Iterable[tuple[Trial, float, float]], transform: Any = None) -> None:
    """A series of points for each status that some trial has, in its colour and shape."""
    by_status: dict[Status, list[tuple[float, float]]] = {}
    for trial, x, y in points:
        by_status.setdefault(trial.status, []).append((x, y))
    style: Mapping[str, Any] = {} if transform is None else {"transform": transform, "clip_on": False}
    for status in Status:
        if status in by_status:
            shape, colour = STATUS_SHAPES[status], STATUS_COLOURS[status]
            xs, ys = zip(*by_status[status])
            ax.scatter(
                xs,
                ys,
                s=22 if len(by_status[status]) < 500 else 6,
                marker=_MARKERS[shape],
                facecolors="none" if shape == "ring" else colour,
                edgecolors=colour,
                alpha=0.85,
                label=status.value,
                zorder=2.5,
                **style,
            )


def _draw_axis(ax: Axes, x: int, axis: Axis) -> None:
    ax.axvline(x, color="#8a8a8a", linewidth=1)
    places: list[tuple[Any, str]] = [(text, text) for text in axis.categories]
    if axis.kind != "category":
        places = [(tick, number_text(tick)) for tick in axis.ticks()]
    if axis.has_gap:
        places.append((None, NOT_ACTIVE))
    for value, text in places:
        ax.annotate(
            plain(text, 18),
            (x, axis.share(value)),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize="x-small",
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            parse_math=False,
        )


def _legend(ax: Axes, is_reversed: bool = False) -> None:
    """A legend above the axes, where it hides nothing."""
    handles, names = ax.get_legend_handles_labels()
    step = -1 if is_reversed else 1
    ax.legend(
        handles[::step],
        names[::step],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=5,
        frameon=False,
        fontsize="small",
    )


def _name(ax: Axes, x: str, y: str) -> None:
    # A dollar sign of a label is no formula.
    ax.set_xlabel(x, parse_math=False)
    ax.set_ylabel(y, parse_math=False)
