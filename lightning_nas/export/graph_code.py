"""Writes a model that mutators edited: its modules one by one, its forward pass as torch.fx has it."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

from torch import fx, nn

from lightning_nas.errors import ExportError
from lightning_nas.export.values import is_literal, literal


def graph_source(model: fx.GraphModule, name: str) -> str:
    """The imports and the class of an edited model.

    Args:
        model: the edited model.
        name: of the class.

    Raises:
        ExportError: if a module in it is not torch's own, or a tensor belongs to no such module.
    """
    leaves = {str(node.target) for node in model.graph.nodes if node.op == "call_module"}

    def is_inside(path: str) -> bool:
        return any(path.startswith(f"{leaf}.") for leaf in leaves)

    for path, _ in [*model.named_parameters(), *model.named_buffers()]:
        if not is_inside(path):
            raise ExportError(
                f"The tensor {path!r} of {name} is not held by a module of torch.nn, so an edited model cannot be "
                "written with it; put it in a module."
            )
    body = [
        _assigned(path, _constructor(path, module) if path in leaves else "nn.Module()")
        for path, module in model.named_modules(remove_duplicate=False)
        if path and not is_inside(path)
    ]
    code = model.graph.python_code("self")
    roots = {_root(value) for value in code.globals.values()} - {"builtins", ""}
    imports = sorted(f"import {root}" for root in {*roots, "torch"})
    constructor = "\n".join(
        ["def __init__(self) -> None:", *(f"    {line}" for line in ["super().__init__()", *body])]
    )
    parts = [
        *("", *imports, "from torch import nn", "", ""),
        f"class {name}(nn.Module):",
        textwrap.indent(constructor, "    "),
        "",
        textwrap.indent(_tidied(code.src), "    "),
        "",
    ]
    return "\n".join(parts)


def _assigned(path: str, made: str) -> str:
    """The statement that puts a module at `path`; children of a Sequential have numbers for names."""
    if all(part.isidentifier() for part in path.split(".")):
        return f"self.{path} = {made}"
    owner, _, name = path.rpartition(".")
    holder = f'self.get_submodule("{owner}")' if owner else "self"
    return f'{holder}.add_module("{name}", {made})'


def _tidied(source: str) -> str:
    """What torch.fx wrote, without its notes on when a value is no longer needed."""
    source = (
        source.strip()
        .replace(" : _torch_Tensor_", ": torch.Tensor")
        .replace("_torch_Tensor_", "torch.Tensor")
    )
    return re.sub(r";  (\w+ = )+None$", "", source, flags=re.MULTILINE)


def _root(value: Any) -> str:
    module = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
    return str(module or "").split(".")[0]


def _constructor(path: str, module: nn.Module) -> str:
    """The call that makes a module of torch.nn, found from what it keeps of its arguments."""
    kind = type(module)
    if not kind.__module__.startswith("torch.nn"):
        raise ExportError(
            f"The module {path!r} is a {kind.__name__}, which torch.fx keeps whole; an edited model can be written "
            "only with modules of torch.nn."
        )
    arguments = []
    for name, parameter in inspect.signature(kind).parameters.items():
        if name in ("device", "dtype") or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        value = getattr(module, name, parameter.default)
        if name == "bias" and not isinstance(value, bool):
            value = value is not None
        if value is not parameter.empty and value != parameter.default:
            if not is_literal(value):
                raise ExportError(
                    f"The argument {name!r} of the module {path!r} is of type {type(value).__name__}, which cannot be "
                    "written as source."
                )
            arguments.append(f"{name}={literal(value)}")
    return f"nn.{kind.__name__}({', '.join(arguments)})"
