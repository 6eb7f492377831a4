"""Collects all source that a class needs, so that one file can hold it.

What torch and the standard library define is imported as the user's own source imports it; everything
else a name stands for is written out: classes, functions and the assignments of constants.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import nn

import lightning_nas.nn
from lightning_nas.errors import ExportError, NASError
from lightning_nas.export.bindings import free_names
from lightning_nas.export.edits import names_bound_inside, new_defaults, run_at_once, without_decorator
from lightning_nas.export.folding import Folder, Names
from lightning_nas.export.scope import (
    MISSING,
    OURS,
    Import,
    Scope,
    is_definition,
    is_foreign,
    is_portable,
    public_import,
    undefined,
)
from lightning_nas.export.source import Snippet, locate, unwrapped
from lightning_nas.export.values import is_literal, literal, source_of_value
from lightning_nas.mutables import Choice, ChosenCell, ChosenInputs, ValueChoice, model_wrapper
from lightning_nas.mutables.layers import Zero, reduce_inputs

_BUILTINS = frozenset(dir(builtins))
_WRITTEN = (ChosenCell, ChosenInputs, Zero, reduce_inputs)
"""What of our own, besides `hub`, may stand in a file."""


@dataclasses.dataclass(eq=False)
class _Definition:
    """A statement of the file, and the names it needs: at once, and when its functions are called."""

    text: str
    at_once: set[str]
    later: set[str]
    place: tuple[int, int]


class Closure:
    """The imports and definitions that a class needs, choices folded in.

    Args:
        folder: folds the choices.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._imports: dict[str, Import] = {}
        self._hints: dict[str, Import] = {}
        self._things: dict[str, Any] = {}
        self._definitions: dict[str, _Definition] = {}
        self._files: list[str] = []

    @property
    def imports(self) -> set[str]:
        """The import statements."""
        hints = {name: each for name, each in self._hints.items() if name not in self._things}
        return {each.text for each in (*self._imports.values(), *hints.values())}

    @property
    def definitions(self) -> list[str]:
        """The statements in the user's order, but each after what it needs at once."""
        written: dict[str, str] = {}

        def write(name: str, is_called: bool) -> None:
            definition = self._definitions.get(name)
            if definition is None or name in written:
                return
            written[name] = ""  # so that a circle ends here
            needed = definition.at_once | definition.later if is_called else definition.at_once
            for other in sorted(needed, key=self._order):
                # What runs at once may call what it names, which then needs all that it names itself.
                write(other, is_called=True)
            del written[name]
            written[name] = definition.text

        for name in sorted(self._definitions, key=self._order):
            write(name, is_called=False)
        return list(written.values())

    def _order(self, name: str) -> tuple[int, int]:
        return self._definitions[name].place if name in self._definitions else (0, 0)

    # -- definitions -----------------------------------------------------------------------------

    def add(self, definition: Any, defaults: Mapping[str, Any] | None = None) -> str:
        """Adds a class or function and all that it needs.

        Args:
            definition: the class or function.
            defaults: new defaults of a class's constructor, by parameter.

        Returns:
            Its name in the file.

        Raises:
            ExportError: if something it needs cannot be written into a file; the message names it.
        """
        function = unwrapped(definition)
        name = str(function.__name__)
        if self._is_known(name, function):
            return name
        snippet = Snippet.of(function)
        user = f"{name} ({snippet.place(snippet.node)})"
        changes = {
            parameter: self.expression(value, f"The argument {parameter!r} of {name}")
            for parameter, value in (defaults or {}).items()
        }
        self._write(name, [snippet], Scope.of(definition), user, changes)
        return name

    def _write(
        self,
        name: str,
        snippets: list[Snippet],
        scope: Scope,
        user: str,
        defaults: Mapping[str, str] | None = None,
    ) -> None:
        """Adds statements that stand together, and what they need."""
        path = snippets[0].file.path
        if path not in self._files:
            self._files.append(path)
        texts = []
        later: dict[str, bool] = {}  # whether each name is needed only later
        for snippet in snippets:
            names = _Names(self, snippet, scope, user)
            replacements = self._folder.fold(snippet, names)
            if defaults:
                replacements |= new_defaults(snippet, replacements, defaults)
            text = without_decorator(snippet.edited(replacements), scope.is_model_wrapper)
            tree = ast.parse(text)
            eager = {node.id for node in free_names(run_at_once(text))}
            hinted = set()
            for node, use in free_names(tree).items():
                if use == "annotation":
                    hinted.add(node.id)
                else:
                    later[node.id] = later.get(node.id, True) and node.id not in eager
            texts.append(text.strip("\n"))
            self._add_hints(hinted, scope, user)
        for needed in sorted(set(later) - {name}):
            if needed not in names.given:
                self._add_name(needed, scope, user)
        self._definitions[name] = _Definition(
            "\n".join(texts),
            {each for each, is_later in later.items() if not is_later},
            {each for each, is_later in later.items() if is_later},
            (-self._files.index(path), snippets[0].node.lineno),
        )

    def _write_text(self, name: str, text: str, needed: set[str]) -> None:
        """Adds a statement that stands nowhere in the user's source."""
        last = max((d.place for n, d in self._definitions.items() if n in needed), default=(0, 0))
        self._definitions[name] = _Definition(text, needed, set(), last)

    def _is_known(self, name: str, thing: Any) -> bool:
        """Whether `name` already stands for `thing` in the file; from now on it does.

        Raises:
            ExportError: if it stands for something else.
        """
        is_known = name in self._things
        if is_known and not _is_same(self._things[name], thing):
            raise ExportError(
                f"Two different things are called {name!r} in the source of this model, {_what(self._things[name])} "
                f"and {_what(thing)}, and one file cannot hold both; rename one of them."
            )
        self._things[name] = thing
        return is_known

    # -- names -----------------------------------------------------------------------------------

    def _add_hints(self, names: set[str], scope: Scope, user: str) -> None:
        """Names in annotations, which nothing evaluates: imported or defined where that is simple."""
        for name in names - _BUILTINS:
            if scope.value(name) is lightning_nas.nn:
                self._hints.setdefault(name, Import("torch", "nn", name))
            elif (statement := scope.portable_import_of(name)) is not None:
                self._hints.setdefault(name, statement)
            elif name not in self._things and scope.is_alias(name):
                self._add_name(name, scope, user)

    def _add_name(self, name: str, scope: Scope, user: str) -> None:
        """Makes `name` stand in the file for what it stands for in `scope`."""
        value = scope.value(name)
        if value is MISSING:
            self._add_unbound(name, scope, user)
        elif isinstance(value, ModuleType):
            self._add_module(name, value, scope, user)
        elif not self._added_import(name, value, scope):
            self._reject_foreign(value, name, scope, user)
            if is_definition(value) and locate(value) is not None:
                self._reject_our_own(value, user)
                own = self.add(value)
                if own != name and not self._is_known(name, unwrapped(value)):
                    self._write_text(name, f"{name} = {own}", {own})
            else:
                self._add_constant(name, value, scope, user)

    def _add_unbound(self, name: str, scope: Scope, user: str) -> None:
        """A name of a function around, used where no method holds it, or a name that exists nowhere."""
        if scope.origin(name) == "parameter":
            raise undefined(name, user)
        if name in _BUILTINS or not scope.statements(name):
            return
        if not self._is_known(name, scope.statements(name)[0]):
            self._write_assignments(name, scope, user)

    def _add_module(self, name: str, module: ModuleType, scope: Scope, user: str) -> None:
        if module is lightning_nas.nn:
            module = nn
        self._reject_foreign(module, name, scope, user)
        statement = scope.portable_import_of(name) or public_import(module, name)
        if statement is None:
            raise ExportError(
                f"{user} uses the module {module.__name__} as a value; name what is needed of it instead."
            )
        self._import(name, statement, module)

    def _import(self, name: str, statement: Import, value: Any) -> None:
        if not self._is_known(name, value):
            self._imports[name] = statement

    def _added_import(self, name: str, value: Any, scope: Scope) -> bool:
        """Whether `name` comes from torch or the standard library, and is now imported from there."""
        statement = scope.portable_import_of(name)
        if statement is not None:
            self._import(name, statement, value)
            return True
        public = public_import(value, name)
        if public is None or public.module == "builtins":
            return public is not None and name in _BUILTINS
        # A name of the user's for something of torch: written as the user assigned it, if so.
        if scope.origin(name) == "global" and scope.assignments(name):
            return False
        self._import(name, public, value)
        return True

    def _add_constant(self, name: str, value: Any, scope: Scope, user: str) -> None:
        statement = scope.import_of(name)
        if statement is not None and statement.module in sys.modules:
            origin = Scope.of(sys.modules[statement.module])
            self._add_name(str(statement.name), origin, user)
            if statement.name != name and not self._is_known(name, value):
                self._write_text(name, f"{name} = {statement.name}", {str(statement.name)})
            return
        stars = () if scope.statements(name) else scope.star_imports()
        star = next((each for each in stars if vars(each).get(name, MISSING) is value), None)
        if star is not None:
            self._add_name(name, Scope.of(star), user)
            return
        if self._is_known(name, value):
            return
        if is_literal(value) and scope.origin(name) != "global":
            self._write_text(name, f"{name} = {literal(value)}", set())
        elif not self._write_assignments(name, scope, user):
            text, needed = self._text_of(value, f"{name!r}, which {user} uses,")
            self._write_text(name, f"{name} = {text}", needed)
        self._add_registered(value)

    def _write_assignments(self, name: str, scope: Scope, user: str) -> bool:
        """Adds the assignments of a constant as they stand, if there are any that can be told apart."""
        statements = scope.assignments(name)
        if not statements or scope.file is None:
            return False
        self._write(
            name, [Snippet(scope.file, node) for node in statements], scope, f"{user}, through {name!r},"
        )
        return True

    def _add_registered(self, value: Any) -> None:
        """Classes and functions that put themselves in a container by a decorator."""
        items = (
            value.values()
            if isinstance(value, dict)
            else value
            if isinstance(value, (list, tuple, set))
            else ()
        )
        for item in items:
            if is_definition(item) and not is_portable(item.__module__) and not is_foreign(item):
                located = locate(item)
                if located is not None and located[1].decorator_list:
                    self.add(item)

    # -- values ----------------------------------------------------------------------------------

    def expression(self, value: Any, what: str) -> str:
        """`value` as source; adds the classes and functions it names.

        Raises:
            ExportError: if it cannot be written; `what` names it in the message.
        """
        return self._text_of(value, what)[0]

    def _text_of(self, value: Any, what: str) -> tuple[str, set[str]]:
        """`value` as source, and the names in it."""
        needed: set[str] = set()

        def name_of(value: Any) -> str:
            public = public_import(value, str(getattr(value, "__name__", "")))
            if public is not None and public.module == "torch.nn":
                self._import("nn", Import("torch", "nn", "nn"), nn)
                needed.add("nn")
                return f"nn.{public.name}"
            if public is not None and public.module == "builtins":
                return public.bound
            if public is not None:
                self._import(public.bound, public, value)
                needed.add(public.bound)
                return public.bound
            if is_definition(value) and not is_foreign(value) and locate(value) is not None:
                needed.add(own := self.add(value))
                return own
            raise ExportError(
                f"{what} is of type {type(value).__name__}, which cannot be written as source; make it a number, a "
                "string, a class or function, or a list, tuple or dict of these."
            )

        return source_of_value(value, name_of), needed

    # -- what a file cannot hold -----------------------------------------------------------------

    def _reject_foreign(self, value: Any, name: str, scope: Scope, user: str) -> None:
        statement = scope.import_of(name)
        module = sys.modules.get(statement.module) if statement else None
        foreign = next((each for each in (value, module) if each is not None and is_foreign(each)), None)
        if foreign is not None:
            own = getattr(value, "__qualname__", name)
            place = foreign.__name__ if isinstance(foreign, ModuleType) else foreign.__module__
            thing = place if isinstance(value, ModuleType) else f"{place}.{own}"
            raise ExportError(
                f"{user} uses {thing}, which is neither torch nor the standard library, so the file could not stand "
                "on its own; copy what is used of it into your own source."
            )

    def _reject_our_own(self, value: Any, user: str) -> None:
        """Refuses what belongs to a search and not to the model it found."""
        module = str(value.__module__)
        if module.partition(".")[0] != OURS or module.startswith((f"{OURS}.hub", f"{OURS}.demo")):
            return
        if value in _WRITTEN or is_error(value):
            return
        is_choice = value is ValueChoice or (isinstance(value, type) and issubclass(value, Choice))
        raise ExportError(
            f"{user} uses {value.__qualname__} "
            + (
                "otherwise than by calling it under that name; write out the call where the choice is made."
                if is_choice
                else "of lightning-nas, which a file that needs torch alone cannot; move that out of the model."
            )
        )


