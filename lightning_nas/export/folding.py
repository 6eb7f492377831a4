"""Folds the choices of a sample into the source that made them.

A call of `ValueChoice`, `LayerChoice`, `InputChoice`, `Repeat` or `Cell` that came out the same whenever
it ran is replaced by what was chosen. One that came out differently, in a loop say, looks its label
up in a dict `ARCHITECTURE`, written at the top of the file.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lightning_nas.errors import ExportError
from lightning_nas.export.source import Position, Snippet
from lightning_nas.mutables import (
    Cell,
    ChosenCell,
    ChosenInputs,
    Event,
    InputChoice,
    LayerChoice,
    Repeat,
    ValueChoice,
)
from lightning_nas.mutables.cell import Edge

ARCHITECTURE = "ARCHITECTURE"

_WIDTH = 100

Resolve = Callable[[ast.expr], Any]
"""The object that a name or dotted name of the snippet stands for; None if it stands for none known."""


class Folder:
    """Replaces the choices in snippets; collects what the replaced code needs besides.

    Args:
        events: all choices made while the sample was built.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self._events: dict[Position, list[Event]] = {}
        for event in events:
            if event.node is None:
                raise ExportError(
                    f"The call that makes the choice {event.label!r} was not found in {event.file}; write it as a call "
                    "of its own, not through exec or a decorator."
                )
            position = (event.file, event.node.lineno, event.node.col_offset)
            self._events.setdefault(position, []).append(event)
        self.architecture: dict[str, Any] = {}
        self.needed: dict[str, Any] = {}

    def fold(
        self, snippet: Snippet, resolve: Resolve, rename: Callable[[ast.Attribute], str | None]
    ) -> dict[ast.AST, str]:
        """The text that replaces each outermost choice of `snippet`.

        Args:
            snippet: source in which choices may be made.
            resolve: finds what its names stand for.
            rename: the new text of a dotted name, or None if it stays.
        """
        return _Snippet(self, snippet, resolve, rename).replacements(snippet.tree)

    def events_at(self, position: Position) -> list[Event]:
        """What was chosen by the call at `position`, each time it ran in a part that was chosen."""
        return [event for event in self._events.get(position, []) if event.values or event.label is not None]

    def need(self, thing: type) -> str:
        """The name of a class of ours that the file must define."""
        self.needed[thing.__name__] = thing
        return thing.__name__


