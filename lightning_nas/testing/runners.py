"""What every runner must do, as a suite to inherit.

    class TestMyRunner(RunnerSuite):
        def make(self, work, directory):
            return MyRunner(work, ...)

The evaluators here are sent to wherever the runner evaluates.
"""

from __future__ import annotations

import abc
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nas.experiment.runners import Job, Outcome, Runner, TrialReport, Work
from lightning_nas.report import report_intermediate_result, running
from lightning_nas.trial import Candidate, Report

_LIMIT_S = 60.0

_TOO_LATE_S = 0.7  # after which the thread of a trial that has ended reports


@dataclass(frozen=True)
class Evaluates:
    """An evaluator that calls a function."""

    function: Callable[[Candidate, Report], Any]

    def evaluate(self, candidate: Candidate, report: Report) -> Any:
        """What the function returns."""
        return self.function(candidate, report)


@dataclass(frozen=True)
class Doubles:
    """A model whose built form is twice its `x`."""

    space: Mapping[str, Any] = field(default_factory=lambda: {"x": None})

    def build(self, sample: Mapping[str, Any]) -> Any:
        """Raises KeyError unless `sample` is `{"x": ...}`."""
        (only,) = sample
        return {"x": 2}[only] * sample[only]


def returns_x(candidate: Candidate, report: Report) -> Any:
    """The sample's x."""
    return {"x": candidate.sample["x"]}


def builds(candidate: Candidate, report: Report) -> Any:
    """What the model builds."""
    return candidate.build()


def reports_ten_times(candidate: Candidate, report: Report) -> Any:
    """How many reports were taken until one was answered with a stop."""
    for step in range(10):
        if not report(step, {"x": step / 2}):
            return step + 1
    return 10


def reports_by_function(candidate: Candidate, report: Report) -> Any:
    """Reports as user code written for NNI does, and does not catch what stops it."""
    with running(candidate, report):
        for value in (0.25, 0.5, 0.75):
            report_intermediate_result(value)
    return 1.0


def raises(candidate: Candidate, report: Report) -> Any:
    """Raises an error of two lines."""
    raise ValueError("the layer is too wide\nby far")


def exits(candidate: Candidate, report: Report) -> Any:
    """Ends as scripts do."""
    sys.exit("no data")


def returns_text(candidate: Candidate, report: Report) -> Any:
    """What no evaluator may return."""
    return {"x": "good"}


def reports_text(candidate: Candidate, report: Report) -> Any:
    """Reports what no evaluator may report."""
    report(0, {"x": "good"})  # type: ignore[dict-item]
    return 1.0


def reports_half_a_step(candidate: Candidate, report: Report) -> Any:
    """Reports at what is no step."""
    report(0.5, {"x": 1.0})  # type: ignore[arg-type]
    return 1.0


def reports_too_late(candidate: Candidate, report: Report) -> Any:
    """Leaves a thread that reports once the trial has ended."""

    def go_on() -> None:
        time.sleep(_TOO_LATE_S)
        report(9, {"x": 9.0})

    threading.Thread(target=go_on).start()
    return 1.0


def runs_out_of_memory(candidate: Candidate, report: Report) -> Any:
    """Raises what Python raises then."""
    raise MemoryError("no more")


def draws(candidate: Candidate, report: Report) -> Any:
    """A number from each global generator."""
    drawn = {"random": random.random(), "numpy": float(np.random.random())}  # noqa: NPY002
    if "torch" in sys.modules:
        drawn["torch"] = float(sys.modules["torch"].rand(()))
    return drawn


def writes(candidate: Candidate, report: Report) -> Any:
    """Writes into its folder what it was given."""
    text = f"{candidate.number} {candidate.resume_from}"
    (candidate.directory / "given.txt").write_text(text)
    return 1.0


def returns_its_terms(candidate: Candidate, report: Report) -> Any:
    """What it was told about pauses."""
    return {
        "may_pause": candidate.may_pause,
        "budget": -1 if candidate.budget is None else candidate.budget,
        "steps": candidate.steps,
    }


def prints(candidate: Candidate, report: Report) -> Any:
    """Prints text, much of it, and what is no text."""
    print("a line of text")
    os.write(2, b"\xff\xfe binary \x00")
    print("x" * 1_000_000, file=sys.stderr)
    return 1.0


def never_ends(candidate: Candidate, report: Report) -> Any:
    """Reports once, then sleeps for as long as a test could last."""
    report(0, {"x": 0.0})
    time.sleep(_LIMIT_S)
    return 1.0


