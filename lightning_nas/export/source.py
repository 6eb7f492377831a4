"""Source files as Python knows them, and pieces of them with edits by position."""

from __future__ import annotations

import ast
import io
import linecache
import sys
import tokenize
from collections.abc import Mapping
from functools import cached_property
from types import FunctionType
from typing import Any

from lightning_nas.errors import ExportError
from lightning_nas.export.bindings import DEFINITIONS, bindings

Position = tuple[str, int, int]
"""File, line (from 1) and column (in UTF-8 bytes) of an expression in the user's source."""


class SourceFile:
    """A file, or a notebook's cell: its text and its syntax tree."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.tree = ast.parse(text)
        self.lines = text.encode().splitlines(keepends=True)

    @classmethod
    def read(cls, path: str | None) -> SourceFile | None:
        """The file at `path` as Python's cache of lines has it; None if there is none, or it is no Python."""
        lines = linecache.getlines(path) if path else []
        if not path or not lines:
            return None
        text = "".join(lines)
        if path not in _files or _files[path][0] != text:
            try:
                _files[path] = text, cls(path, text)
            except SyntaxError:
                return None
        return _files[path][1]

    @cached_property
    def globals(self) -> dict[str, list[ast.stmt]]:
        """The statements that bind each global name."""
        return bindings(self.tree.body)

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The node around each node."""
        return {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def around(self, node: ast.AST) -> list[Any]:
        """The classes and functions around a node, outermost first."""
        found: list[ast.AST] = []
        outer = self.parents.get(node)
        while outer is not None:
            if isinstance(outer, DEFINITIONS):
                found.insert(0, outer)
            outer = self.parents.get(outer)
        return found

    def definitions(self, name: str) -> list[Any]:
        """Every class and function called `name`, however deep, in order."""
        return self._definitions.get(name, [])

    @cached_property
    def _definitions(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        every = (node for node in ast.walk(self.tree) if isinstance(node, DEFINITIONS))
        for node in sorted(every, key=lambda node: node.lineno):
            found.setdefault(node.name, []).append(node)
        return found

    def qualified_name(self, node: Any) -> str:
        """The `__qualname__` of a class or function."""
        parts = []
        for outer in self.around(node):
            parts += [outer.name] if isinstance(outer, ast.ClassDef) else [outer.name, "<locals>"]
        return ".".join([*parts, node.name])

    def indent(self, line: int) -> int:
        """How far a line, counted from 1, is indented."""
        text = self.lines[line - 1]
        return len(text) - len(text.lstrip())


_files: dict[str, tuple[str, SourceFile]] = {}


class Snippet:
    """The source of one statement of a file: a class, a function or an assignment."""

    def __init__(self, file: SourceFile, node: ast.stmt) -> None:
        self.file = file
        self.node = node

    @classmethod
    def of(cls, definition: Any) -> Snippet:
        """The source of a class or function.

        Raises:
            ExportError: if it is not at hand (typed into a plain interpreter, or made by `exec`).
        """
        found = locate(definition)
        if found is None:
            name = getattr(definition, "__qualname__", repr(definition))
            raise ExportError(
                f"The source of {name} is not at hand, so it cannot be written into a file; define it in a file or "
                "a notebook."
            )
        return cls(*found)

    def position(self, node: Any) -> Position:
        """Where `node` stands in the user's file."""
        return self.file.path, node.lineno, node.col_offset

    def place(self, node: Any) -> str:
        """The same for people."""
        return f"{self.file.path}:{node.lineno}"

    def segment(self, node: ast.AST, replacements: Mapping[ast.AST, str] | None = None) -> str:
        """The text of `node`, with the text of some nodes inside replaced."""
        return self._edited(*_span(node), replacements or {})

    def edited(self, replacements: Mapping[ast.AST, str]) -> str:
        """The whole text with the text of some nodes replaced, comments above included, without indentation."""
        start, end = _span(self.node)
        line = min([start[0], *(d.lineno for d in getattr(self.node, "decorator_list", []))])
        while line > 1 and self.file.lines[line - 2].lstrip().startswith(b"#"):
            line -= 1
        indent = self.file.indent(start[0])
        above = self.file.indent(line)
        text = self._edited((line, above), self._end(end), replacements)
        return shift(text, -indent)

    def _end(self, end: tuple[int, int]) -> tuple[int, int]:
        """The end of the line, if nothing but a comment follows there."""
        line = self.file.lines[end[0] - 1]
        rest = line[end[1] :].strip()
        return (end[0], len(line.rstrip())) if rest.startswith(b"#") else end

    def _edited(
        self, start: tuple[int, int], end: tuple[int, int], replacements: Mapping[ast.AST, str]
    ) -> str:
        parts: list[bytes] = []
        here = start
        for node, text in sorted(replacements.items(), key=lambda item: _span(item[0])):
            first, last = _span(node)
            if first < here or last > end:
                continue  # outside, or inside of what was replaced already
            parts += [self._between(here, first), text.encode()]
            here = last
        return b"".join([*parts, self._between(here, end)]).decode()

    def _between(self, start: tuple[int, int], end: tuple[int, int]) -> bytes:
        lines = self.file.lines
        if start[0] == end[0]:
            return lines[start[0] - 1][start[1] : end[1]]
        middle = lines[start[0] : end[0] - 1]
        return b"".join([lines[start[0] - 1][start[1] :], *middle, lines[end[0] - 1][: end[1]]])


