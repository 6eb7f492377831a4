"""Runners: where and how trials are evaluated."""

from lightning_nas.experiment.runners.inprocess import InProcessRunner
from lightning_nas.experiment.runners.processes import ProcessRunner
from lightning_nas.experiment.runners.protocol import Job, Outcome, Runner, TrialReport, Work
from lightning_nas.experiment.runners.ray_cluster import Ray, RayRunner

__all__ = [
    "InProcessRunner",
    "Job",
    "Outcome",
    "ProcessRunner",
    "Ray",
    "RayRunner",
    "Runner",
    "TrialReport",
    "Work",
]
