"""Writes the model of a sample as one readable file that imports only torch."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx

from lightning_nas.errors import ExportError
from lightning_nas.export.closure import Closure
from lightning_nas.export.folding import ARCHITECTURE, Folder
from lightning_nas.export.graph_code import graph_source
from lightning_nas.mutables import Blueprint

_WIDTH = 100


def source_of(blueprint: Blueprint, sample: Mapping[str, Any]) -> str:
    """The source of a file whose class, called without arguments, is the model of `sample`.

    The user's own classes are kept as they were written, with the chosen values in place of the
    choices; submodules keep their names, so a `state_dict` of the built model loads unchanged. What a
    `Mutator` edited has no source of the user's: its graph is written out operation by operation.

    Raises:
        SampleError: if `sample` does not fit the space.
        ExportError: if something cannot be written; the message names it.
    """
    model, events = blueprint.record(sample)
    if isinstance(model, fx.GraphModule):
        return _header(blueprint.cls.__name__, sample) + graph_source(model, blueprint.cls.__name__)
    folder = Folder(events)
    closure = Closure(folder)
    closure.add(blueprint.cls, _defaults(blueprint))
    parts = [_header(blueprint.cls.__name__, sample) + _imports(closure.imports)]
    if folder.architecture:
        parts.append(f"{ARCHITECTURE} = {_pretty(folder.architecture)}")
    return _joined([*parts, *closure.definitions]) + "\n"


def _joined(parts: Sequence[str]) -> str:
    """Two empty lines around classes and functions, one between all else."""
    text = parts[0]
    for before, part in itertools.pairwise(parts):
        text += ("\n\n\n" if _is_definition(before) or _is_definition(part) else "\n\n") + part
    return text


def _is_definition(part: str) -> bool:
    return any(line.startswith(("class ", "def ", "async def ", "@")) for line in part.splitlines())


def _defaults(blueprint: Blueprint) -> dict[str, Any]:
    """What the constructor was given, by parameter."""
    constructor = inspect.unwrap(blueprint.cls.__init__)
    bound = inspect.signature(constructor).bind(None, *blueprint.args, **blueprint.kwargs)
    name = blueprint.cls.__name__
    defaults = {}
    for parameter, value in list(bound.arguments.items())[1:]:
        kind = bound.signature.parameters[parameter].kind
        if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise ExportError(
                f"{name} was given *{parameter}, which cannot become a default; name its parameters."
            )
        defaults[parameter] = value
    return defaults


def _header(name: str, sample: Mapping[str, Any]) -> str:
    text = repr(dict(sample))
    return (
        f'"""{name}, as lightning-nas found it. Needs torch alone.\n\n'
        f"    net = {name}()\n"
        '    net.load_state_dict(torch.load("weights.pt"))\n\n'
        f"The sample is {text if len(text) < _WIDTH else 'in sample.json'}.\n"
        '"""\n\n'
        "from __future__ import annotations\n"
    )


def _imports(statements: set[str]) -> str:
    """Import statements in the usual order: the standard library, then torch; modules, then names."""
    modules = {s for s in statements if s.startswith("import ")}
    names: dict[str, set[str]] = {}
    for statement in statements - modules:
        _, module, _, bound = statement.split(maxsplit=3)
        if module != "__future__":
            names.setdefault(module, set()).add(bound)
    lines = [
        *sorted(modules),
        *(f"from {m} import {', '.join(sorted(bound))}" for m, bound in sorted(names.items())),
    ]
    groups: dict[bool, list[str]] = {True: [], False: []}
    for line in lines:
        groups[line.split()[1].split(".")[0] in sys.stdlib_module_names].append(line)
    return "\n" + "\n\n".join("\n".join(group) for group in groups.values() if group)


def _pretty(value: Any, indent: int = 0) -> str:
    """A literal as a person lays it out: on one line where it fits, else an item a line."""
    text = repr(value)
    if '"' not in text and "\\" not in text:
        text = text.replace("'", '"')
    if indent + len(text) <= _WIDTH and not (indent == 0 and isinstance(value, dict)):
        return text
    inner = " " * (indent + 4)
    if isinstance(value, dict):
        rows = [f"{inner}{_pretty(key)}: {_pretty(item, indent + 4)}," for key, item in value.items()]
        return "\n".join(["{", *rows, " " * indent + "}"])
    if isinstance(value, list):
        return "\n".join(
            ["[", *(f"{inner}{_pretty(item, indent + 4)}," for item in value), " " * indent + "]"]
        )
    return text
