"""The twins in matplotlib."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chart_data import HOSTILE, SPACE, done, searched

from lightning_nas import Experiment, charts
from lightning_nas.plots import Plots
from lightning_nas.space import Float, SearchSpace
from lightning_nas.strategies import Random
from lightning_nas.trial import Objective, Trial

ACC = Objective("acc")
PLOTS = Plots(searched(60), SPACE, ACC)


def points(figure: Any, name: str) -> list[list[float]]:
    """The points of a series of scatter points."""
    (found,) = [each for each in figure.axes[0].collections if each.get_label() == name]
    return [list(map(float, point)) for point in found.get_offsets()]


def line(figure: Any, name: str) -> list[list[float]]:
    (found,) = [each for each in figure.axes[0].lines if each.get_label() == name]
    return [list(map(float, point)) for point in zip(found.get_xdata(), found.get_ydata())]


@pytest.mark.parametrize("status", ["completed", "stopped", "failed", "running", "paused"])
def test_a_history_has_the_points_of_its_twin(status: str) -> None:
    option = charts.history(PLOTS.trials, ACC)
    (series,) = [each for each in option["series"] if each["name"] == status]
    assert points(PLOTS.history(), status) == [each["value"] for each in series["data"]]


def test_a_pareto_front_has_the_points_of_its_twin() -> None:
    x = Objective("params", "min")
    option = charts.pareto(PLOTS.trials, x, ACC)
    (series,) = [each for each in option["series"] if each["name"] == "Pareto front"]
    assert line(PLOTS.pareto(x, "acc"), "Pareto front") == [each["value"] for each in series["data"]]


def test_the_objective_keeps_its_direction_on_a_pareto_axis() -> None:
    figure = Plots(PLOTS.trials, SPACE, Objective("acc", "min")).pareto("acc", "loss")
    assert figure.axes[0].get_xlabel() == "acc (lower is better)"


def test_curves_may_be_of_chosen_trials() -> None:
    chosen = PLOTS.trials[3:5]
    figure = PLOTS.curves("acc", trials=[3, 4])
    assert sorted(each.get_label() for each in figure.axes[0].lines) == ["trial 3", "trial 4"]
    assert line(figure, "trial 3") == [[r.step, r.metrics["acc"]] for r in chosen[0].intermediate]


def test_importance_has_a_bar_for_each_label() -> None:
    figure = PLOTS.importance()
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert sum(widths) == pytest.approx(100)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()][-1] == "lr"


def test_parallel_takes_all_labels_and_the_objective() -> None:
    figure = PLOTS.parallel(top=0.5)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == [*SPACE, "acc"]
    assert "18 trials" in figure.axes[0].get_title()


def test_a_label_with_a_typo_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"no label 'lrr'; it has augment, .*, optimizer, momentum\."):
        PLOTS.parallel(["lrr"])


@pytest.mark.parametrize("name", ["history", "curves", "parallel", "durations"])
def test_each_figure_is_written_with_trials_and_without(name: str, tmp_path: Path) -> None:
    for plots in (PLOTS, Plots([], SPACE, ACC), Plots([Trial(0, {"lr": 0.1})], SPACE, ACC)):
        figure = getattr(plots, name)()
        figure.savefig(tmp_path / "plot.png")
        assert figure._repr_png_()[:4] == b"\x89PNG"


def test_text_with_dollars_and_braces_is_drawn_as_it_is(tmp_path: Path) -> None:
    text = r"$\frac{" + HOSTILE
    space = SearchSpace({text: Float(0, 1)})
    trials = [done(i, {text: i / 40}, acc=i / 40) for i in range(40)]
    plots = Plots(
        [Trial(**{**vars(t), "metrics": {text: t.metrics["acc"]}}) for t in trials], space, Objective(text)
    )
    for figure in (plots.history(), plots.parallel(), plots.importance(), plots.pareto(text, text)):
        figure.savefig(tmp_path / "plot.png")


def test_an_experiment_plots_itself(tmp_path: Path) -> None:
    class Parabola:
        def evaluate(self, candidate: Any, report: Any) -> dict[str, float]:
            report(0, {"loss": 2.0})
            return {"loss": (candidate.sample["x"] - 1) ** 2}

    experiment = Experiment(
        {"x": Float(0, 2)},
        Parabola(),
        Random(),
        directory=tmp_path,
        max_trials=3,
        runner="inprocess",
        progress=False,
    )
    assert not experiment.plot.history().axes[0].axison  # "No finished trial yet"
    experiment.run()
    figure = experiment.plot.history()
    assert figure.axes[0].get_ylabel() == "loss (lower is better)"
    assert [y for _, y in points(figure, "completed")] == [t.metrics["loss"] for t in experiment.trials]
    with pytest.raises(ValueError, match="at least 20 trials"):
        experiment.plot.importance()


def test_without_matplotlib_the_error_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['matplotlib'] = None; sys.modules['matplotlib.figure'] = None\n"
        "from lightning_nas.plots import Plots; from lightning_nas.trial import Objective\n"
        "Plots([], {}, Objective('a')).history()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        'ImportError: Plots need matplotlib, which is not installed; run: pip install "lightning-nas[plots]"'
    )
