"""What is said when a search has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lightning_nas.experiment.display import Display, metric_text
from lightning_nas.experiment.ending import Ending
from lightning_nas.experiment.folder import BEST
from lightning_nas.experiment.logs import last_words
from lightning_nas.experiment.tidying import DELETED
from lightning_nas.trial import Objective, Status, Trial, best


def say_how_it_ended(
    display: Display,
    ending: Ending,
    directory: Path,
    trials: Sequence[Trial],
    objective: Objective,
    keep_weights: int | None,
) -> None:
    """Says what failed, why the search ended, what was found and where it is, and how to go on."""
    counts = Counter(trial.status.value for trial in trials)
    numbers = ", ".join(f"{count} {status}" for status, count in counts.items())
    display.failures(trials)
    failed = [trial for trial in trials if trial.status is Status.FAILED]
    if failed and (words := last_words(directory, failed[-1])):
        display.say(words)
    display.say(f"The search ended: {ending.text} ({numbers or 'no trials'}).")
    tidied = sum(DELETED in trial.artifacts for trial in trials)
    if tidied:
        display.say(
            f"Weights are kept of the best {keep_weights} trials (keep_weights); those of {tidied} were deleted."
        )
    for leader in best(trials):
        display.say(
            f"Best: trial {leader.number}, {metric_text(leader, objective)}; its files are in {directory / BEST}"
        )
    if ending.is_interrupted:
        display.say(
            f"To go on, run the same script with directory={str(directory)!r}, or "
            f"Experiment.resume({str(directory)!r}).run(), or `lightning-nas resume {directory}`"
        )
