"""Edits of a definition that have nothing to do with choices."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from lightning_nas.errors import ExportError
from lightning_nas.export.source import Snippet


def without_decorator(text: str, is_dropped: Callable[[ast.expr], bool]) -> str:
    """A definition without those decorators, called or not, of which `is_dropped` says so."""
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        for decorator in getattr(node, "decorator_list", []):
            function = decorator.func if isinstance(decorator, ast.Call) else decorator
            if is_dropped(function):
                for index in range(decorator.lineno - 1, decorator.end_lineno):
                    lines[index] = ""
    return "".join(lines)


def new_defaults(
    snippet: Snippet, replacements: Mapping[ast.AST, str], defaults: Mapping[str, str]
) -> dict[ast.AST, str]:
    """Replacements that give parameters of a class's constructor new defaults.

    Args:
        snippet: the class.
        replacements: those that are made anyway.
        defaults: source by parameter.

    Raises:
        ExportError: if the class inherits its constructor.
    """
    body = getattr(snippet.node, "body", [])
    constructor = next((n for n in body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if constructor is None:
        raise ExportError(
            f"The class at {snippet.place(snippet.node)} was given {sorted(defaults)} but inherits its "
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


def names_bound_inside(node: ast.AST) -> set[str]:
    """Every name that some scope inside a statement binds."""
    found: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and not isinstance(inner.ctx, ast.Load):
            found.add(inner.id)
        elif isinstance(inner, ast.arg):
            found.add(inner.arg)
    return found


def run_at_once(text: str) -> ast.AST:
    """The tree of a statement without what does not run with it: bodies of functions, and annotations."""
    tree: ast.AST = _Hollow().visit(ast.parse(text))
    return tree


class _Hollow(ast.NodeTransformer):
    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.body = [ast.Pass()]
        node.returns = None
        self.generic_visit(node.args)
        node.decorator_list = [self.visit(each) for each in node.decorator_list]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._visit_function(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self.generic_visit(node.args)
        node.body = ast.Constant(None)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)
