"""Tuners by NNI's names, and our strategies on all of NNI's types."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_nas import Experiment
from lightning_nas.errors import StoreError
from lightning_nas.experiment import SqliteStore
from lightning_nas.hpo import CommandEvaluator, load_experiment, make_strategy, read_space
from lightning_nas.hpo.tuners import TunerError
from lightning_nas.space import Sample, SearchSpace
from lightning_nas.stopping import Hyperband
from lightning_nas.strategies import (
    CMAES,
    GP,
    TPE,
    Anneal,
    GridSearch,
    LocalSearch,
    Random,
    RegularizedEvolution,
    Strategy,
)
from lightning_nas.trial import Candidate, Status, Trial

ALL_TYPES = {
    "choice": {"_type": "choice", "_value": ["a", "b"]},
    "nested": {
        "_type": "choice",
        "_value": [{"_name": "none"}, {"_name": "some", "x": {"_type": "normal", "_value": [0, 1]}}],
    },
    "randint": {"_type": "randint", "_value": [0, 5]},
    "uniform": {"_type": "uniform", "_value": [0, 1]},
    "quniform": {"_type": "quniform", "_value": [2, 10, 5]},
    "loguniform": {"_type": "loguniform", "_value": [0.001, 1]},
    "qloguniform": {"_type": "qloguniform", "_value": [1, 100, 3]},
    "normal": {"_type": "normal", "_value": [0, 2]},
    "qnormal": {"_type": "qnormal", "_value": [0, 2, 0.5]},
    "lognormal": {"_type": "lognormal", "_value": [0, 1]},
    "qlognormal": {"_type": "qlognormal", "_value": [0, 1, 1]},
}


def searched(
    strategy: Strategy, space: SearchSpace, score: Callable[[Sample], float], n: int, seed: int = 0
) -> list[Trial]:
    trials: list[Trial] = []
    for number in range(n):
        sample = strategy.ask(space, trials, np.random.default_rng([seed, number]))
        if sample is None:
            break
        assert space.why_not(sample) is None
        value = score(sample)
        trials.append(Trial(number, sample, Status.COMPLETED, {"default": value}, value))
    return trials


@pytest.mark.parametrize(
    "strategy",
    [
        Random(),
        TPE(startup_trials=4),
        Anneal(),
        GridSearch(),
        LocalSearch(),
        RegularizedEvolution(6, 2),
    ],
    ids=lambda each: type(each).__name__,
)
def test_every_strategy_searches_all_ten_types(strategy: Strategy) -> None:
    space = read_space(ALL_TYPES).space
    trials = searched(strategy, space, lambda sample: -abs(sample["normal"] - 1), 14)
    assert len({space.key(trial.sample) for trial in trials}) == 14


def test_tpe_comes_nearer_than_random_search_on_normals() -> None:
    space = read_space({k: ALL_TYPES[k] for k in ("normal", "lognormal")}).space

    def score(sample: Sample) -> float:
        return -abs(sample["normal"] - 3) - abs(math.log(sample["lognormal"]) + 1.5)

    def median(make: Callable[[], Strategy]) -> float:
        return float(
            np.median([max(t.score for t in searched(make(), space, score, 40, i)) for i in range(7)])
        )

    # Medians of seven searches of 40 trials: random search is between -0.8 and -1.3 in five such lots, TPE
    # between -0.2 and -0.45.
    assert median(TPE) > median(Random) + 0.2


def test_a_grid_puts_normals_at_the_middles_of_equally_likely_parts() -> None:
    space = read_space({"x": {"_type": "normal", "_value": [10, 2]}}).space
    trials = searched(GridSearch(points=3), space, lambda _: 0.0, 9)
    # The normal quantiles at 1/6, 1/2 and 5/6 lie 0.9674 deviations off the mean.
    assert [trial.sample["x"] for trial in trials] == pytest.approx([8.0652, 10, 11.9348], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "arguments", "strategy", "mode", "default_mode"),
    [
        ("TPE", {}, TPE(startup_trials=20), None, "min"),
        ("tpe", {"optimize_mode": "maximize", "seed": 3}, TPE(startup_trials=20, seed=3), "max", "min"),
        (
            "Tpe",
            {"tpe_args": {"n_startup_jobs": 5, "n_ei_candidates": 9, "gamma": 0.25}},
            TPE(startup_trials=5, candidates=9),
            None,
            "min",
        ),
        ("RANDOM", {"optimize_mode": "minimize"}, Random(), "min", "max"),
        ("GridSearch", {}, GridSearch(), None, "max"),
        ("anneal", {}, Anneal(), None, "min"),
        ("Evolution", {"population_size": 9}, RegularizedEvolution(9, 2), None, "max"),
        ("BatchTuner", {}, GridSearch(), None, "max"),
        ("Hyperband", {"optimize_mode": "minimize", "seed": 1}, Random(seed=1), "min", "max"),
        ("BOHB", {"min_points_in_model": 7}, TPE(startup_trials=7, candidates=64), None, "max"),
    ],
)
def test_a_name_of_nnis_gives_the_strategy(
    name: str, arguments: dict[str, Any], strategy: Strategy, mode: str | None, default_mode: str
) -> None:
    made = make_strategy(name, arguments)
    assert (made.strategy, made.mode, made.default_mode) == (strategy, mode, default_mode)
    assert made.is_batch == (name == "BatchTuner")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("SMAC", {}, "the tuner SMAC has no counterpart here; the nearest is TPE"),
        ("MetisTuner", {}, "the tuner MetisTuner has no counterpart here; the nearest is GP"),
        ("PBTTuner", {}, "no counterpart here; the nearest is Hyperband or BOHB"),
        ("DNGOTuner", {}, "no counterpart here; the nearest is GP"),
        ("PPOTuner", {}, "no counterpart here; the nearest is Evolution"),
        ("NetworkMorphism", {}, "no counterpart here; the nearest is lightning_nas.Experiment with a model"),
        ("RegularizedEvolutionTuner", {}, "the nearest is lightning_nas.strategies.RegularizedEvolution"),
        ("Hyperband", {"exec_mode": "serial"}, "exec_mode='serial' has no counterpart here, where a worker"),
        ("Hyperband", {"R": 0}, "cannot be made of {'R': 0}: `max_steps` must be at least 1"),
        ("Hyperband", {"eta": 1}, "`reduction` must be a whole number of at least 2"),
        ("BOHB", {"top_n_percent": 50}, "top_n_percent=50 has no counterpart here, where the density"),
        ("BOHB", {"min_budget": 5, "max_budget": 3}, "`1 <= min_steps <= max_steps` must hold"),
        ("Evolutoin", {}, "there is no tuner 'Evolutoin'; did you mean Evolution?"),
        ("xyz", {}, "there is no tuner 'xyz'; there are TPE"),
        (
            "Random",
            {"sed": 1},
            "the tuner Random has no argument 'sed' here; it may have optimize_mode, seed",
        ),
        ("Random", {"seed": -1}, "the tuner Random cannot be made of {'seed': -1}"),
        ("Evolution", {"population_size": 0}, "cannot be made of"),
        ("TPE", {"tpe_args": {"prior_weight": 2}}, "prior_weight=2 has no counterpart here"),
        ("TPE", {"tpe_args": {"n_startup": 2}}, "it has no argument 'n_startup'"),
    ],
)
def test_another_name_or_argument_is_refused_by_name(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TunerError, match=message):
        make_strategy(name, arguments)


def test_hyperband_and_bohb_bring_their_rule() -> None:
    assert make_strategy("hyperband", {"R": 27, "exec_mode": "parallelism"}).stopping == Hyperband(27)
    assert make_strategy("Hyperband").stopping == Hyperband(60, 3)  # NNI's defaults
    bohb = make_strategy("bohb", {"min_budget": 3, "max_budget": 27, "eta": 3, "top_n_percent": 15})
    assert bohb.stopping == Hyperband(27, 3, min_steps=3)
    assert [bracket.steps for bracket in bohb.stopping.brackets] == [(3, 9, 27), (9, 27), (27,)]
    assert make_strategy("TPE").stopping is None


@pytest.mark.skipif(importlib.util.find_spec("cmaes") is None, reason='needs the extra "samplers"')
def test_gp_and_cma_es_are_there_by_name() -> None:
    assert make_strategy("GPTuner", {"cold_start_num": 5, "utility": "ei"}).strategy == GP(startup_trials=5)
    assert make_strategy("CMA-ES", {"population_size": 8}).strategy == CMAES(population_size=8)
    with pytest.raises(TunerError, match="utility='poi' has no counterpart here"):
        make_strategy("GP", {"utility": "poi"})


def test_a_tuner_whose_package_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TunerError, match="GP needs the package scipy, which is not installed"):
        make_strategy("GP")


# ---------------------------------------------------------------- budgets of scripts

# Its result is better the larger x is; it writes down each run, and reports once per unit of its budget.
SCRIPT = """
import json, os, nni
parameters = nni.get_next_parameter()
with open(os.path.join(os.environ["NNI_OUTPUT_DIR"], "runs"), "a") as file:
    print(parameters["TRIAL_BUDGET"], file=file)
