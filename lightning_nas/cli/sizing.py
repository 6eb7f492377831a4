"""The command `profile`: what the networks of a model space take, before any is trained."""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
from typing import TYPE_CHECKING

from lightning_nas.cli.options import Commands, count
from lightning_nas.errors import NASError, SpaceError
from lightning_nas.loading import load

if TYPE_CHECKING:
    from lightning_nas.mutables import Blueprint

_MEASURES = {
    "params_m": "parameters, millions",
    "macs_m": "multiply-accumulates, millions",
    "activation_mb": "kept for the backward pass, MB",
}


def add(commands: Commands) -> None:
    """Adds the command."""
    profile = commands.add(
        "profile", _profile, "Show how large the networks of a model space are: least, median and most."
    )
    profile.add_argument(
        "space",
        metavar="SPACE",
        help="file.py:Net or module:Net; a model space, or a class or function that makes one without arguments",
    )
    profile.add_argument(
        "--input",
        type=_shape,
        action="append",
        default=[],
        metavar="C,H,W",
        help="shape of one example, once for each tensor that forward takes; for operations and memory",
    )
    profile.add_argument(
        "--samples",
        type=count(1),
        default=100,
        metavar="N",
        help="networks drawn at random (default: %(default)s)",
    )
    profile.add_argument("--seed", type=count(0), default=0, metavar="N", help="(default: %(default)s)")
    profile.epilog = "The measures are those of `constraints` of an Experiment. This runs the code of SPACE."


def _profile(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import track

    from lightning_nas.cli.reading import console, table
    from lightning_nas.evaluators.cost import costs_of_space

    model = _load(options.space)
    size = model.space.size
    total = min(size, options.samples)
    drawn = costs_of_space(model, options.input, options.samples, options.seed)
    try:
        shown = track(drawn, "Building", total, console=Console(stderr=True), transient=True)
        costs = list(shown if sys.stderr.isatty() else drawn)
    except (RuntimeError, ValueError, TypeError) as error:
        shapes = " and ".join(map(str, options.input)) or "none"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SpaceError(f"{options.space} does not run on inputs of shape {shapes}: {reason}") from error
    which = f"all {total} networks" if size == total else f"{total} of {_number(size)} networks"
    print(f"{options.space}: {which}, {len(model.space)} label{'s' * (len(model.space) != 1)}")
    rows = []
    for measure, words in _MEASURES.items():
        values = [getattr(cost, measure) for cost in costs]
        if values[0] is not None:
            numbers = (f"{of(values):.4g}" for of in (min, statistics.median, max))
            rows.append([measure, *numbers, words])
    columns = {"": "left", "least": "right", "median": "right", "most": "right", " ": "left"}
    console().print(table(columns, rows))
    if not options.input:
        print("With --input, such as --input 3,32,32, operations and memory are shown too.")


def _number(size: float) -> str:
    return f"{size:,}" if size < 1e12 else f"{size:.3g}"


def _shape(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        raise argparse.ArgumentTypeError(f"it must be a shape such as 3,32,32, but is {text!r}")
    return tuple(map(int, text.split(",")))


def _load(place: str) -> Blueprint:
    """The model space at `file.py:Net` or `module:Net`.

    Raises:
        SpaceError: if there is none.
    """
    from lightning_nas.mutables import blueprint

    if ":" not in place.strip(":"):
        raise SpaceError(f"SPACE must be file.py:NAME or module:NAME, but is {place!r}.")
    try:
        found = load(place, os.getcwd())
        is_maker = isinstance(found, type) or (callable(found) and not hasattr(found, "forward"))
        return blueprint(found() if is_maker else found)
    except (NASError, ImportError, AttributeError, TypeError, OSError) as error:
        reason = str(error).rstrip(".")
        raise SpaceError(f"There is no model space at {place}: {reason}.") from error
