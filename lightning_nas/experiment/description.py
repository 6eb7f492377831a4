"""What an experiment was asked for, and how two experiments differ in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_nas.space import SearchSpace
from lightning_nas.trial import Mode, Objective

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class Description:
    """What an experiment was asked for; it stays the same however often it goes on.

    Args:
        space: the search space, joined where a model's space was.
        strategy: its `repr`, without addresses in memory (see `describe`).
        metric: the objective's name as the user gave it, None if left to the evaluator.
        mode: "max", "min", or None if it follows from the metric's name.
        seed: of the experiment.
        model: the name of the model's class, None in a search without a model.
    """

    space: SearchSpace
    strategy: str
    metric: str | None
    mode: Mode | None
    seed: int
    model: str | None = None

    @property
    def objective(self) -> Objective:
        """Which metric counts."""
        return Objective(self.metric, self.mode)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads; JSON can hold it."""
        return {**vars(self), "space": self.space.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Description:
        """The description that `to_json` wrote."""
        return cls(**{**data, "space": SearchSpace.from_json(data["space"])})

    def differences(self, other: Description) -> list[str]:
        """In what `other` differs, a phrase each; trials of two that differ cannot be mixed."""
        phrases = []
        if self.space != other.space:
            phrases.append(f"its search space {_compare(self.space, other.space)}")
        for name, ours, theirs in (
            ("strategy", self.strategy, other.strategy),
            ("objective", self.metric, other.metric),
            ("mode", self.mode, other.mode),
            ("seed", self.seed, other.seed),
        ):
            if ours != theirs:
                phrases.append(f"its {name} is {theirs}, not {ours}")
        return phrases


def describe(thing: object) -> str:
    """The `repr` of a strategy, the same in each process: functions lose their addresses."""
    return _ADDRESS.sub("", repr(thing))


def _compare(ours: SearchSpace, theirs: SearchSpace) -> str:
    parts = []
    for verb, labels in (("lacks", ours.keys() - theirs.keys()), ("also has", theirs.keys() - ours.keys())):
        if labels:
            parts.append(f"{verb} {_some(labels)}")
    changed = {
        label
        for label in ours.keys() & theirs.keys()
        if (ours[label], ours.conditions.get(label)) != (theirs[label], theirs.conditions.get(label))
    }
    if changed:
        parts.append(f"has other values or conditions for {_some(changed)}")
    return " and ".join(parts)


def _some(labels: set[str]) -> str:
    shown = sorted(labels)[:5]
    more = f" and {len(labels) - len(shown)} more" if len(labels) > len(shown) else ""
    return ", ".join(map(repr, shown)) + more
