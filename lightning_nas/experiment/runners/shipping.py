"""Files of a trial on their way between two machines that share no folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PART_BYTES = 8 << 20

Snapshot = dict[str, tuple[int, int]]
"""`{name: (size in bytes, time of the last change in ns)}` of the files below a folder, names with `/`."""


@dataclass(frozen=True)
class Part:
    """A piece of a file, or the news that the file is gone.

    Args:
        name: of the file, relative to the trial's folder, with `/`.
        offset: where `data` belongs, in bytes.
        data: None: the file is no longer there.
        is_last: whether the file is complete with it.
    """

    name: str
    offset: int = 0
    data: bytes | None = None
    is_last: bool = True


def snapshot(directory: Path) -> Snapshot:
    """What is below `directory` now; empty where there is no such folder."""
    found: Snapshot = {}
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):  # it went while we looked
            if path.is_file():
                stat = path.stat()
                found[path.relative_to(directory).as_posix()] = stat.st_size, stat.st_mtime_ns
    return found


def changes(directory: Path, before: Snapshot, now: Snapshot) -> Iterator[Part]:
    """The parts that make a folder as it was `before` into what it is `now`, file by file."""
    yield from parts(directory, (name for name, state in now.items() if before.get(name) != state))
    yield from (Part(name) for name in before if name not in now)


def parts(directory: Path, names: Iterable[str]) -> Iterator[Part]:
    """The files `names` below `directory` in parts of at most 8 MiB."""
    for name in names:
        try:
            file = (directory / name).open("rb")
        except OSError:
            continue
        with file:
            offset, data = 0, file.read(_PART_BYTES)
            while True:
                following = file.read(_PART_BYTES) if len(data) == _PART_BYTES else b""
                yield Part(name, offset, data, is_last=not following)
                if not following:
                    break
                offset, data = offset + len(data), following


def write(directory: Path, part: Part) -> None:
    """Takes a part of a file, which appears under its name once it is complete."""
    path = directory / part.name
    if part.data is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    with draft.open("r+b" if part.offset else "wb") as file:
        file.seek(part.offset)
        file.write(part.data)
    if part.is_last:
        draft.replace(path)
