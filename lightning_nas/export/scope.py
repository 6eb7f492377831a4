"""What the names in a definition stand for, and where they come from."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any, Literal

from lightning_nas.errors import ExportError
from lightning_nas.export.bindings import FUNCTIONS, bindings, free_names, parameters
from lightning_nas.export.source import SourceFile, functions_of, locate, unwrapped
from lightning_nas.mutables import model_wrapper

OURS = "lightning_nas"

MISSING: Any = object()
"""Stands for the value of a name that stands for nothing known."""


@dataclass(frozen=True)
class Import:
    """An import statement that binds one name: `import module` or `from module import name`."""

    module: str
    name: str | None
    bound: str

    @property
    def text(self) -> str:
        """The statement."""
        if self.name is not None:
            return f"from {self.module} import {self.name}" + self._alias(self.name)
        return f"import {self.module}" + self._alias(self.module, self.module.partition(".")[0])

    def _alias(self, *names: str) -> str:
        return "" if self.bound in names else f" as {self.bound}"

    def value(self) -> Any:
        """What the name stands for, `MISSING` if the module is not loaded or lacks it."""
        if self.name is None:
            root = self.module.partition(".")[0]
            return sys.modules.get(root if self.bound == root else self.module, MISSING)
        owner = sys.modules.get(self.module)
        if owner is None and is_portable(self.module):
            owner = importlib.import_module(self.module)
        found = getattr(owner, self.name, MISSING)
        return sys.modules.get(f"{self.module}.{self.name}", MISSING) if found is MISSING else found


class Scope:
    """The names around a definition, or those of a module.

    Args:
        file: where its source stands; None if that is not at hand.
        names: the global names.
        cells: what its functions took from the functions around it.
        around: those functions, outermost first.
    """

    def __init__(
        self,
        file: SourceFile | None,
        names: Mapping[str, Any],
        cells: Mapping[str, Any] | None = None,
        around: Sequence[ast.FunctionDef | ast.AsyncFunctionDef] = (),
    ) -> None:
        self.file = file
        self.names = names
        self.cells = cells or {}
        self._local: dict[str, list[ast.stmt]] = {}
        self._parameters: set[str] = set()
        for function in around:
            self._parameters -= set(bound := bindings(function.body))
            self._local |= bound
            self._parameters |= {each.arg for each in parameters(function.args)}

    @classmethod
    def of(cls, definition: Any) -> Scope:
        """The names around a class or function, or in a module."""
        if isinstance(definition, ModuleType):
            return cls(SourceFile.read(getattr(definition, "__file__", None)), vars(definition))
        located = locate(definition)
        functions = functions_of(definition) if isinstance(definition, type) else [unwrapped(definition)]
        module = sys.modules.get(definition.__module__)
        # A class that another process pickled has its names with it; its module may be another one here.
        names = functions[0].__globals__ if functions else vars(module) if module else {}
        cells: dict[str, Any] = {}
        if isinstance(definition, type):
            local = (base for base in definition.__bases__ if "<locals>" in base.__qualname__)
            cells |= {base.__name__: base for base in local}
        for function in functions:
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
                if name != "__class__" and _is_filled(cell):
                    cells[name] = cell.cell_contents
        file, around = (None, []) if located is None else (located[0], located[0].around(located[1]))
        return cls(file, names, cells, [node for node in around if isinstance(node, FUNCTIONS)])

    def value(self, name: str) -> Any:
        """What a free name of the definition stands for, or `MISSING`."""
        if name in self.cells:
            return self.cells[name]
        if name in self._local or name in self._parameters or name not in self.names:
            # A class that was pickled has only those names with it that its functions use.
            statement = self.import_of(name)
            return MISSING if statement is None else statement.value()
        return self.names[name]

    def is_model_wrapper(self, node: ast.AST) -> bool:
        """Whether a dotted name outside all functions stands for `model_wrapper`."""
        return self._value_of(node) is model_wrapper

    def _value_of(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Name):
            return self.value(node.id)
        if isinstance(node, ast.Attribute):
            return getattr(self._value_of(node.value), node.attr, MISSING)
        return MISSING

    def origin(self, name: str) -> Literal["local", "parameter", "global"]:
        """Whether a name is bound by the functions around, as a parameter or otherwise, or globally."""
        if name in self._parameters:
            return "parameter"
        return "local" if name in self._local or name in self.cells else "global"

    def statements(self, name: str) -> list[ast.stmt]:
        """The statements that bind `name` where it comes from, in order."""
        if self.origin(name) == "global":
            return self.file.globals.get(name, []) if self.file is not None else []
        return self._local.get(name, [])

    def import_of(self, name: str) -> Import | None:
        """The statement that imports `name`, the last one if there are several."""
        for node in reversed(self.statements(name)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if (alias.asname or alias.name.partition(".")[0]) == name:
                        return Import(alias.name, None, name)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return Import(self._absolute(node), alias.name, name)
        return None

    def portable_import_of(self, name: str) -> Import | None:
        """The same, if it imports from torch or the standard library."""
        statement = self.import_of(name)
        return statement if statement is not None and is_portable(statement.module) else None

    def is_alias(self, name: str) -> bool:
        """Whether `name` is assigned something made of imported names alone, as names for types are."""
        used = [node.id for each in self.assignments(name) for node in free_names(each) if node.id != name]
        return bool(used) and all(
            hasattr(builtins, n) or self.portable_import_of(n) is not None for n in used
        )

    def star_imports(self) -> list[ModuleType]:
        """The modules of which every name is imported, the last one first."""
        if self.file is None:
            return []
        stars = [
            self._absolute(node)
            for node in self.file.globals.get("*", [])
            if isinstance(node, ast.ImportFrom)
        ]
        return [sys.modules[module] for module in reversed(stars) if module in sys.modules]

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = str(self.names.get("__package__") or "").split(".")
        return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])

    def assignments(self, name: str) -> list[ast.stmt]:
        """The plain statements that make the value of a name: its assignments, and what changes it in place.

        Empty if it is bound in any other way, or inside a compound statement.
        """
        bound = self.statements(name)
        if not bound or any(not _assigns(node, name) for node in bound) or self.file is None:
            return []
        owner = self.file.parents[bound[0]]
        body: list[ast.stmt] = getattr(owner, "body", [])
        if any(node not in body for node in bound):
            return []
        return [node for node in body if node in bound or _changes(node, name)]


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:  # the name is bound later, or was deleted
        return False
    return True


def _assigns(node: ast.stmt, name: str) -> bool:
    """Whether a statement is `name = ...` and nothing else."""
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) for target in node.targets)
    return isinstance(node, (ast.AnnAssign, ast.AugAssign)) and isinstance(node.target, ast.Name)


def _changes(node: ast.stmt, name: str) -> bool:
    """Whether a statement is `name[...] = ...`, `name.x = ...` or `name.method(...)`."""
    if isinstance(node, ast.Assign):
        parts: list[ast.AST] = [
            t.value for t in node.targets if isinstance(t, (ast.Subscript, ast.Attribute))
        ]
    elif isinstance(node, ast.AugAssign) and isinstance(node.target, (ast.Subscript, ast.Attribute)):
        parts = [node.target.value]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        parts = [node.value.func.value] if isinstance(node.value.func, ast.Attribute) else []
    else:
        return False
    return any(isinstance(part, ast.Name) and part.id == name for part in parts)


def is_portable(module: str | None) -> bool:
    """Whether a file may import `module`: torch or the standard library."""
    root = (module or "").partition(".")[0]
    return root == "torch" or root in sys.stdlib_module_names or root == "builtins"


def is_foreign(thing: Any) -> bool:
    """Whether a module, class or function was installed, and is neither ours nor portable."""
    module = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    if not isinstance(module, str) or is_portable(module) or module.partition(".")[0] == OURS:
        return False
    # The code says more than the module: `__main__` may be another one than where a class was pickled.
    located = locate(thing) if is_definition(thing) else None
    root = sys.modules.get(module.partition(".")[0])
    path = located[0].path if located else getattr(sys.modules.get(module), "__file__", None)
    path = path or (list(getattr(root, "__path__", [])) or [""])[0]
    return module != "__main__" and ("site-packages" in path or "dist-packages" in path)


def is_definition(value: Any) -> bool:
    """Whether a value is a class or function made by a statement of its own."""
    function = unwrapped(value)
    return isinstance(function, (type, FunctionType)) and str(function.__name__).isidentifier()


def public_import(value: Any, bound: str) -> Import | None:
    """How a file imports something of torch or the standard library; None if it is neither."""
    if isinstance(value, ModuleType):
        if not is_portable(value.__name__):
            return None
        package, _, last = value.__name__.rpartition(".")
        return Import(package, last, bound) if package else Import(last, None, bound)
    name = getattr(value, "__name__", None)
    module = getattr(value, "__module__", None)
    if not isinstance(name, str) or not (inspect.isroutine(value) or isinstance(value, type)):
        return None
    for place in ("torch", "torch.nn", "torch.nn.functional", module):
        if is_portable(place) and getattr(sys.modules.get(str(place)), name, None) is value:
            return Import(str(place), name, bound)
    return None


def undefined(name: str, user: str) -> ExportError:
    """The error for a name whose value depends on a call that has ended."""
    return ExportError(
        f"{user} uses {name!r}, which belongs to the function around it and cannot be written into a file; make it "
        "an argument of the class, or a constant of the module."
    )
