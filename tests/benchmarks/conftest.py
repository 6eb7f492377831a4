"""Makes the scripts of `benchmarks/cifar10/` importable, which import each other by their bare names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "cifar10"
NAMES = ("cells", "data", "lit", "pictures", "search", "retrain", "export")


@pytest.fixture(scope="module")
def cifar() -> Iterator[SimpleNamespace]:
    """The scripts as modules, and `configs`, the folder of their settings."""
    sys.path.insert(0, str(FOLDER))
    try:
        modules = {name: importlib.import_module(name) for name in NAMES}
        yield SimpleNamespace(**modules, configs=FOLDER / "configs")
    finally:
        sys.path.remove(str(FOLDER))
        for name in NAMES:
            sys.modules.pop(name, None)
