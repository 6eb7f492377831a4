"""What trials print: where it is, and its last lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from lightning_nas.experiment import folder
from lightning_nas.trial import Trial

Stream = Literal["stdout", "stderr"]

OUTPUT = "output.log"
"""What a trial's process prints, both its streams in the order they came, in the trial's folder."""

SCRIPT = {"stdout": "trial.stdout", "stderr": "trial.stderr"}
"""What a trial's script prints, if it runs one."""

_BLOCK = 1 << 16
_LAST_WORDS = 5  # lines


def log_of(directory: Path, number: int, stream: Stream = "stdout") -> Path | None:
    """The file with what a trial printed, None if it has none.

    A trial that runs in the driver's process prints where that does. One in a process of its own has a
    single file for both streams; a script that it runs has a file for each.

    Args:
        directory: of the experiment.
        number: of the trial.
        stream: which of the script's; "stderr" is None for a trial without a script.
    """
    place = directory / folder.trial_folder(number)
    script = place / SCRIPT[stream]
    if script.exists():
        return script
    output = place / OUTPUT
    return output if stream == "stdout" and output.exists() else None


def last_lines(path: Path, lines: int, most_bytes: int = 1 << 20) -> tuple[str, int]:
    """The end of a file, read from its end, so that its size does not matter.

    Args:
        path: of the file.
        lines: how many lines at most.
        most_bytes: of these at most so many bytes.

    Returns:
        The text, bytes that are none of UTF-8 escaped; and the position in the file at which it ends.
    """
    with path.open("rb") as file:
        size = position = file.seek(0, os.SEEK_END)
        data = b""
        # One more newline than lines: the one before the first of them.
        while position > 0 and data.count(b"\n") <= lines and len(data) < most_bytes:
            step = min(_BLOCK, position)
            position = file.seek(position - step)
            data = file.read(step) + data
    kept = data[-most_bytes:].splitlines(keepends=True)[-lines:] if lines else []
    return b"".join(kept).decode(errors="backslashreplace"), size


def last_words(directory: Path, trial: Trial) -> str:
    """What a failed trial printed last, where its traceback does not have it, and how to see the rest.

    Empty if it printed nothing into a file.
    """
    path = log_of(directory, trial.number)
    if path is None or path.stat().st_size == 0:
        return ""
    text, _ = last_lines(path, _LAST_WORDS)
    text = text.rstrip()
    more = f"All it printed: lightning-nas trial log {directory} {trial.number}"
    return more if text in (trial.traceback or "") else f"Trial {trial.number} printed last:\n{text}\n{more}"
