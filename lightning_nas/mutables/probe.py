"""Finds the labels of a model space, and when each is active, by running its constructor.

Choices among modules are explored all at once: in one run every candidate is made, and what is met
inside a candidate is active only there. A value may steer the constructor itself
(`for i in range(depth)`), so each value of each `ValueChoice` gets a run of its own, with all other
values as in the run that found the label. That shows every condition on one value. Conditions on
several (`if a == 2 and b == 2`) are found by building random samples and comparing the labels met
with those predicted.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lightning_nas.errors import SampleError, SpaceError
from lightning_nas.mutables.chooser import Chooser, Explorer, Fixed, Met
from lightning_nas.space import Condition, SearchSpace, value_key

CHECKED_SAMPLES = 64
"""Random samples that must meet exactly the labels predicted, one after the other."""

_MAX_CORRECTIONS = 200

Run = Callable[[Chooser], nn.Module]
_Clause = frozenset[tuple[str, frozenset[Any]]]
"""`{(label, keys of values)}`: all of the labels have one of their values."""
_Clauses = frozenset[_Clause]
"""Any of the clauses holds; the empty clause always does; no clause at all means never."""

_ALWAYS: _Clauses = frozenset({frozenset()})
_NEVER: _Clauses = frozenset()


def probe(run: Run, *, is_editing: bool = False) -> SearchSpace:
    """The search space of a constructor.

    Args:
        run: runs the constructor under a chooser and finishes the model.
        is_editing: whether the finished model is then edited by mutators. What they meet depends on
            the chosen modules too, so no choice is explored all at once: each value gets its run.

    Returns:
        All labels, with the condition of each that is not always active.

    Raises:
        SpaceError: if a label has different candidates in different places, if an unlabelled value
            stands where it depends on other values, or if the conditions stay unclear.
        Exception: whatever the constructor raises at its defaults.
    """
    with untouched_random_states():
        return _Probe(run, is_editing).space()


@dataclass(frozen=True)
class _Meeting:
    """What one run met: labels with the module choices they depend on."""

    met: Mapping[str, Met]
    clauses: Mapping[str, _Clauses]

    def of(self, label: str) -> _Clauses:
        return self.clauses.get(label, _NEVER)


class _Probe:
    def __init__(self, run: Run, is_editing: bool) -> None:
        self._run = run
        self._is_editing = is_editing
        self._known: dict[str, Met] = {}
        self._meetings: dict[frozenset[tuple[str, Any]], _Meeting | None] = {}
        self._device = "meta"

    def space(self) -> SearchSpace:
        contexts = self._explore_values()
        clauses = {label: self._clauses_of(label, contexts) for label in self._known}
        space = self._space(clauses)
        # Where the constructor never sees a value, what module choices hide is all there is.
        if contexts:
            space = self._corrected(clauses, space)
        self._reject_wandering_numbers(space)
        return space

    # -- single values ---------------------------------------------------------------------------

    def _explore_values(self) -> dict[str, dict[str, Any]]:
        """Runs each value of each value choice; returns the values under which each label was found."""
        first = self._explored({})
        assert first is not None
        contexts: dict[str, dict[str, Any]] = {}
        queue = self._new_values(first, {}, contexts)
        while queue:
            label = queue.pop(0)
            for value in self._values(label):
                given = {**contexts[label], label: value}
                meeting = self._explored(given)
                if meeting is not None:
                    queue += self._new_values(meeting, given, contexts)
        return contexts

    def _new_values(
        self, meeting: _Meeting, given: Mapping[str, Any], contexts: dict[str, dict[str, Any]]
    ) -> list[str]:
        new = [n for n, met in meeting.met.items() if self._steers(met) and n not in contexts]
        contexts.update((label, dict(given)) for label in new)
        return new

    def _steers(self, met: Met) -> bool:
        """Whether the choice may change what else is met, beyond the candidates it hides."""
        return met.is_value or self._is_editing

    def _values(self, label: str) -> tuple[Any, ...]:
        return tuple(self._known[label].domain)

    def _clauses_of(self, label: str, contexts: Mapping[str, Mapping[str, Any]]) -> _Clauses:
        """When `label` is met, as far as changing one value at a time tells."""
        first = self._explored({})
        assert first is not None
        required, offered = first.of(label), _NEVER
        for value_label, context in contexts.items():
            centre = self._explored(context)
            around = self._star(label, value_label, context)
            if len(set(around.values())) <= 1 or centre is None:
                continue
            clauses = _cases(value_label, around)
            if first.of(label):
                required = _both(required, clauses)
            elif not centre.of(label):
                offered = _either(offered, clauses)
        return required if first.of(label) else offered

    def _star(self, label: str, value_label: str, given: Mapping[str, Any]) -> dict[Any, _Clauses]:
        """The clauses of `label` for each value of `value_label`, all else as given."""
        found = {}
        for value in self._values(value_label):
            meeting = self._explored({**given, value_label: value})
            if meeting is not None:
                found[value_key(value)] = meeting.of(label)
        return found

    # -- several values --------------------------------------------------------------------------

    def _corrected(self, clauses: dict[str, _Clauses], space: SearchSpace) -> SearchSpace:
        rng = np.random.default_rng(0)
        agreed = corrections = 0
        while agreed < CHECKED_SAMPLES:
            sample = space.sample(rng)
            met = self._built(sample)
            wrong = set() if met is None else met ^ sample.keys()
            if not wrong:
                agreed += 1
                continue
            agreed, corrections = 0, corrections + 1
            label = min(wrong)
            if corrections > _MAX_CORRECTIONS:
                raise SpaceError(
                    f"It stays unclear when the label {label!r} ({self._known[label].site}) is active: it "
                    "depends on too many values at once. Make the choice at the top of the constructor."
                )
            self._correct(clauses, label, {n: v for n, v in sample.items() if self._steers(self._known[n])})
            space = self._space(clauses)
        return space

    def _correct(self, clauses: dict[str, _Clauses], label: str, given: dict[str, Any]) -> None:
        """Changes the clauses of `label` (in place) so that they are right at and around `given`."""
        here = self._explored(given)
        actual = _NEVER if here is None else here.of(label)
        box: dict[str, frozenset[Any]] = {}
        for value_label in given:
            around = self._star(label, value_label, given)
            alike = frozenset(value for value, found in around.items() if found == actual)
            if len(alike) < len(around):
                box[value_label] = alike
        if here is not None:
            for other in here.met.keys() - clauses.keys():
                clauses[other] = _NEVER
        inside = frozenset({frozenset(box.items())})
        outside = frozenset(
            frozenset({(name, frozenset(map(value_key, self._values(name))) - alike)})
            for name, alike in box.items()
        )
        kept = _both(clauses.get(label, _NEVER), outside)
        clauses[label] = _either(kept, _both(inside, actual))

    # -- runs ------------------------------------------------------------------------------------

    def _explored(self, given: Mapping[str, Any]) -> _Meeting | None:
        """What is met with these values, all candidates explored; None if the constructor refuses them."""
        key = frozenset((label, value_key(value)) for label, value in given.items())
        if key not in self._meetings:
            chooser = _Guessing(given) if self._is_editing else Explorer(given)
            self._meetings[key] = None
            if self._ran(chooser, is_needed=not given):
                self._remember(chooser.met)
                clauses = {label: _simplified(met.clauses) for label, met in chooser.met.items()}
                self._meetings[key] = _Meeting(chooser.met, clauses)
        return self._meetings[key]

    def _built(self, sample: Mapping[str, Any]) -> set[str] | None:
        """The labels that building `sample` meets; None if the constructor refuses it."""
        chooser = _Guessing(sample)
        if not self._ran(chooser, is_needed=False):
            return None
        self._remember(chooser.met)
        return set(chooser.met)

    def _ran(self, chooser: Chooser, *, is_needed: bool) -> bool:
        """Runs the constructor on the meta device, or on the CPU where it reads tensor values."""
        for device in dict.fromkeys((self._device, "cpu")):
            chooser.restart()
            try:
                with torch.device(device):
                    self._run(chooser)
            except (SpaceError, SampleError):
                raise
            except Exception:
                # A model that cannot be made for some values is a failed trial, not a broken space.
                if device == "cpu" and is_needed:
                    raise
            else:
                self._device = device if is_needed else self._device
                return True
        return False

    def _remember(self, found: Mapping[str, Met]) -> None:
        for label, met in found.items():
            known = self._known.setdefault(label, met)
            if known.domain != met.domain:
                raise SpaceError(
                    f"The label {label!r} is used twice with different candidates: {known.domain} at "
                    f"{known.site} and {met.domain} at {met.site}. Use another label, or the same candidates."
                )
            if met.is_numbered and known.site != met.site:
                raise _wandering(label, met)

    def _reject_wandering_numbers(self, space: SearchSpace) -> None:
        for label, met in self._known.items():
            if met.is_numbered and label in space.conditions:
                raise _wandering(label, met)

    def _space(self, clauses: Mapping[str, _Clauses]) -> SearchSpace:
        domains = {label: met.domain for label, met in self._known.items()}
        return SearchSpace(
            domains,
            {
                label: Condition(
                    *({n: tuple(v for v in domains[n] if value_key(v) in vs) for n, vs in c} for c in found)
                )
                for label, found in clauses.items()
                if frozenset() not in found
            },
        )


class _Guessing(Fixed):
    """As `Fixed`; a label that the sample lacks takes its default, as the prediction is on trial."""

    def _decide(self, label: str, domain: Any, site: Any) -> Any:
        return super()._decide(label, domain, site) if label in self.sample else domain.default


def _wandering(label: str, met: Met) -> SpaceError:
    return SpaceError(
        f"The unlabelled ValueChoice at {met.site} is made only for some values of other choices, so its number "
        f"({label}) would not always mean the same choice; give it a label."
    )


def _simplified(clauses: Iterable[Mapping[str, Iterable[Any]]]) -> _Clauses:
    """Clauses as met, without repeats and without those that another one contains."""
    return _absorbed(
        {frozenset((n, frozenset(map(value_key, vs))) for n, vs in clause.items()) for clause in clauses}
    )


def _cases(label: str, found: Mapping[Any, _Clauses]) -> _Clauses:
    """Clauses by the value of `label`, values with the same clauses together."""
    by_clauses: dict[_Clauses, set[Any]] = {}
    for value, clauses in found.items():
        by_clauses.setdefault(clauses, set()).add(value)
    parts: _Clauses = _NEVER
    for clauses, values in by_clauses.items():
        parts = _either(parts, _both(frozenset({frozenset({(label, frozenset(values))})}), clauses))
    return parts


def _either(one: _Clauses, other: _Clauses) -> _Clauses:
    return _absorbed(one | other)


def _both(one: _Clauses, other: _Clauses) -> _Clauses:
    joined = (_joined(a, b) for a in one for b in other)
    return _absorbed({clause for clause in joined if clause is not None})


def _joined(one: _Clause, other: _Clause) -> _Clause | None:
    """Both clauses at once; None if they contradict each other."""
    values = dict(one)
    for label, allowed in other:
        values[label] = values.get(label, allowed) & allowed
    return frozenset(values.items()) if all(values.values()) else None


def _absorbed(clauses: Iterable[_Clause]) -> _Clauses:
    """Clauses without those that a weaker one makes superfluous."""
    kept: list[_Clause] = []
    for clause in sorted(
        clauses, key=lambda c: (len(c), -sum(len(vs) for _, vs in c), repr(sorted(c, key=repr)))
    ):
        values = dict(clause)
        if not any(all(n in values and values[n] <= vs for n, vs in weaker) for weaker in kept):
            kept.append(clause)
    return frozenset(kept)


@contextlib.contextmanager
def untouched_random_states() -> Iterator[None]:
    """Leaves the random states of Python, numpy and torch as they were."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    is_cuda_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if is_cuda_used else ()):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
