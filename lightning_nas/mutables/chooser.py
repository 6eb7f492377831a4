"""The chooser: what a choice asks, while a model's constructor runs, which value it has.

One constructor serves three choosers. `Defaults` lets a model run as it is written and traces its
values, `Fixed` builds the model of one sample, `Explorer` finds out which labels there are. The
chooser of the model being built is one of the two ambient values of this package.
"""

from __future__ import annotations

import ast
import contextlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from lightning_nas.errors import SampleError, SpaceError
from lightning_nas.space import Categorical, Domain, Subset

Clause = Mapping[str, tuple[Any, ...]]
"""Labels and the values they must have, all of them: one clause of a `Condition`."""


@dataclass(frozen=True)
class Site:
    """Where in the user's code a choice stands."""

    file: str
    line: int

    @classmethod
    def of(cls, frame: FrameType) -> Site:
        """The line that `frame` runs."""
        return cls(frame.f_code.co_filename, frame.f_lineno)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass
class Met:
    """A label that a constructor met: its domain, where, and in which branches of other choices."""

    domain: Domain
    site: Site
    is_value: bool = False
    is_numbered: bool = False
    clauses: list[Clause] = field(default_factory=list)


class Chooser(ABC):
    """Answers choices during one run of a constructor, and keeps what it met."""

    is_tracing = False

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forgets what was met, for another run."""
        self.met: dict[str, Met] = {}
        self.values: dict[str, Any] = {}
        self.branch: dict[str, tuple[Any, ...]] = {}
        self._owners: list[str] = []
        self._numbers: Counter[str] = Counter()

    def choose(
        self, label: str, domain: Domain, site: Site, *, is_value: bool = False, is_numbered: bool = False
    ) -> Any:
        """The value of `label`; the same one each time it is asked for.

        Args:
            label, domain, site: what is chosen, among what, and where in the user's code.
            is_value: the constructor sees the value (a `ValueChoice`), not only a module.
            is_numbered: the label was not given by the user but counted.

        Raises:
            SpaceError: if the label was met with another domain.
        """
        met = self.met.setdefault(label, Met(domain, site, is_value, is_numbered))
        if met.domain != domain:
            raise SpaceError(
                f"The label {label!r} is used twice with different candidates: {met.domain} at {met.site} "
                f"and {domain} at {site}. Use another label, or the same candidates."
            )
        if self.branch not in met.clauses:
            met.clauses.append(dict(self.branch))
        if label not in self.values:
            self.values[label] = self._decide(label, domain, site)
        return self.values[label]

    @abstractmethod
    def _decide(self, label: str, domain: Domain, site: Site) -> Any: ...

    @contextlib.contextmanager
    def within(self, clause: Clause) -> Iterator[None]:
        """Labels met inside are active only where `clause` holds."""
        outer = self.branch
        self.branch = {**outer, **clause}
        try:
            yield
        finally:
            self.branch = outer

    @contextlib.contextmanager
    def owned_by(self, name: str) -> Iterator[None]:
        """Unlabelled values inside are numbered for the class called `name`."""
        self._owners.append(name.lower())
        try:
            yield
        finally:
            self._owners.pop()

    def on_choice(self, choice: Any, frame: FrameType) -> None:  # noqa: B027
        """Called when a module choice is made in the user's `frame`."""

    def on_value(self, label: str, value: Any, frame: FrameType) -> None:  # noqa: B027
        """Called when a value is chosen in the user's `frame`."""

    def next_label(self) -> str:
        """The label of the next unlabelled value: the class and a number counted from 1."""
        owner = self._owners[-1] if self._owners else "value"
        self._numbers[owner] += 1
        return f"{owner}_{self._numbers[owner]}"


class Defaults(Chooser):
    """Every choice at its default; values are traced."""

    is_tracing = True

    def _decide(self, label: str, domain: Domain, site: Site) -> Any:
        return domain.default


class Fixed(Chooser):
    """Every choice as a sample says, in our form or in the forms that NNI exported.

    A label that the sample does not hold is an error where the constructor needs its value.
    """

    def __init__(self, sample: Mapping[str, Any]) -> None:
        super().__init__()
        self.sample = sample

    def _decide(self, label: str, domain: Domain, site: Site) -> Any:
        if label not in self.sample:
            have = ", ".join(map(repr, sorted(self.sample))) or "no label at all"
            raise SampleError(f"The sample has no value for {label!r} ({site}); it has {have}.")
        return coerce(label, domain, self.sample[label])


@dataclass
class Event:
    """One choice made while a sample was built, and the call in the user's source that made it.

    `label` and `value` are those of a ValueChoice; for a module choice, `choice` is the module, and
    `label` and `values` are known once the model is finished.
    """

    node: ast.Call | None
    file: str
    label: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    choice: Any = None


class Recorder(Fixed):
    """As `Fixed`, and keeps an `Event` for each choice: what the export of code works from."""

    def __init__(self, sample: Mapping[str, Any]) -> None:
        super().__init__(sample)
        self.events: list[Event] = []

    def on_choice(self, choice: Any, frame: FrameType) -> None:
        self.events.append(Event(_call_in(frame), frame.f_code.co_filename, choice=choice))

    def on_value(self, label: str, value: Any, frame: FrameType) -> None:
        self.events.append(Event(_call_in(frame), frame.f_code.co_filename, label, {label: value}))


def _call_in(frame: FrameType) -> ast.Call | None:
    from executing import Source  # only the export of code pays for it

    node = Source.executing(frame).node
    return node if isinstance(node, ast.Call) else None


class Explorer(Chooser):
    """Values as given, all else at its default, and every candidate of every module choice built."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self._given = values

    def _decide(self, label: str, domain: Domain, site: Site) -> Any:
        return self._given.get(label, domain.default)


def coerce(label: str, domain: Domain, value: Any) -> Any:
    """`value` as `domain` writes it.

    Accepts what NNI exported as well: the index of a layer as a string, a single input as a list
    or several as one integer, and lists where a candidate is a tuple.

    Raises:
        SampleError: if it is none of these; the message names the label and what would be right.
    """
    if domain.why_not(value) is None:
        return domain.normalise(value)
    if isinstance(domain, Categorical):
        if isinstance(value, (list, tuple)) and len(value) == 1 and domain.why_not(value[0]) is None:
            return domain.normalise(value[0])
        if isinstance(value, str) and value.isdecimal() and domain.why_not(int(value)) is None:
            return int(value)
    elif isinstance(domain, Subset) and domain.why_not([value]) is None:
        return domain.normalise([value])
    raise SampleError(f"The sample's value for {label!r} is wrong: {domain.why_not(value)}")


@dataclass(frozen=True)
class Ordered:
    """Stands in the chooser's place until a wrapped constructor starts: it is to build this sample."""

    sample: Mapping[str, Any]


_chooser: ContextVar[Chooser | Ordered | None] = ContextVar("lightning_nas_chooser", default=None)


def current() -> Chooser | None:
    """The chooser of the model being built; None outside a wrapped constructor."""
    chooser = _chooser.get()
    return chooser if isinstance(chooser, Chooser) else None


def ordered() -> Ordered | None:
    """The sample that the next wrapped constructor is to build, if `fixed_arch` ordered one."""
    order = _chooser.get()
    return order if isinstance(order, Ordered) else None


@contextlib.contextmanager
def using(chooser: Chooser | Ordered) -> Iterator[None]:
    """Makes `chooser` answer the choices made inside."""
    token = _chooser.set(chooser)
    try:
        yield
    finally:
        _chooser.reset(token)
