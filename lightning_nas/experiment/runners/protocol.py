"""What a runner is, and what goes in and comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lightning_nas.space import Sample
from lightning_nas.trial import Metrics, Report

if TYPE_CHECKING:
    from lightning_nas.evaluators import Evaluator
    from lightning_nas.mutables import Blueprint
    from lightning_nas.oneshot import OneShot


@dataclass(frozen=True)
class Work:
    """What all trials of an experiment share.

    Args:
        evaluator: evaluates candidates.
        model: builds them; None in a search without a model.
        one_shot: what searches the model in the trial that does so; None in a multi-trial search.
        name: the experiment's.
    """

    evaluator: Evaluator
    model: Blueprint | None = None
    one_shot: OneShot | None = None
    name: str = ""

    def build(self, sample: Sample) -> Any:
        """A fresh plain model of the labels of `sample` that are the model's.

        Raises:
            TypeError: if there is no model.
        """
        if self.model is None:
            raise TypeError(
                "This search has no model to build: the experiment was given a search space. Use "
                "`candidate.sample`, or give the experiment a model under @model_wrapper."
            )
        return self.model.build(self._own(self.model, sample))

    def code(self, sample: Sample) -> str:
        """The source of the model that `build` makes, as a file that needs torch alone; see `export.source_of`.

        Raises:
            ExportError: if it cannot be written; the message names what is in the way.
        """
        from lightning_nas.export import source_of

        assert self.model is not None, "there is a model to write"
        return source_of(self.model, self._own(self.model, sample))

    @staticmethod
    def _own(model: Blueprint, sample: Sample) -> Sample:
        """The part of a sample that is the model's."""
        return {label: value for label, value in sample.items() if label in model.space}

    def search(self, report: Report) -> Sample:
        """The sample that the one-shot method derives; `report` is given the state of each epoch."""
        assert self.one_shot is not None and self.model is not None, "the experiment checks this"  # noqa: PT018
        return self.one_shot.search(self.model.instance(), self.evaluator, report)


@dataclass(frozen=True)
class Job:
    """One trial to be run.

    Args:
        number: the trial's number.
        sample: what to evaluate.
        directory: the trial's own folder, absolute; the runner makes it.
        seed: what random, numpy and torch are seeded with, so that a trial can be repeated.
        resume_from: a checkpoint of an earlier attempt, or None.
        is_search: whether the trial is a one-shot search; its sample is empty then.
        may_pause, budget, steps: as in `Candidate`.
        ranks: how many processes evaluate it together, as one trial.
    """

    number: int
    sample: Sample
    directory: Path
    seed: int
    resume_from: Path | None = None
    is_search: bool = False
    may_pause: bool = False
    budget: int | None = None
    steps: int = 0
    ranks: int = 1


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Args:
        number: the trial's number.
        metrics: what the evaluator returned; None if it failed.
        reason: one line on why it failed.
        traceback: of the exception, or the end of the trial's output where there was none.
        sample: what a one-shot search derived; None for any other trial.
        is_crash: whether it was the machine that failed, not the user's code, so that the same job may
            well succeed when it is run again.
    """

    number: int
    metrics: Metrics | None = None
    reason: str | None = None
    traceback: str | None = None
    sample: Sample | None = None
    is_crash: bool = False


class TrialReport(Protocol):
    """How a runner hands on what a trial reports: True says go on, False says stop now."""

    def __call__(self, number: int, step: int, metrics: Mapping[str, float]) -> bool: ...


class Runner(Protocol):
    """Runs jobs. Used from one thread; `lightning_nas.testing.runners` is its test suite."""

    @property
    def free(self) -> int:
        """How many more jobs `submit` may be given now."""
        ...

    @property
    def runs_here(self) -> bool:
        """Whether user code runs in the calling thread, so that an interrupt must be raised in it."""
        ...

    def submit(self, job: Job) -> None:
        """Takes a job; it starts now or at the next `poll`."""
        ...

    def poll(self, timeout_s: float, report: TrialReport) -> list[Outcome]:
        """What ended since the last call. Waits up to `timeout_s` seconds for the first.

        Args:
            timeout_s: 0 or more. A runner in this process waits for its job however long it takes.
            report: called, in this thread, for each report of a running trial. What it raises comes out
                of `poll`; the trial has no outcome then, and may still run.
        """
        ...

    def cancel(self, number: int) -> None:
        """Ends a job as soon as can be; it has no outcome. An unknown number is ignored."""
        ...

    def close(self) -> None:
        """Cancels what still runs and frees everything. Called again, it does nothing."""
        ...
