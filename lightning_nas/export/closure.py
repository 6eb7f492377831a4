"""Collects all source that a class needs, so that one file can hold it.

What torch and the standard library define is imported as the user's own source imports it; everything
else a name stands for is written out: classes, functions and the assignments of constants.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import symtable
import sys
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any

import lightning_nas.nn
from lightning_nas.errors import ExportError
from lightning_nas.export.folding import ARCHITECTURE, Folder
from lightning_nas.export.source import Snippet
from lightning_nas.mutables import model_wrapper

_OURS = "lightning_nas"


class Closure:
    """The imports and definitions that a class needs, choices folded in.

    Args:
        folder: folds the choices.
    """

    def __init__(self, folder: Folder) -> None:
        self.imports: set[str] = set()
        self.definitions: list[str] = []
        self._folder = folder
        self._names: dict[str, Any] = {}

    def add(self, definition: Any, defaults: Mapping[str, str] | None = None) -> None:
        """Adds a class or function and, before it, all that it needs.

        Args:
            definition: the class or function.
            defaults: new defaults of a class's constructor, as source.

        Raises:
            ExportError: if something it needs cannot be written into a file; the message names it.
        """
        name = definition.__name__
        if self._is_known(name, definition):
            return
        scope = _Scope(definition)
        snippet = Snippet.of(definition)
        replacements = self._folder.fold(snippet, scope.resolve, lambda node: self._renamed(node, scope))
        if defaults:
            replacements |= _with_defaults(snippet, replacements, defaults)
        text = _without_wrapper(snippet.edited(replacements), scope)
        self._add_needed(text, scope, f"{name} ({snippet.place(snippet.tree.body[0])})")
        self.definitions.append(text.strip("\n"))

    def _is_known(self, name: str, thing: Any) -> bool:
        if name in self._names and self._names[name] is not thing:
            raise ExportError(
                f"Two different things are called {name!r} in the source of this model, and one file cannot hold both; "
                "rename one of them."
            )
        known = name in self._names
        self._names[name] = thing
        return known

    def _add_needed(self, text: str, scope: _Scope, user: str) -> None:
        needed, only_hinted = _free_names(text)
        for name in sorted(needed):
            self._add_name(name, scope, user)
        for name in sorted(only_hinted - needed):
            statement = scope.import_of(name)
            if statement is not None and _is_portable(statement.module):
                self.imports.add(statement.text)

    def _add_name(self, name: str, scope: _Scope, user: str) -> None:
        if name in self._folder.needed:
            thing = self._folder.needed[name]
            if thing.__module__.split(".")[0] == _OURS:
                self.add(thing)
            else:
                self.imports.add(f"from torch.nn import {name}")
            return
        if name == ARCHITECTURE or not scope.has(name):
            return
        value = scope.names[name]
        if isinstance(value, ModuleType):
            self._add_module(name, value, scope, user)
        elif (
            isinstance(value, (type, FunctionType))
            and not _is_portable(value.__module__)
            and _is_defined(value)
        ):
            self._reject_foreign(value.__module__, f"{value.__module__}.{value.__qualname__}", user)
            self.add(value)
            if name != value.__name__ and not self._is_known(name, value):
                self.definitions.append(f"{name} = {value.__name__}")
        else:
            self._add_constant_or_import(name, value, scope, user)

    def _add_module(self, name: str, module: ModuleType, scope: _Scope, user: str) -> None:
        if module is lightning_nas.nn:
            self.imports.add("from torch import nn" if name == "nn" else f"import torch.nn as {name}")
        elif _is_portable(module.__name__):
            statement = scope.import_of(name)
            dotted = f"import {module.__name__}" + ("" if module.__name__ == name else f" as {name}")
            self.imports.add(dotted if statement is None else statement.text)
        elif _is_foreign(module.__name__):
            self._reject_foreign(module.__name__, module.__name__, user)

    def _add_constant_or_import(self, name: str, value: Any, scope: _Scope, user: str) -> None:
        statement = scope.import_of(name)
        if statement is not None and _is_portable(statement.module):
            self.imports.add(statement.text)
            return
        if self._is_known(name, value):
            return
        origin = scope
        while statement is not None:
            self._reject_foreign(statement.module, f"{statement.module}.{statement.name}", user)
            origin = _Scope(sys.modules[statement.module])
            if statement.name != name:
                self._add_constant_or_import(statement.name, value, origin, user)
                self.definitions.append(f"{name} = {statement.name}")
                return
            statement = origin.import_of(name)
        text = origin.assignment_of(name)
        if text is None:
            text = f"{name} = {literal(value, f'{name!r}, which {user} uses,')}"
        self._add_needed(text, origin, user)
        self.definitions.append(text)

    def _renamed(self, node: ast.Attribute, scope: _Scope) -> str | None:
        """The bare name of what a dotted name finds in a module that the file will not import."""
        module = scope.resolve(node.value)
        if not isinstance(module, ModuleType) or _is_portable(module.__name__):
            return None
        value = getattr(module, node.attr, None)
        if not isinstance(value, (type, FunctionType)) or _is_portable(value.__module__):
            return None
        self._reject_foreign(value.__module__, f"{module.__name__}.{node.attr}", ast.unparse(node))
        self._folder.needed.setdefault(value.__name__, value)
        if self._folder.needed[value.__name__] is not value:
            self._is_known(value.__name__, value)
        self.add(value)
        return value.__name__

    def _reject_foreign(self, module: str, name: str, user: str) -> None:
        if _is_foreign(module):
            raise ExportError(
                f"{user} uses {name}, which is neither torch nor the standard library, so the file could not stand "
                "on its own; copy what is used of it into your own source."
            )


class _Import:
    """An import statement of the user's source that binds one name."""

    def __init__(self, module: str, name: str | None, bound: str) -> None:
        self.module = module
        self.name = name or ""
        alias = (
            "" if bound in (name, module, module.split(".")[0] if name is None else None) else f" as {bound}"
        )
        self.text = f"import {module}{alias}" if name is None else f"from {module} import {name}{alias}"


