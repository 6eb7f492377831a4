"""What a trial prints: into a file of its own, which does not grow without end."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from lightning_nas.experiment.logs import OUTPUT, last_lines

_LIMIT = 64 << 20  # bytes
_KEPT = 1 << 20  # of the beginning, when there is more than that
_SHOWN_LINES, _SHOWN_BYTES = 50, 10_000  # of the output of a trial that crashed


def redirect(directory: Path, name: str = OUTPUT) -> None:
    """Sends what this process and its children print to a file, also what C code prints."""
    directory.mkdir(parents=True, exist_ok=True)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # a trial before may have put others there
    file = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        with contextlib.suppress(OSError, ValueError):  # it has been closed
            stream.flush()  # type: ignore[union-attr]
        os.dup2(file, number)
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    os.close(file)


def cut(directory: Path) -> None:
    """Takes out the middle of a trial's output once it has 64 MiB, while the trial goes on writing.

    Kept are the first MiB and what comes after the cut. The writers append, so they need not know.
    """
    path = directory / OUTPUT
    with contextlib.suppress(OSError):  # it is not there yet
        size = path.stat().st_size
        if size > _LIMIT:
            os.truncate(path, _KEPT)
            with path.open("ab") as file:
                file.write(
                    f"\n[lightning-nas: {(size - _KEPT) >> 20} MiB of output left out here]\n".encode()
                )


def end_of(directory: Path) -> str | None:
    """The last lines of a trial's output, None if it has none."""
    try:
        text, _ = last_lines(directory / OUTPUT, _SHOWN_LINES, _SHOWN_BYTES)
    except OSError:
        return None
    return text.rstrip("\n") or None
