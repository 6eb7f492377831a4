"""What failed trials have in common."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from lightning_nas.trial import Status, Trial

_FRAME = re.compile(r'^ *File "(.+)", line (\d+), in (.+)$', re.MULTILINE)


def commonest(trials: Sequence[Trial]) -> tuple[Trial | None, int]:
    """The last trial of the largest group that failed alike, and how many it has; ties go to the later group.

    Alike are failures with the same kind of reason in the same line of code. A reason is taken without its
    numbers: "needed 7 MiB" is of one kind with "needed 9 MiB".
    """
    failed = [trial for trial in reversed(trials) if trial.status is Status.FAILED]
    counts = Counter(map(kind_of, failed))
    if not counts:
        return None, 0
    kind, count = counts.most_common(1)[0]  # among equals the first counted
    return next(trial for trial in failed if kind_of(trial) == kind), count


def common_failure(trials: Sequence[Trial]) -> str:
    """A phrase on the commonest failure, empty if none failed."""
    trial, count = commonest(trials)
    if trial is None:
        return ""
    others = f", as {count - 1} others did" if count > 2 else ", as another did" if count == 2 else ""
    place = place_of(trial)
    return f"trial {trial.number} failed with {trial.reason}{f' in {place}' if place else ''}{others}"


def place_of(trial: Trial) -> str | None:
    """`file:line` where the exception of a failed trial was raised; None if no traceback tells."""
    frames = _FRAME.findall(trial.traceback or "")
    if not frames:
        return None
    file, line, _ = frames[-1]
    return f"{file}:{line}"


def kind_of(trial: Trial) -> tuple[str, str | None]:
    """What failures that are alike share."""
    return re.sub(r"\d+(\.\d+)?", "#", trial.reason or ""), place_of(trial)