class RunnerSuite(abc.ABC):
    """The laws of a runner. Inherit, name it `Test...`, and make yours."""

    @abc.abstractmethod
    def make(self, work: Work, directory: Path) -> Runner:
        """A runner with nothing submitted; `directory` is empty and its own."""

    @contextmanager
    def runner(self, function: Callable[..., Any], directory: Path, model: Any = None) -> Iterator[Runner]:
        """A runner that evaluates by calling `function`, closed in the end."""
        with closing(self.make(Work(Evaluates(function), model), directory)) as runner:
            yield runner

    def test_each_job_has_one_outcome(self, tmp_path: Path) -> None:
        with self.runner(returns_x, tmp_path) as runner:
            outcomes = run(runner, [job(tmp_path, number, x=number * 1.5) for number in range(7)])
        assert sorted(outcomes) == list(range(7))
        assert [outcomes[n].metrics for n in range(7)] == [{"x": n * 1.5} for n in range(7)]

    def test_there_is_no_room_once_as_many_run_as_may(self, tmp_path: Path) -> None:
        with self.runner(returns_x, tmp_path) as runner:
            room = runner.free
            assert room >= 1
            for number in range(room):
                assert runner.free == room - number
                runner.submit(job(tmp_path, number, x=1))
            assert runner.free == 0
            ended = 0
            deadline = time.monotonic() + _LIMIT_S
            while runner.free < room and time.monotonic() < deadline:
                ended += len(runner.poll(0.05, ignore))
            assert (ended, runner.free) == (room, room)

    def test_nothing_is_reported_where_nothing_was_submitted(self, tmp_path: Path) -> None:
        with self.runner(returns_x, tmp_path) as runner:
            assert runner.poll(0, ignore) == []

    def test_the_model_is_built_from_its_own_labels(self, tmp_path: Path) -> None:
        with self.runner(builds, tmp_path, Doubles()) as runner:
            assert run(runner, [job(tmp_path, 0, x=4, lr=0.1)])[0].metrics == {"default": 8.0}

    def test_without_a_model_building_says_so(self, tmp_path: Path) -> None:
        with self.runner(builds, tmp_path) as runner:
            reason = run(runner, [job(tmp_path, 0, x=4)])[0].reason
        assert reason is not None
        assert reason.startswith("TypeError: This search has no model to build")

    def test_reports_come_in_order_and_before_the_outcome(self, tmp_path: Path) -> None:
        seen: list[tuple[int, int, Mapping[str, float]]] = []

        def note(number: int, step: int, metrics: Mapping[str, float]) -> bool:
            seen.append((number, step, metrics))
            return True

        with self.runner(reports_ten_times, tmp_path) as runner:
            outcome = run(runner, [job(tmp_path, 5)], note)[5]
        assert seen == [(5, step, {"x": step / 2}) for step in range(10)]
        assert outcome.metrics == {"default": 10.0}

    def test_a_stop_reaches_the_trial_at_its_report(self, tmp_path: Path) -> None:
        def stop_at_three(number: int, step: int, metrics: Mapping[str, float]) -> bool:
            return step < 3

        with self.runner(reports_ten_times, tmp_path) as runner:
            assert run(runner, [job(tmp_path, 0)], stop_at_three)[0].metrics == {"default": 4.0}

    def test_a_stop_that_no_one_catches_leaves_the_last_report(self, tmp_path: Path) -> None:
        def stop_at_one(number: int, step: int, metrics: Mapping[str, float]) -> bool:
            return step < 1

        with self.runner(reports_by_function, tmp_path) as runner:
            assert run(runner, [job(tmp_path, 0)], stop_at_one)[0].metrics == {"default": 0.5}

    def test_what_a_report_raises_is_the_callers_and_not_the_trials(self, tmp_path: Path) -> None:
        import pytest  # only here: trials import this module too

        def full(number: int, step: int, metrics: Mapping[str, float]) -> bool:
            raise OSError("the disk is full")

        with (
            self.runner(reports_ten_times, tmp_path) as runner,
            pytest.raises(OSError, match="the disk is full"),
        ):
            run(runner, [job(tmp_path, 0)], full)

    def test_what_is_raised_is_a_failure_with_its_traceback(self, tmp_path: Path) -> None:
        with self.runner(raises, tmp_path) as runner:
            outcome = run(runner, [job(tmp_path, 0)])[0]
        assert outcome.metrics is None
        assert outcome.reason == "ValueError: the layer is too wide"
        assert outcome.traceback is not None
        assert 'raise ValueError("the layer is too wide' in outcome.traceback
        assert outcome.traceback.rstrip().endswith("by far")

    def test_a_failure_leaves_the_next_trial_alone(self, tmp_path: Path) -> None:
        with self.runner(exits, tmp_path) as runner:
            outcomes = run(runner, [job(tmp_path, number) for number in range(3)])
        assert [outcomes[n].reason for n in range(3)] == ["SystemExit: no data"] * 3

    def test_results_that_are_no_numbers_are_failures(self, tmp_path: Path) -> None:
        for function in (returns_text, reports_text):
            with self.runner(function, tmp_path) as runner:
                reason = run(runner, [job(tmp_path, 0)])[0].reason
            assert reason == (
                "MetricError: A result must be a number or a dict of numbers, but 'x' is of type str."
            )

    def test_a_report_at_what_is_no_step_is_a_failure(self, tmp_path: Path) -> None:
        with self.runner(reports_half_a_step, tmp_path) as runner:
            reason = run(runner, [job(tmp_path, 0)])[0].reason
        assert reason == "MetricError: The step of a report must be an integer of at least 0, but got 0.5."

    def test_a_report_after_the_end_goes_nowhere(self, tmp_path: Path) -> None:
        steps: list[int] = []

        def note(number: int, step: int, metrics: Mapping[str, float]) -> bool:
            steps.append(step)
            return True

        with self.runner(reports_too_late, tmp_path) as runner:
            assert run(runner, [job(tmp_path, n) for n in range(2)], note)[1].metrics == {"default": 1.0}
            end = time.monotonic() + 2 * _TOO_LATE_S
            while time.monotonic() < end:
                runner.poll(0.05, note)
        assert steps == []

    def test_memory_that_runs_out_is_named_and_no_crash(self, tmp_path: Path) -> None:
        with self.runner(runs_out_of_memory, tmp_path) as runner:
            outcome = run(runner, [job(tmp_path, 0)])[0]
        assert (outcome.reason, outcome.is_crash) == ("Out of memory: MemoryError: no more", False)

    def test_a_seed_decides_what_a_trial_draws(self, tmp_path: Path) -> None:
        def at(number: int, seed: int) -> Job:
            return Job(number, {}, tmp_path / str(number), seed)

        before = random.getstate()
        with self.runner(draws, tmp_path) as runner:
            outcomes = run(runner, [at(0, 11), at(1, 11), at(2, 12)])
        assert random.getstate() == before
        first, again, other = (outcomes[n].metrics for n in range(3))
        assert first == again
        assert first is not None
        assert other is not None
        assert all(first[name] != other[name] for name in first)

    def test_a_trial_has_its_own_folder_and_learns_of_its_checkpoint(self, tmp_path: Path) -> None:
        jobs = [Job(n, {}, tmp_path / "deep" / str(n), 0, tmp_path / "last.ckpt") for n in range(2)]
        with self.runner(writes, tmp_path) as runner:
            run(runner, jobs)
        texts = [(each.directory / "given.txt").read_text() for each in jobs]
        assert texts == [f"{n} {tmp_path / 'last.ckpt'}" for n in range(2)]

    def test_a_trial_learns_whether_it_may_pause_and_how_far_it_may_go(self, tmp_path: Path) -> None:
        jobs = [job(tmp_path, 0), Job(1, {}, tmp_path / "1", 0, may_pause=True, budget=9, steps=3)]
        with self.runner(returns_its_terms, tmp_path) as runner:
            outcomes = run(runner, jobs)
        assert outcomes[0].metrics == {"may_pause": 0, "budget": -1, "steps": 0}
        assert outcomes[1].metrics == {"may_pause": 1, "budget": 9, "steps": 3}

    def test_whatever_is_printed_does_no_harm(self, tmp_path: Path) -> None:
        with self.runner(prints, tmp_path) as runner:
            assert run(runner, [job(tmp_path, 0)])[0].metrics == {"default": 1.0}

    def test_a_cancelled_job_has_no_outcome(self, tmp_path: Path) -> None:
        with self.runner(never_ends, tmp_path) as runner:
            runner.submit(job(tmp_path, 0))
            runner.cancel(0)
            assert runner.poll(0, ignore) == []
            assert runner.free >= 1
            runner.cancel(99)

    def test_closing_ends_everything_and_may_be_repeated(self, tmp_path: Path) -> None:
        runner = self.make(Work(Evaluates(never_ends)), tmp_path)
        runner.submit(job(tmp_path, 0))
        runner.close()
        runner.close()
        assert runner.poll(0, ignore) == []


def job(directory: Path, number: int, **sample: Any) -> Job:
    """A job of a sample, below `directory`."""
    return Job(number, sample, directory / str(number), number)


def ignore(number: int, step: int, metrics: Mapping[str, float]) -> bool:
    """Takes a report and says go on."""
    return True


def run(runner: Runner, jobs: Sequence[Job], report: TrialReport = ignore) -> dict[int, Outcome]:
    """Runs jobs, as many at once as there is room for; their outcomes by number."""
    waiting, outcomes = list(jobs), dict[int, Outcome]()
    deadline = time.monotonic() + _LIMIT_S
    while len(outcomes) < len(jobs):
        assert time.monotonic() < deadline, f"{len(outcomes)} of {len(jobs)} outcomes within {_LIMIT_S:.0f} s"
        while waiting and runner.free:
            runner.submit(waiting.pop(0))
        for outcome in runner.poll(0.05, report):
            assert outcome.number not in outcomes, f"trial {outcome.number} has two outcomes"
            outcomes[outcome.number] = outcome
    return outcomes