class _Scope:
    """What the names in a definition stand for."""

    def __init__(self, definition: Any) -> None:
        is_module = isinstance(definition, ModuleType)
        module = definition if is_module else sys.modules.get(definition.__module__)
        self.names: dict[str, Any] = dict(vars(module)) if module is not None else {}
        if not is_module:
            self.names |= _closure_names(definition)
        self._tree = _tree_of(module)

    def has(self, name: str) -> bool:
        return name in self.names

    def resolve(self, node: ast.AST) -> Any:
        """What a name or dotted name stands for; None if unknown."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.resolve(node.value)
            return None if owner is None else getattr(owner, node.attr, None)
        return None

    def import_of(self, name: str) -> _Import | None:
        """The statement that imports `name`, if there is one at the top of the module."""
        for node in ast.walk(self._tree[0]):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if (alias.asname or alias.name.split(".")[0]) == name:
                        return _Import(alias.name, None, name)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return _Import(self._absolute(node), alias.name, name)
        return None

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = str(self.names.get("__package__") or "").split(".")
        return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])

    def assignment_of(self, name: str) -> str | None:
        """The source of the assignment of a constant at the top of the module."""
        tree, text = self._tree
        for node in reversed(tree.body):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and any(
                isinstance(target, ast.Name) and target.id == name for target in targets
            ):
                return ast.get_source_segment(text, node)
        return None


def literal(value: Any, what: str) -> str:
    """`value` as source.

    Raises:
        ExportError: if it is no literal; `what` names it in the message.
    """
    text = repr(value)
    try:
        if ast.literal_eval(text) == value:
            return text
    except (ValueError, SyntaxError):
        pass
    raise ExportError(
        f"{what} is of type {type(value).__name__}, which cannot be written as source; make it a number, a string, or "
        "a list, tuple or dict of these."
    )


def _closure_names(definition: Any) -> dict[str, Any]:
    """What the functions of a definition took from the functions around it, and its bases by name."""
    names: dict[str, Any] = {}
    functions = [definition]
    if isinstance(definition, type):
        names |= {base.__name__: base for base in definition.__bases__ if "<locals>" in base.__qualname__}
        functions = [getattr(member, "__func__", member) for member in vars(definition).values()]
    for function in functions:
        unwrapped = inspect.unwrap(function) if callable(function) else function
        if isinstance(unwrapped, FunctionType):
            for name, cell in zip(unwrapped.__code__.co_freevars, unwrapped.__closure__ or ()):
                if name != "__class__":
                    names[name] = cell.cell_contents
    return names


def _tree_of(module: ModuleType | None) -> tuple[ast.Module, str]:
    try:
        text = inspect.getsource(module) if module is not None else ""
    except (OSError, TypeError):  # a notebook, or an interpreter
        text = ""
    return ast.parse(text), text


def _is_portable(module: str | None) -> bool:
    """Whether a file may import `module`: torch or the standard library."""
    root = (module or "").split(".")[0]
    return root == "torch" or root in sys.stdlib_module_names or root == "builtins"


def _is_foreign(module: str) -> bool:
    """Whether `module` was installed, and is neither ours nor portable."""
    root = module.split(".")[0]
    if root == _OURS or _is_portable(module):
        return False
    file = str(getattr(sys.modules.get(module), "__file__", None))
    return "site-packages" in file or "dist-packages" in file


def _is_defined(value: Any) -> bool:
    """Whether a class or function has a definition by `class` or `def` under its own name."""
    return str(value.__name__).isidentifier()


def _without_wrapper(text: str, scope: _Scope) -> str:
    """`text` without the decorator `model_wrapper`."""
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        for decorator in getattr(node, "decorator_list", []):
            function = decorator.func if isinstance(decorator, ast.Call) else decorator
            if scope.resolve(function) is model_wrapper:
                for index in range(decorator.lineno - 1, decorator.end_lineno):
                    lines[index] = ""
    return "".join(lines)


def _with_defaults(
    snippet: Snippet, replacements: Mapping[ast.AST, str], defaults: Mapping[str, str]
) -> dict[ast.AST, str]:
    """Replacements that give parameters of the class's constructor new defaults."""
    body = getattr(snippet.tree.body[0], "body", [])
    constructor = next((n for n in body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if constructor is None:
        raise ExportError(
            f"The class at {snippet.place(snippet.tree.body[0])} was given {sorted(defaults)} but inherits its "
            "constructor; write one that holds these values."
        )
    spec = constructor.args
    positional = [*spec.posonlyargs, *spec.args]
    given: list[tuple[ast.arg, ast.expr | None]] = [
        *zip(positional, [*[None] * (len(positional) - len(spec.defaults)), *spec.defaults]),
        *zip(spec.kwonlyargs, spec.kw_defaults),
    ]
    found: dict[ast.AST, str] = {}
    for parameter, default in given:
        if parameter.arg in defaults:
            value = defaults[parameter.arg]
            if default is not None:
                found[default] = value
            else:
                text = snippet.segment(parameter, replacements)
                found[parameter] = f"{text} = {value}" if parameter.annotation else f"{text}={value}"
    return found


def _free_names(text: str) -> tuple[set[str], set[str]]:
    """The names that `text` takes from outside, and those that only its annotations mention."""
    tree = ast.parse(text)
    hints: set[str] = set()

    class Strip(ast.NodeTransformer):
        def _note(self, annotation: ast.expr | None) -> None:
            if annotation is not None:
                hints.update(n.id for n in ast.walk(annotation) if isinstance(n, ast.Name))

        def visit_arg(self, node: ast.arg) -> ast.arg:
            self._note(node.annotation)
            return ast.copy_location(ast.arg(node.arg), node)

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            self._note(node.returns)
            node.returns = None
            return self.generic_visit(node)

        def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
            self._note(node.annotation)
            self.generic_visit(node)
            value = node.value if node.value is not None else ast.Constant(None)
            return ast.copy_location(ast.Assign([node.target], value), node)

    stripped = ast.unparse(ast.fix_missing_locations(Strip().visit(tree)))
    needed: set[str] = set()

    def walk(table: symtable.SymbolTable) -> None:
        is_top = table.get_type() == "module"
        for symbol in table.get_symbols():
            outside = not symbol.is_assigned() if is_top else symbol.is_global()
            if symbol.is_referenced() and outside:
                needed.add(symbol.get_name())
        for child in table.get_children():
            walk(child)

    walk(symtable.symtable(stripped, "<source>", "exec"))
    own = {getattr(node, "name", None) for node in tree.body}
    return needed - own - set(dir(builtins)), hints - own - set(dir(builtins))
