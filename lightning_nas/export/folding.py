"""Replaces choices in the user's source by what was chosen.

A choice that came out the same each time it ran becomes that value, layer or wiring. One that did not
(in a loop, under `label=f"..."`) is looked up by its label in the dict `ARCHITECTURE`.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from torch import nn

from lightning_nas.errors import ExportError
from lightning_nas.export.source import Position, Snippet, shift
from lightning_nas.export.values import quoted
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


class Names(Protocol):
    """What the names of a snippet stand for, and how the file writes them."""

    def value(self, node: ast.AST) -> Any:
        """What a name or dotted name stands for, or something that equals nothing."""

    def renamed(self, node: ast.Name | ast.Attribute) -> str | None:
        """The new text of a name or dotted name; None if it stays."""

    def need(self, thing: Any) -> str:
        """The name of a class that the file must define or import."""

    def module(self, name: str) -> str:
        """The name of a module of the standard library that the file must import."""

    def torch_nn(self) -> str:
        """The name of `torch.nn` in the file."""

    def claim(self, name: str, thing: Any) -> None:
        """Gives a name to something that the file holds anyway."""


class Folder:
    """Replaces the choices in snippets.

    Args:
        events: all choices made while the sample was built.

    Raises:
        ExportError: if the call behind one was not found.
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

    def fold(self, snippet: Snippet, names: Names) -> dict[ast.AST, str]:
        """The text that replaces each outermost choice of `snippet`, and each name that changes.

        Args:
            snippet: source in which choices may be made.
            names: what its names stand for.
        """
        return _Snippet(self, snippet, names).replacements(snippet.node)

    def events_at(self, position: Position) -> list[Event]:
        """What the call at `position` made, each time it ran."""
        return self._events.get(position, [])


