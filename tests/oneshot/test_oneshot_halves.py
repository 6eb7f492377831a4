"""The two halves of the training data, their orders, and what cannot be split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_search import Lit, data, loader, search
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lightning_nas import Darts
from lightning_nas.evaluators.random_states import random_states, set_random_states
from lightning_nas.oneshot.halves import Stream, halves


def numbers(n: int = 20, batch_size: int = 3, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.arange(n)), batch_size, **{"shuffle": True, **options})


def flat(batches: Any) -> list[int]:
    return [int(i) for (batch,) in batches for i in batch]


def test_halves_are_disjoint_and_complete() -> None:
    one, other = halves(numbers(), 0.5, seed=0)
    assert len(flat(one)) == len(flat(other)) == 10
    assert sorted(flat(one) + flat(other)) == list(range(20))


def test_the_share_is_that_of_the_first() -> None:
    one, other = halves(numbers(), 0.8, seed=0)
    assert (len(flat(one)), len(flat(other))) == (16, 4)


def test_each_epoch_has_its_own_order() -> None:
    one, _ = halves(numbers(), 0.5, seed=0)
    orders = []
    for epoch in range(3):
        one.sampler.set_epoch(epoch)
        orders.append(tuple(flat(one)))
    assert len(set(orders)) == 3
    one.sampler.set_epoch(1)
    assert tuple(flat(one)) == orders[1]


def test_an_epoch_after_one_that_ended_early_is_whole() -> None:
    one, _ = halves(numbers(), 0.5, seed=0)
    batches = iter(one)
    next(batches), next(batches)
    again, _ = halves(numbers(), 0.5, seed=0)
    again.load_state_dict(one.state_dict())
    again.sampler.set_epoch(1)
    assert len(flat(again)) == 10


def test_a_loader_in_order_stays_in_order() -> None:
    one, _ = halves(numbers(shuffle=False), 0.5, seed=0)
    assert flat(one) == flat(one)


def test_ranks_share_what_one_rank_would_see() -> None:
    whole, _ = halves(numbers(batch_size=4), 0.5, seed=3)
    parts = [halves(numbers(batch_size=2), 0.5, 3, rank, 2)[0] for rank in (0, 1)]
    for batch, *pieces in zip(whole, *parts):
        assert set(batch[0].tolist()) == {int(i) for (piece,) in pieces for i in piece}


def test_the_settings_of_the_loader_are_kept() -> None:
    one, other = halves(numbers(batch_size=4, drop_last=True, collate_fn=len), 0.5, seed=0)
    assert list(one) == list(other) == [4, 4]


def test_a_random_sampler_over_a_part_is_split_too() -> None:
    one, other = halves(numbers(shuffle=False, sampler=SubsetRandomSampler(range(5, 15))), 0.5, seed=0)
    assert sorted(flat(one) + flat(other)) == list(range(5, 15))


class Endless(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(10))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (lambda: [numbers(), numbers()], "are a list"),
        (lambda: DataLoader(Endless()), "are an IterableDataset"),
        (
            lambda: numbers(shuffle=False, sampler=WeightedRandomSampler([1.0] * 20, 20)),
            "have a WeightedRandomSampler",
        ),
        (
            lambda: DataLoader(data(), batch_sampler=BatchSampler(SequentialSampler(range(128)), 4, False)),
            "have a batch sampler",
        ),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_reason(given: Any, reason: str) -> None:
    with pytest.raises(
        ValueError, match=f"cannot be split in halves, since they {reason}.*give search_data="
    ):
        halves(given(), 0.5, 0)


def test_one_example_makes_no_two_halves() -> None:
    with pytest.raises(ValueError, match="no training data to split: 1 examples"):
        halves(numbers(1), 0.5, 0)


def test_one_class_in_the_search_half_is_refused() -> None:
    dataset = TensorDataset(torch.randn(10, 8), torch.full((10,), 3))
    with pytest.raises(ValueError, match="5 examples.*class 3 only"):
        halves(DataLoader(dataset, 2, shuffle=True), 0.5, 0)


def test_such_data_stop_a_search_before_it_begins() -> None:
    dataset = TensorDataset(torch.randn(10, 8), torch.full((10,), 3))
    with pytest.raises(ValueError, match="class 3 only"):
        search(Darts(), Lit(), data=DataLoader(dataset, 2, shuffle=True))


def test_numbers_as_targets_are_no_classes() -> None:
    dataset = TensorDataset(torch.randn(10, 8), torch.zeros(10))
    halves(DataLoader(dataset, 2, shuffle=True), 0.5, 0)


@pytest.mark.parametrize("position", range(11))
def test_a_stream_goes_on_from_any_position(position: int) -> None:
    def stream() -> Stream:
        return Stream(lambda: halves(numbers(), 0.5, seed=0)[1])

    one = stream()
    for _ in range(position):
        next(one)
    state = one.state_dict()
    expected = [next(one)[0].tolist() for _ in range(6)]
    other = stream()
    other.load_state_dict(state)
    assert [next(other)[0].tolist() for _ in range(6)] == expected


def test_a_stream_of_any_iterable_skips_what_was_seen() -> None:
    one, other = Stream(lambda: "abc"), Stream(lambda: "abc")
    for _ in range(4):
        next(one)
    other.load_state_dict(one.state_dict())
    assert [next(one) for _ in range(4)] == [next(other) for _ in range(4)] == ["b", "c", "a", "b"]


def test_an_empty_stream_is_refused() -> None:
    with pytest.raises(ValueError, match="search data are empty"):
        next(Stream(list))


def test_a_loader_leaves_torch_s_random_state_alone() -> None:
    one, _ = halves(loader(), 0.5, 0)
    before = torch.get_rng_state()
    list(one)
    assert torch.equal(before, torch.get_rng_state())


def test_random_states_are_restored() -> None:
    import random

    import numpy as np

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    states = random_states()
    first = draw()
    set_random_states(states)
    assert draw() == first
