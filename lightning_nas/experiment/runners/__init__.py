"""Runners: where and how trials are evaluated."""

from lightning_nas.experiment.runners.inprocess import InProcessRunner
from lightning_nas.experiment.runners.processes import ProcessRunner
from lightning_nas.experiment.runners.protocol import Job, Outcome, Runner, TrialReport, Work

__all__ = ["InProcessRunner", "Job", "Outcome", "ProcessRunner", "Runner", "TrialReport", "Work"]