class _Snippet:
    """Folds one snippet. The texts it makes have their first line in column 0."""

    def __init__(self, folder: Folder, snippet: Snippet, names: Names) -> None:
        self._folder = folder
        self._names = names
        self._snippet = snippet
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
        if isinstance(node, ast.Call) and (writer := self._writer(node)) is not None:
            yield node, self._placed(node, writer(node))
            return
        if isinstance(node, (ast.Name, ast.Attribute)) and (text := self._names.renamed(node)) is not None:
            yield node, text
            return
        inner = [found for child in ast.iter_child_nodes(node) for found in self._replacements(child)]
        if inner and isinstance(node, ast.JoinedStr):
            # Before Python 3.12 positions inside an f-string are wrong, and its quotes cannot nest.
            yield node, _unparsed(node, dict(inner))
        else:
            yield from inner

    def _writer(self, call: ast.Call) -> Callable[[ast.Call], str] | None:
        found = self._names.value(call.func)
        return self._writers.get(found) if isinstance(found, (type, type(_same))) else None

    def _placed(self, call: ast.Call, text: str) -> str:
        """`text` as it may stand where `call` stands: in brackets where it would be read otherwise."""
        parent = self._snippet.file.parents.get(call)
        if _needs_brackets(text, call, parent):
            text = f"({text})"
        return shift(text, self._snippet.file.indent(call.lineno))

    def _text(self, node: Any) -> str:
        text = self._snippet.segment(node, self.replacements(node))
        return shift(text, -self._snippet.file.indent(node.lineno))

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
        """The choices of a call that are part of the model."""
        every = self._folder.events_at(self._snippet.position(call))
        return [event for event in every if event.values or event.label is not None]

    def _idle(self, call: ast.Call) -> dict[str, Any]:
        """Defaults by label for the choices of a call that were made, but are no part of the model."""
        every = self._folder.events_at(self._snippet.position(call))
        idle = (e.choice for e in every if e.label is None and e.choice is not None and e.choice.label)
        return {c.label: {n: d.default for n, d in c.domains(c.label).items()} for c in idle}

    def _looked_up(self, call: ast.Call, values: Mapping[str, Any]) -> str:
        """An expression for the value of a call that came out differently; `values` are by label."""
        label = next((k.value for k in call.keywords if k.arg == "label"), None)
        if label is None:
            raise ExportError(
                f"The choice at {self._snippet.place(call)} comes out differently each time it runs, so code needs its "
                "name to tell which is which; give it a label."
            )
        self._folder.architecture.update(values)
        self._names.claim(ARCHITECTURE, self._folder.architecture)
        return f"{ARCHITECTURE}[{self._text(label)}]"

    # -- values ----------------------------------------------------------------------------------

    def _value(self, call: ast.Call) -> str:
        values = {event.label or "": event.values[event.label or ""] for event in self._events(call)}
        if not values:  # in a branch that this architecture never takes
            return f"{_as_operand(first := _first(call), self._text(first))}[0]"
        return quoted(next(iter(values.values()))) if _is_one(values) else self._looked_up(call, values)

    def _condition(self, call: ast.Call) -> str:
        names = self._bound(call, ValueChoice.condition)
        predicate, if_true, if_false = (self._text(names[n]) for n in ("predicate", "if_true", "if_false"))
        return f"{if_true} if {predicate} else {if_false}"

    # -- layers ----------------------------------------------------------------------------------

    def _layer(self, call: ast.Call) -> str:
        candidates = self._bound(call, LayerChoice)["candidates"]
        events = self._events(call)
        values = {str(event.label): event.values[str(event.label)] for event in events}
        functions = {name for event in events for name in event.choice.functions}
        entries = _entries(candidates)
        if not values:  # in a branch or a candidate that this architecture never takes
            values = {"": next(iter(entries), 0) if entries is not None else 0}
        if _is_one(values):
            value = next(iter(values.values()))
            if entries is not None:
                return self._candidate(entries[value], str(value) in functions)
            return f"{self._indexed(candidates)}[{quoted(value)}]" + "()" * (str(value) in functions)
        chosen = set(map(str, values.values()))
        idle = {label: defaults[label] for label, defaults in self._idle(call).items()}
        looked_up = self._looked_up(call, {**idle, **values})
        if entries is None:
            if functions and not chosen <= functions:
                raise ExportError(
                    f"The LayerChoice at {self._snippet.place(call)} has functions as well as layers among its "
                    "candidates, and either are chosen; make all of them functions, or write them out as a dict."
                )
            return f"{self._indexed(candidates)}[{looked_up}]" + "()" * bool(functions)
        used = [value for value in entries if str(value) in chosen | set(map(str, idle.values()))]
        rows = [
            f"{quoted(value)}: lambda: {self._candidate(entries[value], str(value) in functions)}"
            for value in used
        ]
        return self._laid_out(call, "{", rows, f"}}[{looked_up}]()")

    def _indexed(self, candidates: ast.expr) -> str:
        text = self._text(candidates)
        return f"list({text})" if isinstance(candidates, ast.GeneratorExp) else _as_operand(candidates, text)

    def _candidate(self, node: ast.expr, is_function: bool) -> str:
        if not is_function:
            text = self._text(node)
        elif isinstance(node, ast.Lambda) and not _parameters(node):
            text = self._text(node.body)
        else:
            return f"{_as_operand(node, self._text(node))}()"
        return text if _stands(text) else f"({text})"

    def _inputs(self, call: ast.Call) -> str:
        events = self._events(call)
        if not events:
            return f"{self._names.need(ChosenInputs)}([])"
        choice = events[0].choice
        is_single = choice.n_chosen == 1
        values = {str(event.label): event.values[str(event.label)] for event in events}
        if _is_one(values):
            value = next(iter(values.values()))
            text = repr([value] if is_single else value)
        else:
            idle = {label: defaults[label] for label, defaults in self._idle(call).items()}
            text = self._looked_up(call, {**idle, **values})
            text = f"[{text}]" if is_single else text
        reduction = "" if choice.reduction == "sum" else f", reduction={quoted(choice.reduction)}"
        return f"{self._names.need(ChosenInputs)}({text}{reduction})"

    # -- repetition ------------------------------------------------------------------------------

    def _repeat(self, call: ast.Call) -> str:
        arguments = self._bound(call, Repeat)
        sequential = self._sequential(call.func)
        events = self._events(call)
        if not events:  # in a branch that this architecture never takes
            return f"{sequential}()"
        values = {str(e.label): e.values[str(e.label)] for e in events if e.values}
        if not values:
            depth = self._text(arguments["depth"])
        elif _is_one(values):
            depth = repr(next(iter(values.values())))
        else:
            idle = {label: defaults[label] for label, defaults in self._idle(call).items() if defaults}
            depth = self._looked_up(call, {**idle, **values})
        # What was given as `blocks` says how it is to be used; its spelling does not.
        given = events[0].choice.source.given
        if isinstance(given, (list, tuple, nn.ModuleList)):
            parts = self._listed(call, arguments["blocks"], list(given), depth)
        else:
            parts = [f"*{self._repeated(arguments['blocks'], given, depth)}"]
        return self._laid_out(call, f"{sequential}(", parts, ")")

    def _repeated(self, node: ast.expr, given: Any, depth: str) -> str:
        """A list of so many copies of a module, or of what a function makes of each index."""
        text = self._text(node)
        if isinstance(given, nn.Module):
            if not isinstance(node, ast.Call):
                text = f"{self._names.module('copy')}.deepcopy({text})"
            return f"[{text} for _ in range({depth})]"  # made on the spot: made anew for each block
        if isinstance(node, ast.Lambda) and len(_parameters(node)) == 1 and not node.args.defaults:
            return f"[{self._text(node.body)} for {_parameters(node)[0]} in range({depth})]"
        return f"map({text}, range({depth}))"

    def _listed(self, call: ast.Call, node: ast.expr, given: Sequence[Any], depth: str) -> list[str]:
        """The first so many of a list of modules, or of functions of their index."""
        are_functions = [not isinstance(block, nn.Module) for block in given]
        if isinstance(node, (ast.List, ast.Tuple)) and not any(isinstance(e, ast.Starred) for e in node.elts):
            made = [
                f"{_as_operand(element, self._text(element))}({i})" if is_function else self._text(element)
                for i, (element, is_function) in enumerate(zip(node.elts, are_functions))
            ]
            return made[: int(depth)] if depth.isdecimal() else [f"*[{', '.join(made)}][:{depth}]"]
        first = f"{self._indexed(node)}[:{depth}]"
        if not any(are_functions):
            return [f"*{first}"]
        if all(are_functions):
            return [f"*[make(i) for i, make in enumerate({first})]"]
        raise ExportError(
            f"The Repeat at {self._snippet.place(call)} has functions as well as layers among its blocks; write them "
            "out as a list."
        )

    def _sequential(self, function: ast.expr) -> str:
        """`Sequential` of torch.nn, through the same name as `function` where that is one of torch.nn's."""
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            owner = self._names.value(function.value)
            if getattr(owner, "Sequential", None) is nn.Sequential:
                return f"{function.value.id}.Sequential"
        return f"{self._names.torch_nn()}.Sequential"

    # -- cells -----------------------------------------------------------------------------------

    def _cell(self, call: ast.Call) -> str:
        arguments = self._bound(call, Cell)
        events = self._events(call)
        if not events:
            return "None"  # in a branch that this architecture never takes
        choice = events[0].choice
        nodes: dict[str, list[list[Edge]]] = {}
        concat: dict[str, list[int]] = {}
        idle = self._idle(call)
        for label, values in [*idle.items(), *((str(e.label), e.values) for e in events)]:
            nodes[label] = choice.genotype(values, label)
            concat[label] = choice.outputs(nodes[label])
        decided = {str(event.label) for event in events}
        is_one = _is_one({label: nodes[label] for label in decided})
        text = quoted(nodes[str(events[0].label)]) if is_one else self._looked_up(call, nodes)
        merged = arguments.get("merge_op")
        if merged is not None and not isinstance(choice.merge_op, str):
            states = self._text(merged)
        elif _is_one({label: concat[label] for label in decided}):
            states = repr(concat[str(events[0].label)])
        else:
            label_text = self._text(arguments["label"])
            self._folder.architecture.update({f"{label}/concat": found for label, found in concat.items()})
            states = f'{ARCHITECTURE}[{label_text} + "/concat"]'
        parts = [self._text(arguments["op_candidates"]), text]
        count = arguments.get("num_predecessors")
        parts.append(f"num_predecessors={'1' if count is None else self._text(count)}")
        parts.append(f"concat={states}")
        for name in ("preprocessor", "postprocessor", "concat_dim"):
            if name in arguments:
                parts.append(f"{name}={self._text(arguments[name])}")
        return self._laid_out(call, f"{self._names.need(ChosenCell)}(", parts, ")")

    def _laid_out(self, call: ast.Call, start: str, parts: list[str], end: str) -> str:
        """Parts in brackets, on one line if they fit there, else a line each."""
        text = start + ", ".join(parts) + end
        if "\n" not in text and call.col_offset + len(text) <= _WIDTH:
            return text
        if len(parts) == 1 and not start.startswith("{"):
            return text
        return "\n".join([start, *(f"    {shift(part, 4)}," for part in parts), end])


