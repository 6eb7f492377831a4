"""Which names in a piece of source are free: bound neither in it nor around it, but where it stands.

Python's own rules: a name bound anywhere in a function is local to all of it; names of a class body
are seen there only, not in its methods; a comprehension has a scope of its own, except for its first
iterable.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Literal

Use = Literal["code", "annotation"]

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def free_names(node: ast.AST) -> dict[ast.Name, Use]:
    """The names in `node` that it takes from where it stands, and whether only an annotation uses them.

    `node` is a statement, an expression or a whole module; what it binds itself at its outer level
    counts as free.
    """
    found: dict[ast.Name, Use] = {}
    _Visitor(found).visit(node)
    return found


def bindings(statements: Iterable[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """The statements that bind each name in this scope, in their order; not those in nested scopes.

    Bodies of `if`, `try`, `for`, `while`, `with` and `match` belong to the scope around them.
    """
    result: dict[str, list[ast.stmt]] = {}
    for statement in statements:
        for name in _bound_by(statement):
            result.setdefault(name, []).append(statement)
        for name, inner in bindings(_inner_statements(statement)).items():
            result.setdefault(name, []).extend(inner)
    return result


def parameters(arguments: ast.arguments) -> list[ast.arg]:
    """Every parameter, in the order of the signature."""
    named = [*arguments.posonlyargs, *arguments.args]
    return [
        *named,
        *([arguments.vararg] if arguments.vararg else []),
        *arguments.kwonlyargs,
        *([arguments.kwarg] if arguments.kwarg else []),
    ]


def _inner_statements(statement: ast.stmt) -> Iterator[ast.stmt]:
    """The statements directly inside a compound statement that opens no scope."""
    if isinstance(statement, DEFINITIONS):
        return
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.stmt):
            yield child
        elif isinstance(child, (ast.ExceptHandler, ast.match_case)):
            yield from child.body


def _bound_by(statement: ast.stmt) -> Iterator[str]:
    """The names that one statement binds, without the statements inside it."""
    if isinstance(statement, DEFINITIONS):
        yield statement.name
        return
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0]
        return
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.ExceptHandler):
            if child.name:
                yield child.name
        elif isinstance(child, ast.match_case):
            yield from _stored_in(child.pattern)
        elif not isinstance(child, ast.stmt):
            yield from _stored_in(child)


def _stored_in(node: ast.AST) -> Iterator[str]:
    """The names that evaluating `node` binds in the scope around it."""
    if isinstance(node, ast.Name):
        if not isinstance(node.ctx, ast.Load):
            yield node.id
    elif isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, _COMPREHENSIONS):
        # Only an assignment expression leaves a comprehension.
        for inner in ast.walk(node):
            if isinstance(inner, ast.NamedExpr):
                yield inner.target.id
        return
    for child in ast.iter_child_nodes(node):
        yield from _stored_in(child)


class _Visitor(ast.NodeVisitor):
    """Walks scopes from outside in; `_scopes` holds what each binds, and whether it is a class body."""

    def __init__(self, found: dict[ast.Name, Use]) -> None:
        self._found = found
        self._scopes: list[tuple[set[str], bool]] = []
        self._use: Use = "code"

    def visit_Name(self, node: ast.Name) -> None:
        *outer, inner = self._scopes or [(set(), False)]
        is_bound = node.id in inner[0] or any(node.id in names for names, is_class in outer if not is_class)
        if not is_bound:
            self._found[node] = self._use

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all(node.decorator_list)
        self._visit_signature(node.args)
        self._visit_annotation(node.returns)
        bound = set(bindings(node.body)) - _declared(node.body)
        with_parameters = bound | {each.arg for each in parameters(node.args)} | _type_parameters(node)
        self._inside(with_parameters, node.body)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_signature(node.args)
        self._inside({each.arg for each in parameters(node.args)} | set(_stored_in(node.body)), [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all(node.decorator_list)
        self._visit_all([*node.bases, *node.keywords])
        self._inside(set(bindings(node.body)) | _type_parameters(node), node.body, is_class=True)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        self._visit_annotation(node.annotation)
        if node.value is not None:
            self.visit(node.value)

    def _visit_comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> None:
        first, *rest = node.generators
        self.visit(first.iter)
        targets = {name for each in node.generators for name in _stored_in(each.target)}
        inner: list[ast.AST] = [first.target, *first.ifs, *rest]
        inner += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._inside(targets, inner)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, _COMPREHENSIONS):
            self._visit_comprehension(node)
        else:
            super().generic_visit(node)

    def _visit_signature(self, arguments: ast.arguments) -> None:
        self._visit_all([*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)])
        for each in parameters(arguments):
            self._visit_annotation(each.annotation)

    def _visit_annotation(self, node: ast.expr | None) -> None:
        if node is not None:
            outer, self._use = self._use, "annotation"
            self.visit(node)
            self._use = outer

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def _inside(self, bound: set[str], nodes: Iterable[ast.AST], is_class: bool = False) -> None:
        self._scopes.append((bound, is_class))
        self._visit_all(nodes)
        self._scopes.pop()


def _declared(body: Iterable[ast.stmt]) -> set[str]:
    """The names that `global` and `nonlocal` statements of a function give away."""
    names: set[str] = set()
    for statement in body:
        if isinstance(statement, (ast.Global, ast.Nonlocal)):
            names.update(statement.names)
        names |= _declared(_inner_statements(statement))
    return names


def _type_parameters(node: ast.AST) -> set[str]:
    """`T` of `class A[T]` (Python 3.12)."""
    return {each.name for each in getattr(node, "type_params", ())}
