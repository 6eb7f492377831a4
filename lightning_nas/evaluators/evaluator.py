"""What an evaluator is."""

from __future__ import annotations

from typing import Protocol

from lightning_nas.trial import Candidate, Metrics, Report


class Evaluator(Protocol):
    """Turns a candidate into metrics: by training it, by looking it up, by scoring it with shared weights.

    An evaluator holds settings and data, no progress, and can be pickled by cloudpickle, so that a trial
    may run in another process. `lightning_nas.testing.evaluators` holds the laws that each one keeps.

    An evaluator that trains with several processes has an attribute `ranks`, their number. `evaluate` is then called
    in each, with LOCAL_RANK, RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set; what rank 0 reports and returns counts.
    """

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """The final metrics of `candidate`; what they mean is up to the objective.

        Args:
            candidate: the sample, a way to build its model, and a folder for files. An evaluator that
                trains a torch model leaves `weights.pt`, `inputs.pt` and `architecture.json` there (see `artifacts`).
            report: is given metrics while they improve; once it answers False, the evaluator ends as
                soon as it can and returns what it has.

        Raises:
            Exception: whatever goes wrong, also in `candidate.build`; the trial has then failed.
        """
        ...
