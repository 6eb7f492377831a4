"""What users name by text: a class or function of theirs in a module or in a file."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any


def load(place: str, folder: str | Path | None = None) -> Any:
    """What stands at `module:name` or `file.py:name`, where the name may have dots; runs the module's code.

    Args:
        place: the text. A file's folder is put on `sys.path`, so that it finds its neighbours.
        folder: put on `sys.path` for a module.

    Raises:
        ImportError: if there is no such module.
        OSError: if there is no such file.
        AttributeError: if the module has no such name.
        Exception: what its code raises.

    >>> load("pathlib:Path.cwd") == Path.cwd
    True
    """
    source, _, name = place.rpartition(":")
    if source.endswith(".py"):
        module = _module_of_file(Path(source).absolute())
    else:
        if folder is not None:
            _put_on_path(folder)
        module = importlib.import_module(source)
    return functools.reduce(getattr, name.split("."), module)


def _module_of_file(path: Path) -> Any:
    _put_on_path(path.parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # the code of its classes is looked up there
    spec.loader.exec_module(module)
    return module


def _put_on_path(folder: str | Path) -> None:
    entry = os.fspath(folder)
    if entry not in sys.path:
        sys.path.insert(0, entry)