class _Names(Names):
    """What the names of one snippet stand for, and how they are written in the file."""

    def __init__(self, closure: Closure, snippet: Snippet, scope: Scope, user: str) -> None:
        self._closure = closure
        self._scope = scope
        self._user = user
        self._free = free_names(snippet.node)
        self._bound = names_bound_inside(snippet.node)
        self.given: set[str] = set()
        """Names that the file holds by now, whatever they stand for in the scope."""

    def value(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Name):
            return self._scope.value(node.id) if self._free.get(node) == "code" else MISSING
        if isinstance(node, ast.Attribute):
            owner = self.value(node.value)
            return MISSING if owner is MISSING else getattr(owner, node.attr, MISSING)
        return MISSING

    def claim(self, name: str, thing: Any) -> None:
        if any(node.id == name for node in self._free):
            mine = self._scope.value(name)
            if mine is not MISSING and mine is not thing and not (mine is lightning_nas.nn and thing is nn):
                self._closure._is_known(name, mine)
        self._closure._is_known(name, thing)
        self.given.add(name)

    def need(self, thing: Any) -> str:
        name = str(thing.__name__)
        self._closure.add(thing)
        self.claim(name, thing)
        return name

    def torch_nn(self) -> str:
        self._closure._imports.setdefault("nn", Import("torch", "nn", "nn"))
        self.claim("nn", nn)
        return "nn"

    def module(self, name: str) -> str:
        module = sys.modules[name]
        self._closure._imports.setdefault(name, Import(name, None, name))
        self.claim(name, module)
        return name

    def renamed(self, node: ast.Name | ast.Attribute) -> str | None:
        value = self.value(node)
        if is_error(value):
            return next(str(base.__name__) for base in value.__mro__ if base.__module__ == "builtins")
        if isinstance(node, ast.Name) or value is MISSING or value is model_wrapper:
            return None
        if value is lightning_nas.nn:
            return self.torch_nn()
        owner = self.value(node.value)
        if not isinstance(owner, ModuleType) or is_portable(owner.__name__):
            return None
        if owner is lightning_nas.nn and hasattr(nn, node.attr):
            return None
        if isinstance(value, ModuleType) and not is_portable(value.__name__):
            return None  # more of the dotted name follows
        return self._member(owner, node.attr, value)

    def _member(self, owner: ModuleType, attribute: str, value: Any) -> str:
        """A bare name for a member of a module that the file will not import."""
        scope = Scope.of(owner)
        self._closure._reject_foreign(owner, owner.__name__, scope, self._user)
        self._closure._add_name(attribute, scope, self._user)
        name = attribute
        is_used = (
            any(node.id == attribute for node in self._free) and self._scope.value(attribute) is not value
        )
        if attribute in self._bound or is_used:
            name = f"{owner.__name__.rpartition('.')[2]}_{attribute}"
            if not self._closure._is_known(name, value):
                self._closure._write_text(name, f"{name} = {attribute}", {attribute})
        self.given.add(name)
        return name


def is_error(value: Any) -> bool:
    """Whether `value` is one of our own classes of errors."""
    return isinstance(value, type) and issubclass(value, NASError) and value.__module__ == NASError.__module__


def _is_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    # Equal numbers and strings of two modules are one constant.
    return is_literal(one) and type(one) is type(other) and repr(one) == repr(other)


def _what(thing: Any) -> str:
    if isinstance(thing, ModuleType):
        return f"the module {thing.__name__}"
    name = getattr(thing, "__qualname__", None)
    return f"{thing.__module__}.{name}" if name else repr(thing)[:60]
