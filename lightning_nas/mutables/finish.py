"""What happens when the outermost constructor of a model ends.

Labels are settled, chosen modules take the places of their choices, and traced values become plain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import nn

from lightning_nas.errors import SpaceError
from lightning_nas.mutables import chooser as choosers
from lightning_nas.mutables.choice import Choice
from lightning_nas.mutables.chooser import Chooser, Explorer, Recorder
from lightning_nas.mutables.origins import note_origin
from lightning_nas.mutables.values import Expression, Traced, expression_of, plain


def finish(root: nn.Module, chooser: Chooser) -> dict[str, Expression]:
    """Finishes a model whose constructor ran under `chooser`. Changes `root` in place.

    Returns:
        How attributes follow from choices, by path (`fc1.out_features`); empty unless `chooser`
        traces values.
    """
    with choosers.using(chooser):
        if isinstance(chooser, choosers.Defaults):
            _label(root, chooser)
            return untrace(root)
        if isinstance(chooser, Explorer):
            _explore(root, "", chooser, {})
            return {}
        _substitute(root, chooser)
        return {}


def labeller() -> Callable[[Choice, str], str]:
    """The label of a choice at a path; copies of one choice share the label of the first."""
    by_identity: dict[Any, str] = {}

    def label_of(choice: Choice, path: str) -> str:
        return choice.label or by_identity.setdefault(choice.identity, path)

    return label_of


def join(path: str, name: str) -> str:
    """The path of what is called `name` below `path`."""
    return f"{path}.{name}" if path and name else path or name


def _label(root: nn.Module, chooser: Chooser) -> None:
    label_of = labeller()

    def walk(module: nn.Module, path: str) -> None:
        parts = module.named_children()
        if isinstance(module, Choice):
            module.label = label_of(module, path)
            module.choose(module.label)
            parts = iter(module.made())
        for name, child in parts:
            walk(child, join(path, name))

    walk(root, "")


def _explore(module: nn.Module, path: str, chooser: Chooser, memo: dict[Any, str]) -> None:
    if not isinstance(module, Choice):
        for name, child in module.named_children():
            _explore(child, join(path, name), chooser, memo)
        return
    label = module.label or memo.setdefault(module.identity, path)
    module.choose(label)
    for name, clause, get in module.branches(label):
        with chooser.within(clause):
            _explore(get(), join(path, name), chooser, memo)


def _substitute(root: nn.Module, chooser: Chooser) -> None:
    label_of = labeller()
    settled: dict[int, nn.Module] = {}
    kept: list[Choice] = []  # keeps ids unique while `settled` is in use

    def settle(choice: Choice, path: str) -> nn.Module:
        if id(choice) in settled:
            return settled[id(choice)]
        kept.append(choice)
        label = label_of(choice, path)
        values = choice.choose(label)
        if isinstance(chooser, Recorder):
            for event in chooser.events:
                if event.choice is choice:
                    event.label, event.values = label, values
        module = choice.chosen(values, label)
        module_path = choice.path_of_chosen(path, values, label)
        if isinstance(module, Choice):
            module = settle(module, module_path)
        else:
            walk(module, module_path)
            for origin, part in choice.origins(module, label):
                note_origin(part, origin)
        settled[id(choice)] = module
        return module

    def walk(module: nn.Module, path: str) -> None:
        for name, child in list(module._modules.items()):
            if child is None:
                continue
            if isinstance(child, Choice):
                module._modules[name] = settle(child, join(path, name))
            else:
                walk(child, join(path, name))

    walk(root, "")

    def replaced(path: str, value: Any) -> Any:
        if isinstance(value, Choice) and id(value) not in settled:
            raise SpaceError(
                f"The choice in `{path}` ({value.site}) is not part of the model: assign it to an attribute "
                "of its module or put it in an nn.ModuleList."
            )
        return settled[id(value)] if isinstance(value, Choice) else value

    for module, name, path in plain_attributes(root):
        # torch's own modules keep no other modules in plain attributes, and most modules are torch's.
        if not type(module).__module__.startswith("torch."):
            vars(module)[name] = mapped(vars(module)[name], partial(replaced, path))


def untrace(root: nn.Module) -> dict[str, Expression]:
    """Makes traced attributes plain (in place); returns how they follow from choices, by path."""
    expressions: dict[str, Expression] = {}
    for module, name, path in plain_attributes(root):
        value = vars(module)[name]
        expression = expression_of(value)
        if expression is not None:
            expressions[path] = expression
        vars(module)[name] = mapped(value, plain)
    return expressions


def plain_attributes(root: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Every plain attribute of every module, with its path."""
    for path, module in root.named_modules():
        for name in list(vars(module)):
            if name not in ("_parameters", "_buffers", "_modules"):
                yield module, name, join(path, name)


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """`value` with `function` applied inside lists, tuples and dicts; the same object if nothing changed."""
    if type(value) in (list, tuple):
        items = [mapped(item, function) for item in value]
        return value if all(a is b for a, b in zip(items, value)) else type(value)(items)
    if type(value) is dict:
        pairs = {mapped(key, function): mapped(item, function) for key, item in value.items()}
        is_same = all(pairs.get(key) is item for key, item in value.items())
        return value if is_same and not any(isinstance(key, Traced) for key in value) else pairs
    return function(value)