for step in range(parameters["TRIAL_BUDGET"]):
    nni.report_intermediate_result(parameters["x"] + step)
nni.report_final_result(100 * parameters["x"] + parameters["TRIAL_BUDGET"])
"""
CONFIG = """
searchSpace: {x: {_type: uniform, _value: [0, 1]}}
trialCommand: python main.py
trialConcurrency: 1
maxTrialNumber: %d
advisor:
  builtinAdvisorName: %s
  classArgs: %s
"""


def experiment(folder: Path, name: str, arguments: str, trials: int, script: str = SCRIPT) -> Experiment:
    (folder / "main.py").write_text(script)
    (folder / "config.yml").write_text(CONFIG % (trials, name, arguments))
    return load_experiment(folder / "config.yml", folder / "made", runner="inprocess", progress=False)


def runs(trial: Trial, made: Path) -> list[int]:
    return [int(line) for line in (made / "trials" / str(trial.number) / "runs").read_text().split()]


@pytest.mark.slow
def test_hyperbands_budget_reaches_a_script_which_runs_again_with_more(tmp_path: Path) -> None:
    done = experiment(tmp_path, "Hyperband", "{R: 4, eta: 2, optimize_mode: maximize}", 10).run()
    # Brackets of 4, 3 and 3 trials that begin with budgets of 1, 2 and 4; the best half of a rung goes on.
    budgets = {trial.number: runs(trial, done.directory) for trial in done.trials}
    order = sorted(range(4), key=lambda number: -done.trials[number].sample["x"])
    assert budgets[order[0]] == [1, 2, 4]
    assert budgets[order[1]] == [1, 2]
    assert budgets[order[2]] == budgets[order[3]] == [1]
    assert sorted(budgets[number] for number in (4, 5, 6)) == [[2], [2], [2, 4]]
    assert [budgets[number] for number in (7, 8, 9)] == [[4]] * 3
    for trial in done.trials:
        last = budgets[trial.number][-1]
        assert trial.metrics == {"default": 100 * trial.sample["x"] + last}
        assert trial.status is (Status.COMPLETED if last == 4 else Status.PAUSED)
        assert [report.step for report in trial.intermediate] == list(range(last))
    assert done.best.number in (order[0], *range(4, 10))


@pytest.mark.slow
def test_bohb_learns_from_the_trials_that_wait(tmp_path: Path) -> None:
    arguments = "{max_budget: 3, min_points_in_model: 5, optimize_mode: maximize, seed: 3}"
    done = experiment(tmp_path, "BOHB", arguments, 10).run()
    assert {tuple(runs(trial, done.directory)) for trial in done.trials} == {(1,), (1, 3), (3,)}
    # Five random samples of [0, 1], and then those where the scores grow: their mean is above one half.
    assert np.mean([trial.sample["x"] for trial in done.trials[5:]]) > 0.5


def test_a_script_that_is_told_its_budget_reports_each_step_once(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(SCRIPT)
    evaluator = CommandEvaluator("python main.py", tmp_path, has_budget=True)
    reports: list[tuple[int, dict[str, float]]] = []

    def report(step: int, metrics: Mapping[str, float]) -> bool:
        reports.append((step, dict(metrics)))
        return step + 1 < 5

    candidate = Candidate(0, {"x": 0.0}, object, tmp_path / "0", budget=5, steps=2)
    assert evaluator.evaluate(candidate, report) == {"default": 5.0}
    assert reports == [(2, {"default": 2.0}), (3, {"default": 3.0}), (4, {"default": 5.0})]


# ---------------------------------------------------------------- a tuner of the user's own that is killed

# A line search that keeps its own books by number, as NNI's tuners do: it goes on from the best it was told of.
TUNER = """
from nni.tuner import Tuner
class Line(Tuner):
    def __init__(self, start):
        self.best, self.score, self.count, self.known = start, -1, 0, {}
    def update_search_space(self, space):
        assert list(space) == ["x"]
    def generate_parameters(self, parameter_id, **kwargs):
        self.count += 1
        self.known[parameter_id] = self.count
        return {"x": min(1.0, self.best + 0.05 / self.count)}
    def receive_trial_result(self, parameter_id, parameters, value, **kwargs):
        self.known.pop(parameter_id)
        if value > self.score:
            self.best, self.score = parameters["x"], value
