"""An evaluator that looks results up instead of training."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from lightning_nas.errors import MetricError
from lightning_nas.space import Sample
from lightning_nas.trial import Candidate, Metrics, Report, as_metrics


@dataclass(frozen=True)
class TabularEvaluator:
    """Looks a sample up in a table of known results, such as NAS-Bench-201's.

    Args:
        table: for each key a number or `{name: number}`.
        key: the key of a sample.

    Raises:
        ValueError: if the table is empty.

    Example:
        >>> from pathlib import Path
        >>> from lightning_nas.trial import Candidate
        >>> evaluator = TabularEvaluator({"a": {"val_acc": 0.9}}, key=lambda sample: sample["op"])
        >>> evaluator.evaluate(Candidate(0, {"op": "a"}, build=object, directory=Path()), lambda *_: True)
        {'val_acc': 0.9}
    """

    table: Mapping[Any, float | Mapping[str, float]]
    key: Callable[[Sample], Hashable]

    def __post_init__(self) -> None:
        if not self.table:
            raise ValueError("`table` must hold a result for each sample, but it is empty.")

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """The metrics in the table; nothing is reported on the way.

        Raises:
            MetricError: if the table does not hold the sample, or holds no number for it.
        """
        key = self.key(candidate.sample)
        if key not in self.table:
            raise MetricError(
                f"The table has no result for {key!r}, the key of the sample {candidate.sample}; "
                f"its {len(self.table)} keys look like {next(iter(self.table))!r}."
            )
        return as_metrics(self.table[key])

    def __repr__(self) -> str:
        return f"TabularEvaluator(table of {len(self.table)}, key={self.key!r})"
