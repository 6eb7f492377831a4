"""What the scripts of this folder share: their options, measuring in turn, quartiles, and the file with the results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def parser(script: str, doc: str | None, **counts: int) -> argparse.ArgumentParser:
    """The options of a script: numbers with these defaults, and where the results go, a JSON beside it."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in counts.items():
        made.add_argument(f"--{name}", type=int, default=default)
    made.add_argument("--output", type=Path, default=Path(script).with_suffix(".json"))
    return made


def in_turn(rounds: int, ways: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """What each way gives in each round: A B A B, so that a machine that slows down slows all of them."""
    found: dict[str, list[T]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            found[name].append(run())
    return found


def quartiles(values: Sequence[float], digits: int) -> list[float]:
    """The first and the third."""
    return [round(q, digits) for q in statistics.quantiles(values, n=4)[::2]]


def write(path: Path, results: Mapping[str, Any]) -> None:
    """Writes the results with what they depend on; a key among the results counts for more."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    described = {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average": round(os.getloadavg()[0], 2),
        "commit": commit.stdout.strip(),
    }
    path.write_text(json.dumps({**described, **results}, indent=1) + "\n")
