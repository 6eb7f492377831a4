"""Pieces of the user's source, with edits by position."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from lightning_nas.errors import ExportError

Position = tuple[str, int, int]
"""File, line (from 1) and column (in UTF-8 bytes) of an expression in the user's source."""


class Snippet:
    """The source of one class, function or assignment, dedented and parsed.

    Args:
        text: the source.
        file: the file it stands in.
        line: its first line there, from 1.
        indent: how many columns of indentation were taken away.
    """

    def __init__(self, text: str, file: str, line: int = 1, indent: int = 0) -> None:
        self.text = text
        self.file = file
        self._line = line
        self._indent = indent
        self.tree = ast.parse(text)
        self._lines = text.encode().splitlines(keepends=True)

    @classmethod
    def of(cls, definition: Any) -> Snippet:
        """The source of a class or function.

        Raises:
            ExportError: if it is not at hand (typed into a plain interpreter, or made by `exec`).
        """
        try:
            lines, first = inspect.getsourcelines(definition)
            file = inspect.getsourcefile(definition) or "<unknown>"
        except (OSError, TypeError):
            name = getattr(definition, "__qualname__", repr(definition))
            raise ExportError(
                f"The source of {name} is not at hand, so it cannot be written into a file; define it in a file or "
                "a notebook."
            ) from None
        text = "".join(lines)
        indent = len(lines[0]) - len(lines[0].lstrip())
        return cls(textwrap.dedent(text), file, first, indent)

    def position(self, node: ast.AST) -> Position:
        """Where `node` stands in the user's file."""
        return (self.file, node.lineno + self._line - 1, node.col_offset + self._indent)  # type: ignore[attr-defined]

    def place(self, node: ast.AST) -> str:
        """The same for people."""
        file, line, _ = self.position(node)
        return f"{file}:{line}"

    def segment(self, node: ast.AST, replacements: Mapping[ast.AST, str] | None = None) -> str:
        """The text of `node`, with the text of some nodes inside replaced."""
        return self._edited(*_span(node), replacements or {})

    def edited(self, replacements: Mapping[ast.AST, str]) -> str:
        """The whole text, with the text of some nodes replaced."""
        end = (len(self._lines), len(self._lines[-1]) if self._lines else 0)
        return self._edited((1, 0), end, replacements)

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
        if start[0] == end[0]:
            return self._lines[start[0] - 1][start[1] : end[1]]
        middle = self._lines[start[0] : end[0] - 1]
        return b"".join([self._lines[start[0] - 1][start[1] :], *middle, self._lines[end[0] - 1][: end[1]]])


def _span(node: ast.AST) -> tuple[tuple[int, int], tuple[int, int]]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
