"""Parallel searches that can be repeated: `Experiment(lag=)`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_nas.experiment import Experiment
from lightning_nas.space import Categorical, Float, Sample, SearchSpace
from lightning_nas.stopping import ASHA
from lightning_nas.strategies import TPE, RegularizedEvolution, Strategy
from lightning_nas.trial import Status, Trial

SPACE = {"x": Float(0, 1), "kind": Categorical(["a", "b", "c", "d"])}


class LastsAnyTime:
    """Scores a sample; how long that takes has nothing to do with its number."""

    def evaluate(self, candidate: Any, report: Any) -> dict[str, float]:
        time.sleep(hash(candidate.sample["kind"]) % 5 * 0.02)  # hashes of strings differ from run to run
        return {"acc": candidate.sample["x"] + 0.1 * "abcd".index(candidate.sample["kind"])}


class Watches:
    """Random search that writes down how many results it was shown, and how many trials."""

    seed = None

    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []

    def ask(self, space: SearchSpace, trials: Sequence[Trial], rng: np.random.Generator) -> Sample:
        self.shown.append((len(trials), sum(trial.score is not None for trial in trials)))
        assert [trial.number for trial in trials] == list(range(len(trials)))
        return space.sample(rng)


def search(directory: Path, strategy: Strategy, **settings: Any) -> list[Sample]:
    settings = {"max_trials": 16, "progress": False, "objective": "acc", **settings}
    exp = Experiment(SPACE, LastsAnyTime(), strategy, directory=directory, **settings).run()
    assert all(trial.status is Status.COMPLETED for trial in exp.trials)
    return [trial.sample for trial in exp.trials]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_server")
@pytest.mark.parametrize(
    "strategy",
    [RegularizedEvolution(4, 2), TPE(startup_trials=4)],
    ids=lambda strategy: type(strategy).__name__,
)
def test_with_a_lag_any_number_of_workers_up_to_it_gives_the_same_samples(
    tmp_path: Path, strategy: Strategy
) -> None:
    alone = search(tmp_path / "1", strategy, lag=3, runner="inprocess")
    assert search(tmp_path / "2", strategy, lag=3, concurrency=2) == alone
    assert search(tmp_path / "4", strategy, lag=3, concurrency=4) == alone
    assert search(tmp_path / "none", strategy, runner="inprocess") != alone  # the strategy knew more


def test_the_strategy_sees_all_trials_but_the_results_of_the_old_ones_only(tmp_path: Path) -> None:
    strategy = Watches()
    search(tmp_path, strategy, lag=2, max_trials=6, runner="inprocess")
    assert strategy.shown == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 3)]


def test_a_search_with_a_lag_that_is_made_longer_equals_one_that_was_long(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", RegularizedEvolution(4, 2), lag=3, runner="inprocess")
    search(tmp_path / "parts", RegularizedEvolution(4, 2), lag=3, runner="inprocess", max_trials=9)
    assert search(tmp_path / "parts", RegularizedEvolution(4, 2), lag=3, runner="inprocess") == whole


def test_a_lag_and_a_rule_that_pauses_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`lag` waits for trials to end, but ASHA pauses them"):
        Experiment(SPACE, LastsAnyTime(), RegularizedEvolution(), directory=tmp_path, lag=1, stopping=ASHA(4))
