"""Memos: worked out once per trial, and thrown away when the history is not the one they know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_nas.space import Integer, SearchSpace
from lightning_nas.strategies.history import PerTrial, Seen
from lightning_nas.trial import Status, Trial

SPACE = SearchSpace({"x": Integer(0, 9)})


def trials_of(*values):
    return [Trial(i, {"x": x}) for i, x in enumerate(values)]


def test_each_trial_is_worked_out_once_while_the_history_grows_and_ends():
    calls = []
    memo = PerTrial(lambda space, sample: calls.append(sample["x"]) or sample["x"])
    trials = trials_of(3, 1, 4, 1, 5)
    assert memo(SPACE, trials[:2]) == [3, 1]
    finished = [replace(t, status=Status.COMPLETED, score=1.0) for t in trials]
    assert memo(SPACE, finished) == [3, 1, 4, 1, 5]
    assert calls == [3, 1, 4, 1, 5]


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=6))
def test_any_sequence_of_histories_gives_what_a_fresh_memo_gives(histories):
    memo, seen = PerTrial(lambda space, sample: sample["x"]), Seen()
    for values in histories:
        trials = trials_of(*values)
        assert memo(SPACE, trials) == values
        assert seen.keys(SPACE, trials) == {SPACE.key({"x": x}) for x in values}
        is_unseen = seen.unseen(SPACE, trials)
        assert [x for x in range(10) if is_unseen({"x": x})] == sorted(set(range(10)) - set(values))


def test_another_space_is_another_history():
    seen = Seen()
    other = SearchSpace({"x": Integer(0, 9), "y": Integer(0, 1)})
    trials = trials_of(3)
    assert seen.keys(SPACE, trials) != seen.keys(other, trials)


def test_a_key_is_asked_anew_in_another_space():
    seen = Seen(key=lambda sample: sample["x"] % 2)
    assert not seen.unseen(SPACE, trials_of(3))({"x": np.int64(5)})
    assert seen.unseen(SearchSpace({"x": Integer(0, 9, step=1)}), trials_of(3))({"x": 4})


def test_an_error_in_the_middle_leaves_nothing_half_done():
    refused = {4}

    def compute(space, sample):
        if sample["x"] in refused:
            raise RuntimeError
        return sample["x"]

    memo = PerTrial(compute)
    with pytest.raises(RuntimeError):
        memo(SPACE, trials_of(3, 4))
    assert memo(SPACE, trials_of(5, 6, 7)) == [5, 6, 7]