"""
OWN = """
searchSpace: {x: {_type: uniform, _value: [0, 1]}}
trialCommand: python main.py
trialConcurrency: 1
maxTrialNumber: 8
tuner: {codeDir: ., classFileName: line_tuner.py, className: Line, classArgs: {start: 0.25}}
"""


@pytest.mark.slow
def test_a_tuner_of_the_users_own_goes_on_after_a_kill(tmp_path: Path) -> None:
    """The samples are those of a search that nothing stopped: 0.25 + 0.05 (1 + 1/2 + 1/3 + ...)."""
    (tmp_path / "line_tuner.py").write_text(TUNER)
    (tmp_path / "main.py").write_text(
        "import nni, time; time.sleep(0.3); nni.report_final_result(nni.get_next_parameter()['x'])"
    )
    config, made = tmp_path / "config.yml", tmp_path / "made"
    config.write_text(OWN)
    run = f"load_experiment({str(config)!r}, {str(made)!r}, runner='inprocess', progress=False).run()"
    command = [sys.executable, "-c", f"from lightning_nas.hpo import load_experiment; {run}"]
    kills = 0
    for at_least in (2, 5):
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while finished(made) < at_least and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
        kills += driver.wait() == -signal.SIGKILL
    assert kills == 2
    assert finished(made) < 8
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    with contextlib.closing(SqliteStore.open(made)) as store:
        trials = store.trials()
    assert [trial.status for trial in trials] == [Status.COMPLETED] * 8
    steps = np.cumsum([0.05 / n for n in range(1, 9)])
    assert [trial.sample["x"] for trial in trials] == pytest.approx(0.25 + steps)


def finished(made: Path) -> int:
    if not (made / "experiment.db").exists():
        return 0
    try:
        with contextlib.closing(SqliteStore.open(made)) as store:
            return sum(trial.status.is_final for trial in store.trials())
    except StoreError:  # it is being made
        return 0
