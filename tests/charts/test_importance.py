"""Which labels matter."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from chart_data import done

from lightning_nas.importance import importances
from lightning_nas.space import Categorical, Condition, Float, Integer, Sample, SearchSpace, Subset
from lightning_nas.trial import Objective, Status, Trial

ACC = Objective("acc")
HAS_CONDITIONS = int(optuna.__version__.split(".")[0]) >= 5

SPACE = SearchSpace(
    {
        "x": Float(0, 1),
        "noise": Float(1e-3, 1, log=True),
        "kind": Categorical(["a", "b"]),
        "only_a": Integer(0, 9),
        "members": Subset(["p", "q", "r"]),
        "fixed": Categorical(["always"]),
    },
    {"only_a": Condition({"kind": ["a"]})},
)


def trials_of(value: object, n: int = 120, space: SearchSpace = SPACE) -> list[Trial]:
    """Random trials whose accuracy is `value(sample)`."""
    rng = np.random.default_rng(1)
    samples = [space.sample(rng) for _ in range(n)]
    return [done(i, sample, acc=float(value(sample))) for i, sample in enumerate(samples)]  # type: ignore[operator]


def test_shares_sum_to_one_and_come_largest_first() -> None:
    found = importances(SPACE, trials_of(lambda s: s["x"]), ACC)
    assert sum(found.values()) == pytest.approx(1)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert set(found) == set(SPACE) - (set() if HAS_CONDITIONS else {"only_a"})


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("x", lambda s: s["x"]),
        ("noise", lambda s: -math.log(s["noise"])),
        ("kind", lambda s: s["kind"] == "b"),
        ("members", lambda s: "q" in s["members"]),
    ],
)
def test_the_label_that_decides_matters_most(label: str, value: object) -> None:
    found = importances(SPACE, trials_of(value), ACC)
    assert next(iter(found)) == label
    assert found[label] > 0.5
    assert found["fixed"] == 0


@pytest.mark.skipif(not HAS_CONDITIONS, reason="Optuna before 5.0 does not know of conditions")
def test_a_conditional_label_matters_where_it_is_active() -> None:
    def value(sample: Sample) -> float:
        return 1.0 + sample["only_a"] if "only_a" in sample else 0.0

    found = importances(SPACE, trials_of(value, 300), ACC)
    assert found["only_a"] > 0.5
    unseen = importances(SPACE, trials_of(lambda s: 1 - value(s), 300), ACC)
    assert unseen["only_a"] < 0.05  # none of the best has it


def test_the_direction_decides_which_trials_are_the_best() -> None:
    def value(sample: Sample) -> float:
        return sample["x"] if sample["x"] > 0.8 else 0.8 * sample["members"].count("p")

    high = importances(SPACE, trials_of(value), ACC)
    low = importances(SPACE, trials_of(value), Objective("acc", "min"))
    assert next(iter(high)) == "x"
    assert next(iter(low)) == "members"


def test_stopped_trials_count_and_failed_and_running_ones_do_not() -> None:
    trials = trials_of(lambda s: s["x"], 30)
    stopped = [Trial(**{**vars(t), "status": Status.STOPPED}) for t in trials[:15]] + trials[15:]
    assert importances(SPACE, stopped, ACC) == importances(SPACE, trials, ACC)
    failed = [Trial(100 + i, t.sample, Status.FAILED) for i, t in enumerate(trials)]
    running = [Trial(200, trials[0].sample, Status.RUNNING)]
    assert importances(SPACE, trials + failed + running, ACC) == importances(SPACE, trials, ACC)


def test_with_too_few_trials_it_says_so_in_one_sentence() -> None:
    trials = [*trials_of(lambda s: s["x"], 19), done(50, {}, acc=math.nan)]
    with pytest.raises(ValueError, match=r"^Importance needs at least 20 trials .* but there are 19\.$"):
        importances(SPACE, trials, ACC)


def test_where_all_are_equally_good_nothing_is_known() -> None:
    with pytest.raises(ValueError, match="no label sets the best of the 30 trials apart"):
        importances(SPACE, trials_of(lambda s: 0.5, 30), ACC)
