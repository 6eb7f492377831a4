"""A folder of annotated code: the space it searches, and a copy in which the annotations are code."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_nas.hpo.annotation import annotated
from lightning_nas.hpo.documents import ConfigError, Document
from lightning_nas.hpo.space_file import NNISpace, read_space

_DATA_ENTRIES = 200
_SIBLINGS = 1_000


def annotated_space(directory: Path) -> NNISpace:
    """What the annotations in a folder's Python files search.

    Raises:
        ConfigError: in one line with the file and the line, if one is wrong, or if there is none.
    """
    space: dict[str, Any] = {}
    for name, content in _entries(directory).items():
        if content is not None:
            found = annotated(content, _module(name), directory / name)
            space |= {} if found is None else found.space
    if not space:
        raise ConfigError(
            f"{directory}: no Python file has an annotation of something to search, such as "
            "'''@nni.variable(nni.choice(1, 2), name=x)''' on the line above x = 1."
        )
    return read_space(Document(space))


def annotated_copy(directory: Path, into: Path) -> Path:
    """The folder as a trial is to see it, with code in the place of annotations; made once for the same content.

    Python files are copied, those without annotations too, so that a script imports the copies. All else
    is a link: data take no room, and a script that writes to a file or folder that was there writes there.
    Relative paths hold within the code, and in the folder above it unless that has more than 1,000 entries.

    Linked as they are, and not looked into for annotations: links to folders, folders whose names begin with a
    dot, virtual environments, folders of experiments, and those of more than 200 entries without a Python file.

    Args:
        directory: the user's code, which is not changed.
        into: where the copy is made.

    Returns:
        The folder of the copy.

    Raises:
        ConfigError: if an annotation is wrong.
    """
    entries = _entries(directory)
    digest = hashlib.sha256(repr(entries).encode()).hexdigest()
    made = into / f"code-{digest[:16]}"
    if not made.exists():
        draft = into / f".{made.name}-{os.getpid()}"
        shutil.rmtree(draft, ignore_errors=True)
        _write(directory, draft / directory.name, entries)
        _link_siblings(directory, draft)
        try:
            draft.rename(made)
        except OSError:
            shutil.rmtree(draft)
            if not made.exists():  # no other trial was faster
                raise
    return made / directory.name


def _entries(folder: Path, prefix: str = "") -> dict[str, bytes | None]:
    """What is in a folder, by relative path: the content of a Python file, None for what is to be a link."""
    result: dict[str, bytes | None] = {}
    with os.scandir(folder) as scan:
        found = sorted(scan, key=lambda entry: entry.name)
    has_code = any(entry.name.endswith(".py") for entry in found)
    for entry in found:
        name = f"{prefix}{entry.name}"
        if entry.name == "__pycache__":
            continue
        if entry.is_dir(follow_symlinks=False):
            may_hold_code = has_code or len(found) <= _DATA_ENTRIES
            inner = _entries(Path(entry.path), f"{name}/") if may_hold_code and _is_code(entry) else {}
            result |= inner if any(content is not None for content in inner.values()) else {name: None}
        else:
            is_code = entry.name.endswith(".py") and entry.is_file()
            result[name] = Path(entry.path).read_bytes() if is_code else None
    return result


def _is_code(entry: os.DirEntry[str]) -> bool:
    """Whether a folder may hold code of the user's."""
    marks = (f"{entry.path}/pyvenv.cfg", f"{entry.path}/experiment.db")
    return (
        not entry.name.startswith(".")
        and os.access(entry.path, os.R_OK)
        and not any(map(os.path.exists, marks))
    )


def _module(name: str) -> str:
    return name.removesuffix(".py").replace("/", ".")


def _write(directory: Path, target: Path, entries: Mapping[str, bytes | None]) -> None:
    for name, content in entries.items():
        source, path = directory / name, target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.symlink_to(source)
        else:
            found = annotated(content, _module(name), source)
            path.write_bytes(content if found is None else found.data)
            shutil.copymode(source, path)


def _link_siblings(directory: Path, target: Path) -> None:
    """Links what lies beside the code, for scripts that read `../data`."""
    try:
        siblings = list(itertools.islice(directory.parent.iterdir(), _SIBLINGS + 1))
    except OSError:  # a folder that one may pass through, but not list
        return
    for path in siblings if len(siblings) <= _SIBLINGS else ():
        if path.name != directory.name:
            (target / path.name).symlink_to(path)
