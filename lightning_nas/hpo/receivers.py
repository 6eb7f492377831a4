"""What takes the labels of a space as arguments: the module, the data, the Trainer."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)

Route = tuple[str, str]
"""The role of what takes an argument, and the argument's name."""


@dataclass(frozen=True)
class Receiver:
    """Something made by a call, with arguments of these names.

    Args:
        role: "module", "datamodule" or "trainer": the prefix of a label that means it.
        title: its name in messages.
        names: of all its arguments.
        required: those that must be given.
        takes_any: whether it takes arguments of further names, which only a prefix can give it.
        unsaved: arguments of something made already, which it cannot be made anew with.
    """

    role: str
    title: str
    names: tuple[str, ...]
    required: tuple[str, ...] = ()
    takes_any: bool = False
    unsaved: tuple[str, ...] = ()

    def check_complete(self, given: Collection[str]) -> None:
        """Raises TypeError if a required argument is not among `given`."""
        missing = [name for name in self.required if name not in given]
        if missing:
            raise TypeError(
                f"{self.title} needs {', '.join(map(repr, missing))}, which the space does not have: add it, or give "
                f"functools.partial({self.title}, {missing[0]}=...)."
            )


def receiver_of_module(module: Any, has_model: bool) -> Receiver:
    """What makes the LightningModule; the first argument of one with a model is the model.

    Raises:
        TypeError: if it cannot be called, or does not take a model.
    """
    title = _title(module)
    if not callable(module) or _is_a_torch_module(module):
        raise TypeError(
            "`module` must make a LightningModule, such as its class, since each trial needs one of its own, but got "
            f"a {title}."
        )
    parameters = list(inspect.signature(module).parameters.values())
    if has_model:
        if not parameters or parameters[0].kind not in (*_NAMED[:1], Parameter.POSITIONAL_ONLY):
            raise TypeError(
                f"{title} must take the network as its first argument, since a `model` was given."
            )
        parameters = parameters[1:]
    return _receiver("module", title, parameters)


def receiver_of_data(data: Any) -> list[Receiver]:
    """What makes the data, as a list of one; none for None and for loaders that are there already."""
    if hasattr(data, "hparams") and not isinstance(data, type):  # a data module
        parameters = inspect.signature(type(data)).parameters
        saved = tuple(name for name in parameters if name in data.hparams)
        unsaved = tuple(name for name in parameters if name not in data.hparams)
        return [Receiver("datamodule", _title(data), saved, unsaved=unsaved)]
    if not callable(data):
        return []
    return [_receiver("datamodule", _title(data), list(inspect.signature(data).parameters.values()))]


def receiver_of_trainer() -> Receiver:
    """The Trainer; both roots have the same arguments."""
    from pytorch_lightning import Trainer

    return Receiver("trainer", "Trainer", tuple(inspect.signature(Trainer).parameters))


def routes(labels: Sequence[str], receivers: Sequence[Receiver]) -> dict[str, Route]:
    """Which argument each label is.

    Raises:
        ValueError: if a label is none, or the argument of several roles.
    """
    return {label: _route(label, receivers) for label in labels}


def with_arguments(data: Any, arguments: Mapping[str, Any]) -> Any:
    """`data` as a function that makes it with those of `arguments` that it takes; as it is if it takes none."""
    receivers = receiver_of_data(data)
    if not receivers:
        return data
    (receiver,) = receivers
    own = {n: v for n, v in arguments.items() if n in receiver.names or receiver.takes_any}
    if not own:
        return data
    if callable(data):
        return functools.partial(data, **own)
    make: Any = type(data)
    return functools.partial(make, **{name: data.hparams[name] for name in receiver.names} | own)


def _route(label: str, receivers: Sequence[Receiver]) -> Route:
    role, _, name = label.partition(".")
    for receiver in receivers:
        if receiver.role == role and name and (name in receiver.names or receiver.takes_any):
            return role, name
    takers = [receiver for receiver in receivers if label in receiver.names]
    roles = list(dict.fromkeys(receiver.role for receiver in takers))
    if len(roles) == 1:
        return roles[0], label
    if takers:
        places = " and ".join(dict.fromkeys(receiver.title for receiver in takers))
        forms = " or ".join(f"'{role}.{label}'" for role in roles)
        raise ValueError(f"The label {label!r} is an argument of {places}; write {forms} to say which.")
    for receiver in receivers:
        if {label, name} & set(receiver.unsaved):
            raise ValueError(
                f"The label {label!r} is an argument that this {receiver.title} has not kept; call "
                "self.save_hyperparameters() in its constructor, or give the class."
            )
    known = {name: receiver.title for receiver in receivers for name in receiver.names}
    close = difflib.get_close_matches(name or label, known, n=1) or difflib.get_close_matches(
        label, known, n=1
    )
    titles = ", ".join(dict.fromkeys(receiver.title for receiver in receivers))
    hint = f"did you mean {close[0]!r} of {known[close[0]]}?" if close else _open(receivers)
    raise ValueError(f"The label {label!r} is no argument of {titles}; {hint}")


def _open(receivers: Sequence[Receiver]) -> str:
    """What to do where nothing is close."""
    names = [f"{r.title}({', '.join(r.names)})" for r in receivers if r.role != "trainer"]
    return f"there are {' and '.join(names)}."


def _receiver(role: str, title: str, parameters: Sequence[Parameter]) -> Receiver:
    named = [each for each in parameters if each.kind in _NAMED]
    return Receiver(
        role,
        title,
        tuple(each.name for each in named),
        tuple(each.name for each in named if each.default is Parameter.empty),
        any(each.kind is Parameter.VAR_KEYWORD for each in parameters),
    )


def _title(thing: Any) -> str:
    if isinstance(thing, functools.partial):
        return _title(thing.func)
    return getattr(thing, "__name__", None) or type(thing).__name__


def _is_a_torch_module(thing: Any) -> bool:
    from torch import nn

    return isinstance(thing, nn.Module)
