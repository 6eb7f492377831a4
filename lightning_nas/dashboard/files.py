"""Files of an experiment's folder: what may be downloaded, and the ends of logs as plain text."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, movements
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles, links
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # strings for devices
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

TAIL_BYTES = 64 << 10
SEARCH_BYTES = 64 << 20
_MATCHES = 200


class Refused(Exception):
    """A file may not be had; the message says why."""


def inside(directory: Path, relative: str) -> Path:
    """The file of an experiment's folder that a relative path names.

    Links are followed nowhere on the way, and nothing but an ordinary file is given.

    Raises:
        Refused: for a path that leads out of the folder, a link, or what is no file.
    """
    parts = relative.split("/")
    if not relative or "\0" in relative or "\\" in relative or any(p in ("", ".", "..") for p in parts):
        raise Refused(f"{relative!r} is no path within the experiment's folder.")
    if any(part.startswith(".") for part in parts):
        raise Refused("Hidden files are not given out.")
    path = directory
    for part in parts:
        path = path / part
        try:
            mode = path.lstat().st_mode
        except OSError:
            raise Refused(f"There is no file {relative!r}.") from None
        if stat.S_ISLNK(mode):
            raise Refused(f"{relative!r} leads through a symbolic link.")
    if not stat.S_ISREG(mode):
        raise Refused(f"{relative!r} is no file.")
    return path


def plain(text: str) -> str:
    """Text as a page may show it: terminal codes, and what would turn the direction of the text, are left out.

    A carriage return begins the line anew, as on a terminal: of a progress bar the last state stays.

    >>> plain("\\x1b[31mred\\x1b[0m 1 %\\r99 %")
    '99 %'
    """
    text = _ESCAPES.sub("", text.replace("\r\n", "\n"))
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return _CONTROL.sub("", text)


def tail(path: Path, most_bytes: int = TAIL_BYTES) -> tuple[str, int, int]:
    """The end of a file, whole lines of it, read from its end.

    Returns:
        The text, without terminal codes; where in the file it begins; and the file's size.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - most_bytes))
        data = file.read(most_bytes)
    if start > 0 and b"\n" in data:
        cut = data.index(b"\n") + 1
        start, data = start + cut, data[cut:]
    return plain(data.decode(errors="backslashreplace")), start, size


def search(path: Path, words: str, most_bytes: int = SEARCH_BYTES) -> tuple[list[tuple[int, str]], bool]:
    """The lines of a file that hold some words, in any case.

    Returns:
        The last 200 of them, each with its number from 1; and whether the whole file was searched, rather than
        its first `most_bytes`.
    """
    found: list[tuple[int, str]] = []
    wanted, read = words.casefold(), 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            read += len(line)
            if read > most_bytes:
                return found, False
            text = plain(line[:10_000].decode(errors="backslashreplace").rstrip("\n"))
            if wanted in text.casefold():
                found.append((number, text))
                if len(found) > _MATCHES:
                    found.pop(0)
    return found, True


def listed(directory: Path, relative: str, most: int = 500) -> list[tuple[str, int]]:
    """The files in a part of an experiment's folder that may be downloaded: path from that folder, and size."""
    found: list[tuple[str, int]] = []
    for place, folders, names in os.walk(directory / relative):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = str((Path(place) / name).relative_to(directory))
            try:
                found.append((path, inside(directory, path).stat().st_size))
            except (Refused, OSError):
                continue
            if len(found) >= most:
                return found
    return found


def size_text(size: int) -> str:
    """A number of bytes for people.

    >>> size_text(12), size_text(2_500_000)
    ('12 B', '2.5 MB')
    """
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}" if unit != "B" else f"{size} B"


def value_text(value: Any) -> str:
    """A value of a label as it is typed: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