class _Snippet:
    """Folds one snippet."""

    def __init__(
        self,
        folder: Folder,
        snippet: Snippet,
        resolve: Resolve,
        rename: Callable[[ast.Attribute], str | None],
    ) -> None:
        self._folder = folder
        self._rename = rename
        self._snippet = snippet
        self._resolve = resolve
        self._writers: dict[Any, Callable[[ast.Call], str]] = {
            ValueChoice: self._value,
            LayerChoice: self._layer,
            InputChoice: self._inputs,
            Repeat: self._repeat,
            Cell: self._cell,
            ValueChoice.to_int: lambda call: f"int({self._arguments(call)})",
            ValueChoice.to_float: lambda call: f"float({self._arguments(call)})",
            ValueChoice.max: lambda call: f"max({self._arguments(call)})",
            ValueChoice.min: lambda call: f"min({self._arguments(call)})",
            ValueChoice.condition: self._condition,
        }

    def replacements(self, node: ast.AST) -> dict[ast.AST, str]:
        """The text for each outermost choice, and each dotted name that changes, in `node`."""
        return dict(self._replacements(node))

    def _replacements(self, node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
        if isinstance(node, ast.Call) and (kind := self._kind(node)) is not None:
            yield node, self._writers[kind](node)
            return
        if isinstance(node, ast.Attribute) and (renamed := self._rename(node)) is not None:
            yield node, renamed
            return
        for child in ast.iter_child_nodes(node):
            yield from self._replacements(child)

    def _kind(self, call: ast.Call) -> Any:
        found = self._resolve(call.func)
        return found if isinstance(found, (type, type(_same))) and found in self._writers else None

    def _text(self, node: ast.AST) -> str:
        return self._snippet.segment(node, self.replacements(node))

    def _arguments(self, call: ast.Call) -> str:
        return ", ".join(map(self._text, call.args))

    def _bound(self, call: ast.Call, function: Any) -> dict[str, ast.expr]:
        """The arguments of a call by parameter."""
        if any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords):
            raise ExportError(
                f"The choice at {self._snippet.place(call)} is called with * or **; write its arguments out."
            )
        signature = inspect.signature(function)
        bound = signature.bind(*call.args, **{str(k.arg): k.value for k in call.keywords})
        return dict(bound.arguments)

    def _events(self, call: ast.Call) -> list[Event]:
        return self._folder.events_at(self._snippet.position(call))

    def _looked_up(self, call: ast.Call, values: dict[str, Any]) -> str:
        """An expression for the value of a call that came out differently; `values` are by label."""
        label = next((k.value for k in call.keywords if k.arg == "label"), None)
        if label is None:
            raise ExportError(
                f"The choice at {self._snippet.place(call)} comes out differently each time it runs, so code needs its "
                "name to tell which is which; give it a label."
            )
        self._folder.architecture.update(values)
        return f"{ARCHITECTURE}[{self._text(label)}]"

    # -- values ----------------------------------------------------------------------------------

    def _value(self, call: ast.Call) -> str:
        values = {event.label or "": event.values[event.label or ""] for event in self._events(call)}
        if not values:  # in a branch that this architecture never takes
            return repr(ast.literal_eval(first)) if _is_literal(first := _first(call)) else "None"
        return _quoted(next(iter(values.values()))) if _is_one(values) else self._looked_up(call, values)

    def _condition(self, call: ast.Call) -> str:
        names = self._bound(call, ValueChoice.condition)
        predicate, if_true, if_false = (self._text(names[n]) for n in ("predicate", "if_true", "if_false"))
        return f"({if_true} if {predicate} else {if_false})"

    # -- layers ----------------------------------------------------------------------------------

    def _layer(self, call: ast.Call) -> str:
        candidates = self._bound(call, LayerChoice)["candidates"]
        events = self._events(call)
        values = {str(event.label): event.values[str(event.label)] for event in events}
        functions = {name for event in events for name in event.choice.functions}
        entries = _entries(candidates)
        if not values:
            values = {"": next(iter(entries), 0) if entries is not None else 0}
        if _is_one(values):
            value = next(iter(values.values()))
            is_function = str(value) in functions
            if entries is None:
                return f"{_as_operand(candidates, self._text(candidates))}[{value!r}]" + "()" * is_function
            return self._candidate(entries[value], is_function)
        looked_up = self._looked_up(call, values)
        if entries is None:
            every = bool(functions)
            return f"{_as_operand(candidates, self._text(candidates))}[{looked_up}]" + "()" * every
        used = [value for value in entries if value in set(values.values())]
        rows = [
            f"{_quoted(value)}: lambda: {self._candidate(entries[value], str(value) in functions)}"
            for value in used
        ]
        return self._laid_out(call, "{", rows, f"}}[{looked_up}]()")

    def _candidate(self, node: ast.expr, is_function: bool) -> str:
        if not is_function:
            return self._text(node)
        if isinstance(node, ast.Lambda) and not _parameters(node):
            return self._text(node.body)
        return f"{_as_operand(node, self._text(node))}()"

    def _inputs(self, call: ast.Call) -> str:
        events = self._events(call)
        if not events:
            return f"{self._folder.need(ChosenInputs)}([])"
        choice = events[0].choice
        values = {str(event.label): event.values[str(event.label)] for event in events}
        is_single = choice.n_chosen == 1
        if _is_one(values):
            value = next(iter(values.values()))
            text = repr([value] if is_single else value)
        else:
            text = self._looked_up(call, values)
            text = f"[{text}]" if is_single else text
        reduction = "" if choice.reduction == "sum" else f", reduction={choice.reduction!r}"
        return f"{self._folder.need(ChosenInputs)}({text}{reduction})"

    def _repeat(self, call: ast.Call) -> str:
        arguments = self._bound(call, Repeat)
        blocks, depth = arguments["blocks"], arguments["depth"]
        values = {str(e.label): e.values[str(e.label)] for e in self._events(call) if e.values}
        if not values:
            text = self._text(depth)
        else:
            text = repr(next(iter(values.values()))) if _is_one(values) else self._looked_up(call, values)
        sequential = self._beside(call.func, "Sequential")
        if isinstance(blocks, (ast.List, ast.Tuple)):
            is_whole = text.isdecimal()
            chosen = blocks.elts[: int(text)] if is_whole else blocks.elts
            made = [self._block(node, str(i)) for i, node in enumerate(chosen)]
            joined = ", ".join(made)
            return f"{sequential}({joined})" if is_whole else f"{sequential}(*[{joined}][:{text}])"
        if isinstance(blocks, ast.Lambda) and len(_parameters(blocks)) == 1:
            return f"{sequential}(*[{self._text(blocks.body)} for {_parameters(blocks)[0]} in range({text})])"
        if isinstance(blocks, ast.Call):  # a module made on the spot: made anew for each block
            return f"{sequential}(*[{self._text(blocks)} for _ in range({text})])"
        return f"{sequential}(*[{self._block(blocks, 'i')} for i in range({text})])"

    def _block(self, node: ast.expr, index: str) -> str:
        if isinstance(node, ast.Call):
            return self._text(node)
        if isinstance(node, ast.Lambda):
            return f"({self._text(node)})({index})"
        return f"{self._text(node)}({index})"

    def _cell(self, call: ast.Call) -> str:
        arguments = self._bound(call, Cell)
        events = self._events(call)
        nodes: dict[str, list[list[Edge]]] = {}
        concat: dict[str, list[int]] = {}
        for event in events:
            label = str(event.label)
            nodes[label] = event.choice.genotype(event.values, label)
            concat[label] = event.choice.outputs(nodes[label])
        if not nodes:
            return "None"  # in a branch that this architecture never takes
        text = _quoted(next(iter(nodes.values()))) if _is_one(nodes) else self._looked_up(call, nodes)
        merged = arguments.get("merge_op")
        if merged is not None and not isinstance(merged, ast.Constant):
            states = self._text(merged)
        elif _is_one(concat):
            states = repr(next(iter(concat.values())))
        else:
            label_text = self._text(arguments["label"])
            self._folder.architecture.update({f"{label}/concat": found for label, found in concat.items()})
            states = f'{ARCHITECTURE}[{label_text} + "/concat"]'
        parts = [self._text(arguments["op_candidates"]), text]
        parts.append(f"num_predecessors={events[0].choice.num_predecessors}")
        parts.append(f"concat={states}")
        for name in ("preprocessor", "postprocessor", "concat_dim"):
            if name in arguments:
                parts.append(f"{name}={self._text(arguments[name])}")
        return self._laid_out(call, f"{self._folder.need(ChosenCell)}(", parts, ")")

    def _laid_out(self, call: ast.Call, start: str, parts: list[str], end: str) -> str:
        """Parts in brackets, on one line if they fit there, else a line each."""
        line = self._snippet.text.splitlines()[call.lineno - 1]
        text = start + ", ".join(parts) + end
        if call.col_offset + len(text) <= _WIDTH:
            return text
        indent = line[: len(line) - len(line.lstrip())]
        return "\n".join([start, *(f"{indent}    {part}," for part in parts), indent + end])

    def _beside(self, function: ast.expr, name: str) -> str:
        """`name` of torch.nn, through the same module as `function` where there is one."""
        if isinstance(function, ast.Attribute):
            return f"{self._snippet.segment(function.value)}.{name}"
        import torch.nn

        return self._folder.need(getattr(torch.nn, name))