def _same() -> None: ...


def _is_one(values: Mapping[str, Any]) -> bool:
    """Whether all values are the same, in type too."""
    return len({repr(value) for value in values.values()}) == 1


def _entries(candidates: ast.expr) -> dict[Any, ast.expr] | None:
    """The candidates of a display by index or key; None if it is no display of known keys."""
    if isinstance(candidates, (ast.List, ast.Tuple)):
        plain = not any(isinstance(node, ast.Starred) for node in candidates.elts)
        return dict(enumerate(candidates.elts)) if plain else None
    if isinstance(candidates, ast.Dict) and all(isinstance(key, ast.Constant) for key in candidates.keys):
        return {str(key.value): node for key, node in zip(candidates.keys, candidates.values)}  # type: ignore[union-attr]
    if isinstance(candidates, ast.Call) and isinstance(candidates.func, ast.Name) and not candidates.args:
        is_plain = candidates.func.id == "dict" and all(k.arg is not None for k in candidates.keywords)
        return {str(k.arg): k.value for k in candidates.keywords} if is_plain else None
    return None


def _first(call: ast.Call) -> ast.expr:
    return call.args[0] if call.args else call.keywords[0].value


def _parameters(node: ast.Lambda) -> list[str]:
    spec = node.args
    return [a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)] + [
        a.arg for a in (spec.vararg, spec.kwarg) if a is not None
    ]


