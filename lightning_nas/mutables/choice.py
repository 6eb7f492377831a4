"""What all choices share: modules that stand for several, and `ValueChoice`, which stands for a value."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FrameType
from typing import Any, Literal

from torch import nn

from lightning_nas.errors import SpaceError
from lightning_nas.mutables import chooser as choosers
from lightning_nas.mutables.chooser import Clause, Site
from lightning_nas.mutables.values import Expression, apply, plain, traced
from lightning_nas.space import Categorical, Domain

Factory = Callable[..., nn.Module]

Branch = tuple[str, Clause, Callable[[], nn.Module]]
"""A part that exists only under a clause: its path below the choice, the clause, and how to get it."""


class _Identity:
    """Told apart by identity, also between deep copies: copies of one choice are one choice."""

    def __copy__(self) -> _Identity:
        return self

    def __deepcopy__(self, memo: object) -> _Identity:
        return self


class Choice(nn.Module, ABC):
    """A module that stands for several; `build` puts the chosen one in its place.

    Used as it is, it runs its default. A choice knows its label from the start if the user gave
    one; otherwise it takes its attribute path when the outermost constructor ends.

    Args:
        label: the name of the choice in samples, or None for its attribute path.
        frame: the frame of the user's code that makes the choice.
    """

    def __init__(self, label: str | None, frame: FrameType) -> None:
        super().__init__()
        if label is not None and (not isinstance(label, str) or not label):
            raise TypeError(f"`label` must be a non-empty string or None, but got {label!r}.")
        self.label = label
        self.site = Site.of(frame)
        self.identity = _Identity()
        chooser = choosers.current()
        if chooser is not None:
            chooser.on_choice(self, frame)

    @abstractmethod
    def domains(self, label: str) -> dict[str, Domain]:
        """The labels this choice adds to the space, if its own label is `label`."""

    @abstractmethod
    def chosen(self, values: Mapping[str, Any], label: str) -> nn.Module:
        """The plain module for the values of `domains(label)`."""

    def branches(self, label: str) -> Iterable[Branch]:
        """Every part that depends on a value; empty if none can hold choices of its own."""
        return ()

    def made(self) -> Iterable[tuple[str, nn.Module]]:
        """The parts that are there at the defaults, with their paths below the choice."""
        return self.named_children()

    def origins(self, module: nn.Module, label: str) -> Iterable[tuple[str, nn.Module]]:
        """Those parts of the chosen `module` that not every sample has, with the labels that put them there."""
        yield label, module

    def path_of_chosen(self, path: str, values: Mapping[str, Any], label: str) -> str:
        """Where the chosen module stood before it took the place of the choice at `path`."""
        return path

    def choose(self, label: str) -> dict[str, Any]:
        """The values of its labels, as the chooser of the model being built decides."""
        chooser = choosers.current()
        assert chooser is not None, "a choice is only decided while a model is built"
        return {name: chooser.choose(name, domain, self.site) for name, domain in self.domains(label).items()}

    @staticmethod
    def explore(clause: Clause, get: Callable[[], nn.Module]) -> None:
        """Makes a part; the labels met on the way are active only under `clause`."""
        chooser = choosers.current()
        assert chooser is not None, "parts are only explored while a model is built"
        with chooser.within(clause):
            get()


def stage_of(choice: Choice) -> Literal["default", "explore", "decided", "idle"]:
    """What a choice has to make while the user's constructor still runs.

    "decided" says that its values are known; "idle" that a sample is built which does not hold its
    labels, so that it stands in a part which will not be chosen.
    """
    chooser = choosers.current()
    if isinstance(chooser, choosers.Explorer):
        return "explore"
    if isinstance(chooser, choosers.Fixed):
        names = choice.domains(choice.label) if choice.label is not None else ()
        return "decided" if names and all(name in chooser.sample for name in names) else "idle"
    return "default"


def candidates_of(kind: str, candidates: Sequence[Any] | Mapping[str, Any], site: Site) -> dict[str, Any]:
    """Candidates by their child's name: the key, or the index as a string.

    Raises:
        SpaceError: if there is none.
        TypeError: if one is neither a module nor a function that makes one.
        ValueError: if a key cannot name a child module.
    """
    named = dict(candidates) if isinstance(candidates, Mapping) else dict(enumerate(candidates))
    if not named:
        raise SpaceError(f"{kind} at {site} has no candidates; give it at least one.")
    result: dict[str, Any] = {}
    for key, candidate in named.items():
        if not isinstance(candidate, nn.Module) and not callable(candidate):
            raise TypeError(
                f"Candidate {key!r} of {kind} at {site} must be a module or a function that makes one, "
                f"but is {candidate!r}."
            )
        name = str(key)
        if not name or "." in name or hasattr(nn.Module, name):
            raise ValueError(
                f"{kind} at {site} cannot call a candidate {key!r}: a name must be non-empty, without a dot, "
                "and not a name of torch.nn.Module."
            )
        result[name] = candidate
    return result


class ValueChoice:
    """One of several values: a number, a string, a tuple of them, a bool or None.

    `ValueChoice([64, 128, 256], label="hidden")` *is* the value, not a wrapper around it: the
    first one while a model space runs at its defaults, the chosen one in a built model. Any code
    of the constructor may use it. At the defaults, integers, floats, strings and tuples remember
    their label through arithmetic (see `values.py`).

    Args:
        candidates: distinct values that JSON can hold (tuples are allowed).
        label: the name of the choice in samples. Without one it is numbered per class in order of
            creation (`net_1`, `net_2`, ...).
        prior: probabilities for random sampling, one per candidate; uniform if None.

    Raises:
        SpaceError: if there are no candidates, two are equal, `prior` does not sum to 1, or `label` has
            other candidates elsewhere.

    Source: Retiarii's `nn.ValueChoice` (Zhang et al., OSDI 2020); there it is a lazy expression.
    """

    def __new__(
        cls, candidates: Sequence[Any], *, label: str | None = None, prior: Sequence[float] | None = None
    ) -> Any:
        frame = sys._getframe(1)
        site = Site.of(frame)
        try:
            domain = Categorical(tuple(map(plain, candidates)), None if prior is None else tuple(prior))
        except SpaceError as error:
            raise SpaceError(f"ValueChoice at {site}: {error}") from None
        chooser = choosers.current()
        if chooser is None:
            return domain.default if label is None else traced(domain.default, Expression.of_label(label))
        name = chooser.next_label() if label is None else label
        value = chooser.choose(name, domain, site, is_value=True, is_numbered=label is None)
        chooser.on_value(name, value, frame)
        return traced(value, Expression.of_label(name)) if chooser.is_tracing else value

    @staticmethod
    def to_int(value: Any) -> Any:
        """`int(value)`, remembering the choice."""
        return apply("int", value)

    @staticmethod
    def to_float(value: Any) -> Any:
        """`float(value)`, remembering the choice."""
        return apply("float", value)

    @staticmethod
    def condition(predicate: Any, if_true: Any, if_false: Any) -> Any:
        """`if_true if predicate else if_false`, remembering the choices of all three."""
        return apply("if", predicate, if_true, if_false)

    @staticmethod
    def max(*values: Any) -> Any:
        """`max(*values)`, remembering the choices of all of them; also of one iterable."""
        return apply("max", *_spread(values))

    @staticmethod
    def min(*values: Any) -> Any:
        """`min(*values)`, remembering the choices of all of them; also of one iterable."""
        return apply("min", *_spread(values))


def _spread(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(values[0]) if len(values) == 1 else values
