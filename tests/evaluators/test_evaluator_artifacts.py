"""What is kept of a trained model."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_nas.evaluators.artifacts import Recorder


def recorded(directory: Path, *calls: tuple[Any, bool], model: nn.Module | None = None) -> Any:
    """The inputs kept after the calls (arguments, in training mode); None if none were."""
    model = model or nn.Linear(2, 1)
    with Recorder() as recorder:
        recorder.watch(model)
        for arguments, training in calls:
            model.train(training)(*arguments)
        recorder.save(directory)
    path = directory / "inputs.pt"
    return torch.load(path, weights_only=True) if path.exists() else None


def rows(n: int, value: float = 0.0) -> tuple[Tensor]:
    return (torch.full((n, 2), float(value)),)


class Add(nn.Module):
    def forward(self, a: Tensor, b: Tensor | None = None) -> Tensor:
        return a if b is None else a + b


def test_the_first_batch_in_eval_mode_is_kept(tmp_path: Path) -> None:
    (kept,) = recorded(
        tmp_path, (rows(4, 1), True), (rows(3, 2), False), (rows(9, 3), False), (rows(9, 4), True)
    )
    assert torch.equal(kept, rows(3, 2)[0])


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=6))
def test_at_most_eight_rows_of_the_best_call_are_kept(calls: list[tuple[int, bool]]) -> None:
    recorder, model = Recorder(), nn.Linear(2, 1)
    recorder.watch(model)
    for i, (n, training) in enumerate(calls):
        model.train(training)(*rows(n, i))
    recorder.close()
    if not calls:
        assert recorder._inputs is None
        return
    rank = [(not training, n >= 2) for n, training in calls]
    best = rank.index(max(rank))
    assert recorder._inputs is not None
    assert torch.equal(recorder._inputs[0], rows(min(calls[best][0], 8), best)[0])


def test_all_inputs_are_kept_and_only_batches_are_cut(tmp_path: Path) -> None:
    a, b = torch.rand(20, 3), torch.rand(3)
    kept = recorded(tmp_path, ((a, b), False), model=Add())
    assert [tuple(each.shape) for each in kept] == [(8, 3), (3,)]


def test_inputs_that_are_no_tensors_are_not_kept(tmp_path: Path) -> None:
    assert recorded(tmp_path, ((torch.zeros(2, 2), None), False), model=Add()) is None
    assert (tmp_path / "weights.pt").exists()


def test_inputs_are_copies_that_gradients_can_pass(tmp_path: Path) -> None:
    recorder, model, images = Recorder(), nn.Linear(2, 1).eval(), torch.zeros(4, 2)
    recorder.watch(model)
    with torch.inference_mode():
        model(images)
    images += 1
    assert recorder._inputs is not None
    (kept,) = recorder._inputs
    assert kept.sum() == 0
    assert not kept.is_inference()


def test_the_hook_goes_as_soon_as_nothing_better_can_come() -> None:
    recorder, model = Recorder(), nn.Linear(2, 1)
    recorder.watch(model)
    model(*rows(4))
    assert model._forward_pre_hooks
    model.eval()(*rows(2))
    assert not model._forward_pre_hooks


def test_a_watched_model_can_be_copied_and_pickled() -> None:
    recorder, model = Recorder(), nn.Linear(2, 1)
    recorder.watch(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin.weight, model.weight)


def test_nothing_is_written_without_a_model(tmp_path: Path) -> None:
    Recorder().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_share_memory_still_do(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    recorded(tmp_path, model=model)
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert state["0.weight"].data_ptr() == state["1.weight"].data_ptr()