_ATOMS = (
    *(ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.List, ast.Dict, ast.Set),
    *(ast.ListComp, ast.DictComp, ast.SetComp, ast.Constant, ast.JoinedStr),
)
_OPEN = (ast.Assign, ast.AnnAssign, ast.Return, ast.keyword, ast.List, ast.Dict, ast.Tuple, ast.Set, ast.Expr)


def _as_operand(node: ast.expr, text: str) -> str:
    """`text` in brackets unless it can be called or indexed as it stands."""
    return text if isinstance(node, (*_ATOMS, ast.Tuple)) and _stands(text) else f"({text})"


def _stands(text: str) -> bool:
    """Whether an expression can be read without the brackets that were around it."""
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return True


def _needs_brackets(text: str, call: ast.Call, parent: ast.AST | None) -> bool:
    """Whether the new text of `call` would be read otherwise than as one value."""
    if not _stands(text):
        return True
    made = ast.parse(text, mode="eval").body
    if isinstance(parent, ast.Attribute):
        return not isinstance(made, _ATOMS) or (isinstance(made, ast.Constant) and text[:1].isdigit())
    if isinstance(made, (*_ATOMS, ast.Tuple)) or isinstance(parent, _OPEN):
        return False
    is_argument = isinstance(parent, ast.Call) and call is not parent.func
    return not is_argument and text[:1] != "("


def _unparsed(node: ast.JoinedStr, replacements: Mapping[ast.AST, str]) -> str:
    """An f-string with other expressions in it."""

    class Replace(ast.NodeTransformer):
        def visit(self, inner: ast.AST) -> ast.AST:
            if inner in replacements:
                return ast.parse(replacements[inner].strip(), mode="eval").body
            return self.generic_visit(_copy(inner))

    return ast.unparse(ast.fix_missing_locations(Replace().visit(node)))


def _copy(node: ast.AST) -> ast.AST:
    """A node that can be changed without changing the tree it stands in."""
    fields = {
        name: list(value) if isinstance(value, list) else value for name, value in ast.iter_fields(node)
    }
    return ast.copy_location(type(node)(**fields), node)