def _span(node: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def locate(definition: Any) -> tuple[SourceFile, Any] | None:
    """The file and the node of a class or function; None if its source is not to be had.

    Found by the code objects of its functions, as these hold in notebooks and in classes that another
    process pickled, where the module says nothing.
    """
    if isinstance(definition, type):
        return _locate_class(definition)
    function = unwrapped(definition)
    file = SourceFile.read(function.__code__.co_filename) if isinstance(function, FunctionType) else None
    if file is None:
        return None
    first = function.__code__.co_firstlineno
    for node in file.definitions(function.__name__):
        if first in (node.lineno, *(d.lineno for d in node.decorator_list[:1])):
            return file, node
    return None


def _locate_class(cls: type) -> tuple[SourceFile, Any] | None:
    codes = [f.__code__ for f in functions_of(cls) if SourceFile.read(f.__code__.co_filename) is not None]
    path = codes[0].co_filename if codes else getattr(sys.modules.get(cls.__module__), "__file__", None)
    file = SourceFile.read(path)
    if file is None:
        return None
    lines = [code.co_firstlineno for code in codes if code.co_filename == path]
    found = [
        node
        for node in file.definitions(cls.__name__)
        if isinstance(node, ast.ClassDef)
        and file.qualified_name(node) == cls.__qualname__
        and all(node.lineno <= line <= (node.end_lineno or 0) for line in lines)
    ]
    # Where a name is bound several times, the last definition is the one in force.
    return (file, found[-1]) if found else None


def functions_of(cls: type) -> list[FunctionType]:
    """The functions defined in the body of a class, without what decorators put around them."""
    found = []
    for member in vars(cls).values():
        for part in (member, *(getattr(member, name, None) for name in ("__func__", "fget", "func"))):
            function = unwrapped(part)
            is_own = isinstance(function, FunctionType) and function.__qualname__.startswith(
                f"{cls.__qualname__}."
            )
            if is_own and function not in found:
                found.append(function)
    return found


def unwrapped(value: Any) -> Any:
    """The function behind decorators that used `functools.wraps`; anything else as it is."""
    while "__wrapped__" in getattr(value, "__dict__", {}):
        value = value.__wrapped__
    return value


def shift(text: str, columns: int) -> str:
    """`text` with every line after the first moved right by `columns`, left if negative.

    Lines inside a string stay as they are, unless it is a docstring.
    """
    if columns == 0 or "\n" not in text:
        return text
    fixed = _lines_in_strings(text)
    lines = text.split("\n")
    for number, line in enumerate(lines[1:], start=1):
        if number not in fixed and line.strip():
            have = len(line) - len(line.lstrip())
            lines[number] = " " * max(have + columns, 0) + line.lstrip()
    return "\n".join(lines)


_STARTS = (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT)
_ENDS = (tokenize.NEWLINE, tokenize.ENDMARKER)


def _lines_in_strings(text: str) -> set[int]:
    """The lines, counted from 0, that start within a string which is no docstring."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        # Part of an expression: within brackets its lines need no indentation.
        return set() if text.startswith("(") else _lines_in_strings(f"({text})")
    fixed: set[int] = set()
    opened: list[int] = []  # lines on which an f-string begins (Python 3.12)
    for number, token in enumerate(tokens):
        kind = tokenize.tok_name[token.type]
        if kind == "FSTRING_START":
            opened.append(token.start[0])
        elif kind == "FSTRING_END":
            fixed.update(range(opened.pop(), token.end[0]))
        elif token.type == tokenize.STRING:
            stands_alone = (number == 0 or tokens[number - 1].type in _STARTS) and tokens[
                number + 1
            ].type in _ENDS
            if not stands_alone:
                fixed.update(range(token.start[0], token.end[0]))
    return fixed
