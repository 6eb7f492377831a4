"""What every evaluator must do, as a suite to inherit.

class TestMyEvaluator(EvaluatorSuite):
    sample = {"width": 8}

    def make(self):
        return MyEvaluator(...)

    def build(self, sample):
        return nn.Linear(4, sample["width"])
"""

from __future__ import annotations

import abc
import contextlib
import math
import os
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from lightning_nas.evaluators import Evaluator
from lightning_nas.space import Sample
from lightning_nas.trial import Candidate, Metrics

_SEED = 20


class BuildError(Exception):
    """What a model raises here whose constructor is at fault."""


class EvaluatorSuite(abc.ABC):
    """The laws of `Evaluator`.

    Attributes:
        sample: one that the evaluator can evaluate.
        trains: whether the evaluator trains what `build` makes, a torch module.
        reports: whether it reports while it trains, at least twice.
    """

    sample: ClassVar[Sample]
    trains: ClassVar[bool] = True
    reports: ClassVar[bool] = True

    @abc.abstractmethod
    def make(self) -> Evaluator:
        """The evaluator."""

    def build(self, sample: Sample) -> Any:
        """A fresh model of `sample`, as `Candidate.build` makes it; by default there is none."""
        raise TypeError("This search has no model to build.")

    def candidate(self, directory: Path, build: Callable[[], Any] | None = None) -> Candidate:
        """A candidate with a folder of its own."""
        directory.mkdir()
        return Candidate(0, dict(self.sample), build or (lambda: self.build(self.sample)), directory)

    def evaluate(self, evaluator: Evaluator, directory: Path) -> Metrics:
        """Evaluates under a fixed random state; nothing is stopped."""
        with _seeded():
            return evaluator.evaluate(self.candidate(directory), lambda step, metrics: True)

    def test_metrics_are_floats_by_name(self, tmp_path: Path) -> None:
        metrics = self.evaluate(self.make(), tmp_path / "0")
        assert metrics
        assert {(type(name), type(value)) for name, value in metrics.items()} == {(str, float)}

    def test_the_same_random_state_gives_the_same_metrics(self, tmp_path: Path) -> None:
        first = self.evaluate(self.make(), tmp_path / "0")
        assert _same(first, self.evaluate(self.make(), tmp_path / "1"))

    def test_an_evaluation_leaves_no_trace_in_the_next(self, tmp_path: Path) -> None:
        evaluator = self.make()
        first = self.evaluate(evaluator, tmp_path / "0")
        assert _same(first, self.evaluate(evaluator, tmp_path / "1"))

    def test_a_pickled_evaluator_is_the_same_evaluator(self, tmp_path: Path) -> None:
        import cloudpickle

        copy = cloudpickle.loads(cloudpickle.dumps(self.make()))
        assert _same(self.evaluate(self.make(), tmp_path / "0"), self.evaluate(copy, tmp_path / "1"))

    def test_the_sample_stays_as_it_was(self, tmp_path: Path) -> None:
        candidate = self.candidate(tmp_path / "0")
        self.make().evaluate(candidate, lambda step, metrics: True)
        assert candidate.sample == self.sample

    def test_files_are_written_to_the_trials_folder_only(self, tmp_path: Path) -> None:
        here = tmp_path / "here"
        here.mkdir()
        with _working_in(here):
            self.evaluate(self.make(), tmp_path / "0")
        assert list(here.iterdir()) == []

    def test_reports_are_numbered_from_zero(self, tmp_path: Path) -> None:
        reports: list[tuple[int, dict[str, float]]] = []

        def report(step: int, metrics: Mapping[str, float]) -> bool:
            reports.append((step, dict(metrics)))
            return True

        self.make().evaluate(self.candidate(tmp_path / "0"), report)
        assert len(reports) >= 2 * self.reports
        assert [step for step, _ in reports] == list(range(len(reports)))
        assert {type(value) for _, metrics in reports for value in metrics.values()} <= {float}

    def test_nothing_is_reported_after_a_stop(self, tmp_path: Path) -> None:
        steps = []

        def report(step: int, metrics: Mapping[str, float]) -> bool:
            steps.append(step)
            return False

        metrics = self.make().evaluate(self.candidate(tmp_path / "0"), report)
        assert steps == [0] * self.reports
        assert metrics

    def test_an_error_of_the_model_is_passed_on(self, tmp_path: Path) -> None:
        error = BuildError("no such layer")

        def build() -> Any:
            raise error

        if not self.trains:
            return
        with pytest.raises(BuildError) as raised:
            self.make().evaluate(self.candidate(tmp_path / "0", build), lambda step, metrics: True)
        assert raised.value is error

    def test_the_trained_model_can_be_loaded_and_run(self, tmp_path: Path) -> None:
        self.evaluate(self.make(), tmp_path / "0")
        if not self.trains:
            assert not (tmp_path / "0" / "weights.pt").exists()
            return
        import torch

        model = self.build(self.sample)
        model.load_state_dict(torch.load(tmp_path / "0" / "weights.pt", weights_only=True))
        inputs = torch.load(tmp_path / "0" / "inputs.pt", weights_only=True)
        assert 2 <= len(inputs[0]) <= 8
        assert {value.device.type for value in (*model.state_dict().values(), *inputs)} == {"cpu"}
        model.eval()
        model(*inputs)


def _same(first: Metrics, second: Metrics) -> bool:
    """Whether two results are equal, NaN being equal to NaN."""
    return first.keys() == second.keys() and all(
        first[name] == second[name] or (math.isnan(first[name]) and math.isnan(second[name]))
        for name in first
    )


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Sets the global random states within the block, and puts back those of random and numpy."""
    import torch

    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        random.seed(_SEED)
        np.random.seed(_SEED)  # noqa: NPY002
        torch.manual_seed(_SEED)
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002


@contextlib.contextmanager
def _working_in(directory: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)
