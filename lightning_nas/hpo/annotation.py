"""NNI's annotations: strings in a script that say what is searched and what is reported.

A script run on its own passes over them, as over any string. For a trial they become code:

    '''@nni.variable(nni.choice(50, 250, 500), name=batch_size)'''
    batch_size = 128
    '''@nni.report_final_result(accuracy)'''

Expressions are put in the place of others and nothing else is touched, so that each line keeps its number,
its comments and its text in a traceback. The code is read, never run.
"""

from __future__ import annotations

import ast
import difflib
import io
import tokenize
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from lightning_nas.hpo.documents import ConfigError, Document
from lightning_nas.hpo.space_file import FORMS, read_space

T = TypeVar("T")

MARK = "@nni."

_CALLS = ("get_next_parameter", "report_intermediate_result", "report_final_result")
_KINDS = ("variable", "function_choice", *_CALLS)
_BLOCKS = ("body", "orelse", "finalbody")


@dataclass(frozen=True)
class Annotated:
    """A script with annotations.

    Args:
        data: the file that a trial runs, in the script's encoding and with as many lines as it has.
        space: what it searches, in NNI's format; labels are `module/name/type`, as NNI has them.
    """

    data: bytes
    space: Mapping[str, Any]


def annotated(data: bytes, module: str, path: Path) -> Annotated | None:
    """The script with its annotations turned into code; None if it has none.

    Args:
        data: of the file.
        module: its name within the code directory, such as `models.net`.
        path: of the file, for errors.

    Raises:
        ConfigError: in one line with the file and the line, if an annotation is wrong or the file is not Python.
    """
    if MARK.encode() not in data:
        return None
    return _Script(data, module, path).annotated()


@dataclass
class _Script:
    data: bytes
    module: str
    path: Path
    space: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    edits: list[tuple[ast.expr, str]] = field(default_factory=list)
    """Expressions of the script and what is put in their place."""

    def annotated(self) -> Annotated | None:
        try:
            encoding = tokenize.detect_encoding(io.BytesIO(self.data).readline)[0]
            text = io.TextIOWrapper(io.BytesIO(self.data), encoding).read()
            tree = _quietly(lambda: ast.parse(text))
        except (SyntaxError, ValueError, RecursionError) as error:
            raise self._error(_line_of(error), f"it cannot be read as Python: {_detail(error)}.") from None
        found = list(_annotations(tree))
        if not found:
            return None
        for statement, string, following in found:
            self._read(statement, string, following)
        read_space(Document(self.space, self.path, {(name,): line for name, line in self.lines.items()}))
        result = _replaced(text, self.edits)
        try:
            _quietly(lambda: compile(result, str(self.path), "exec", dont_inherit=True))
        except (SyntaxError, ValueError, RecursionError) as error:
            message = f"with its annotations as code it is no longer Python: {_detail(error)}."
            raise self._error(_line_of(error), message) from None
        return Annotated(result.encode(encoding), self.space)

    def _read(self, statement: ast.Expr, string: str, following: ast.stmt | None) -> None:
        """Notes the edits and labels of one annotation."""
        line = statement.lineno
        try:
            call = ast.parse(f"({string.strip()[1:]}\n)", mode="eval").body
        except (SyntaxError, ValueError, RecursionError) as error:
            message = f"the annotation {_short(string)} is not Python: {_detail(error)}."
            raise self._error(line, message) from None
        kind = _function_of(call)
        if not isinstance(call, ast.Call) or kind not in _KINDS:
            close = difflib.get_close_matches(kind, _KINDS, n=1)
            hint = f"did you mean @nni.{close[0]}?" if close else f"there are {', '.join(_KINDS)}."
            raise self._error(line, f"there is no annotation {_short(string)}; {hint}")
        if kind in _CALLS:
            arguments = ", ".join(map(ast.unparse, [*call.args, *call.keywords]))
            if len(call.args) != (kind != "get_next_parameter") or call.keywords:
                form = "()" if kind == "get_next_parameter" else "(metric)"
                raise self._error(line, f"@nni.{kind} is written {kind}{form}, but got ({arguments}).")
            self.edits.append((statement.value, f"__import__('nni').{kind}({arguments})"))
            return
        form = "nni.choice(1, 2), name=x" if kind == "variable" else "f(x), g(x), name=f"
        if [keyword.arg for keyword in call.keywords] != ["name"] or not call.args:
            raise self._error(line, f"@nni.{kind} is written @nni.{kind}({form}), but got {_short(string)}.")
        name = ast.unparse(call.keywords[0].value)
        if kind == "variable":
            self._variable(line, name, call.args, following)
        else:
            self._function(line, name, call.args, following)

    def _variable(self, line: int, name: str, given: list[ast.expr], following: ast.stmt | None) -> None:
        domain = given[0]
        kind = _function_of(domain)
        if len(given) != 1 or not isinstance(domain, ast.Call) or kind not in FORMS or domain.keywords:
            message = f"{name} takes one of {', '.join(f'nni.{kind}(...)' for kind in FORMS)}"
            raise self._error(line, f"{message}, but got {', '.join(map(ast.unparse, given))}.")
        assigned = _assigned(following, name)
        if assigned is None:
            have = "nothing" if following is None else f"line {following.lineno}"
            raise self._error(line, f"an assignment to {name} must follow, but {have} does.")
        if kind == "choice":
            chosen = self._chosen(line, f"{name}/{kind}", domain.args)
        else:
            values = [_literal(value) for value in domain.args]
            if not all(isinstance(value, (int, float)) for value in values):
                message = f"nni.{kind} takes numbers that are written out"
                raise self._error(line, f"{message}, but got {ast.unparse(domain)}.")
            chosen = self._labelled(line, f"{name}/{kind}", {"_type": kind, "_value": values})
        self.edits.append((assigned, chosen))

    def _function(self, line: int, name: str, options: list[ast.expr], following: ast.stmt | None) -> None:
        calls = [] if following is None else list(_calls(following, name))
        if not calls:
            raise self._error(line, f"a statement with a call of {name} must follow, but none does.")
        chosen = self._chosen(line, f"{name}/function_choice", options, are_values=False)
        self.edits += [(call, chosen) for call in calls]

    def _chosen(self, line: int, label: str, options: list[ast.expr], are_values: bool = True) -> str:
        """Adds a choice; the code that gives what is chosen, and computes nothing else.

        Numbers, texts, booleans and None are values of the space, other expressions are there by their text.
        """
        values = [_literal(option) if are_values else _NOT_PLAIN for option in options]
        names = [
            ast.unparse(option) if value is _NOT_PLAIN else value for option, value in zip(options, values)
        ]
        found = self._labelled(line, label, {"_type": "choice", "_value": names})
        if _NOT_PLAIN not in values:
            return found
        # Conditions rather than functions: in a class's body a function would not see its names.
        cases = [
            f"({ast.unparse(option)}) if {found} == {name!r} else" for option, name in zip(options, names)
        ]
        return f"{' '.join(cases[:-1])} ({ast.unparse(options[-1])})"

    def _labelled(self, line: int, label: str, entry: dict[str, Any]) -> str:
        """Adds a label; the code that gives its value."""
        name = f"{self.module}/{label}"
        if self.space.setdefault(name, entry) != entry:
            message = (
                f"{label} is searched differently in line {self.lines[name]}; give one of them another name."
            )
            raise self._error(line, message)
        self.lines.setdefault(name, line)
        return f"__import__('nni').get_next_parameter()[{name!r}]"

    def _error(self, line: int | None, message: str) -> ConfigError:
        return Document(None, self.path, {} if line is None else {(): line}).error((), message)


