"""Trials as a rule sees them, written as lists of reports."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_nas.trial import Intermediate, Status, Trial


def trial(number: int, reports: Sequence[float], status: Status = Status.RUNNING) -> Trial:
    """A trial whose reports have these scores; a paused one is held."""
    intermediate = tuple(Intermediate(i, {"default": score}, score) for i, score in enumerate(reports))
    return Trial(number, {}, status, intermediate=intermediate, budget=len(reports))


def history(*reports: Sequence[float], status: Status = Status.COMPLETED) -> list[Trial]:
    """Trials 0, 1, ... of one status."""
    return [trial(number, each, status) for number, each in enumerate(reports)]