def _same() -> None: ...


def _quoted(value: Any) -> str:
    """A literal with the double quotes that most people write."""
    text = repr(value)
    return text.replace("'", '"') if '"' not in text and "\\" not in text else text


def _is_one(values: dict[str, Any]) -> bool:
    """Whether all values are the same, in type too."""
    return len({repr(value) for value in values.values()}) == 1


def _entries(candidates: ast.expr) -> dict[Any, ast.expr] | None:
    """The candidates of a display by index or key; None if it is no display of known keys."""
    if isinstance(candidates, (ast.List, ast.Tuple)):
        plain = not any(isinstance(node, ast.Starred) for node in candidates.elts)
        return dict(enumerate(candidates.elts)) if plain else None
    if isinstance(candidates, ast.Dict) and all(isinstance(key, ast.Constant) for key in candidates.keys):
        return {str(key.value): node for key, node in zip(candidates.keys, candidates.values)}  # type: ignore[union-attr]
    return None


def _first(call: ast.Call) -> ast.expr:
    candidates = call.args[0] if call.args else call.keywords[0].value
    return (
        candidates.elts[0]
        if isinstance(candidates, (ast.List, ast.Tuple)) and candidates.elts
        else candidates
    )


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def _parameters(node: ast.Lambda) -> list[str]:
    spec = node.args
    return [a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)] + [
        a.arg for a in (spec.vararg, spec.kwarg) if a is not None
    ]


def _as_operand(node: ast.expr, text: str) -> str:
    """`text` in brackets unless it can be called or indexed as it stands."""
    atoms = (
        ast.Name,
        ast.Attribute,
        ast.Call,
        ast.Subscript,
        ast.List,
        ast.Dict,
        ast.ListComp,
        ast.DictComp,
        ast.Tuple,
    )
    return text if isinstance(node, atoms) else f"({text})"