_NOT_PLAIN = object()


def _literal(node: ast.expr) -> Any:
    """The value of a plain literal that JSON can hold; `_NOT_PLAIN` for any other expression."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        return _NOT_PLAIN
    return value if value is None or isinstance(value, (bool, int, float, str)) else _NOT_PLAIN


def _is_annotation(statement: ast.stmt) -> TypeGuard[ast.Expr]:
    if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
        return False
    return isinstance(statement.value.value, str) and statement.value.value.lstrip().startswith(MARK)


def _annotations(tree: ast.Module) -> Iterator[tuple[ast.Expr, str, ast.stmt | None]]:
    """Each statement that is an annotation, its text, and the statement that follows it."""
    for node in ast.walk(tree):
        for name in _BLOCKS:
            block = getattr(node, name, None)
            if isinstance(block, list):
                for statement, following in zip(block, [*block[1:], None]):
                    if _is_annotation(statement):
                        yield statement, ast.literal_eval(statement.value), following


def _function_of(node: ast.expr) -> str:
    """`f` of a call `nni.f(...)`, else what is there."""
    function = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(function).removeprefix("nni.")


def _assigned(statement: ast.stmt | None, name: str) -> ast.expr | None:
    """The value that a statement assigns to `name` and to nothing else; None if it is another statement."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    else:
        return None
    return statement.value if ast.unparse(target) == name else None


def _calls(node: ast.AST, name: str) -> Iterator[ast.Call]:
    """The outermost calls of `name` in a statement, without those in blocks of its own."""
    for key, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        for child in children if key not in (*_BLOCKS, "handlers", "cases") else ():
            if isinstance(child, ast.Call) and ast.unparse(child.func) == name:
                yield child
            # Within an f-string Python 3.11 does not know where an expression stands.
            elif isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                yield from _calls(child, name)


def _replaced(text: str, edits: list[tuple[ast.expr, str]]) -> str:
    """`text` with other code in the place of some expressions, which do not overlap; no line moves."""
    lines = [line.encode() for line in text.split("\n")]  # Python counts columns in bytes of UTF-8
    for node, code in sorted(edits, key=lambda edit: (edit[0].lineno, edit[0].col_offset), reverse=True):
        assert node.end_lineno is not None
        first, last = node.lineno - 1, node.end_lineno - 1
        filling = "\n" * (last - first)
        whole = (
            lines[first][: node.col_offset]
            + f"({code}{filling})".encode()
            + lines[last][node.end_col_offset :]
        )
        lines[first : last + 1] = whole.split(b"\n")
    return b"\n".join(lines).decode()


def _quietly(run: Callable[[], T]) -> T:
    """What `run` returns; the warnings about the user's code come when that runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run()


def _detail(error: Exception) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _line_of(error: Exception) -> int | None:
    return error.lineno if isinstance(error, SyntaxError) else None


def _short(string: str) -> str:
    text = " ".join(string.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
