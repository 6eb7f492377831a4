"""What a search space checks and works out once: its conditions, and the order of its labels."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping

from lightning_nas.errors import SpaceError
from lightning_nas.space.condition import Condition
from lightning_nas.space.domain import Domain


def checked_conditions(
    domains: Mapping[str, Domain], conditions: Mapping[str, Condition]
) -> dict[str, Condition]:
    """The conditions with values as the domains write them, without those that always hold.

    Raises:
        SpaceError: if one is for or on a label that does not exist, on a continuous label, or on a value
            that its label cannot have.
    """
    result = {}
    for label, condition in conditions.items():
        if label not in domains:
            raise SpaceError(f"There is a condition for {label!r}, which is no label of this space.")
        if not isinstance(condition, Condition):
            raise SpaceError(f"The condition of {label!r} must be a Condition, but got {condition!r}.")
        clauses = []
        for clause in condition.clauses:
            for name, values in clause.items():
                _check_literal(label, name, values, domains)
            clauses.append({name: list(map(domains[name].normalise, clause[name])) for name in clause})
        if {} not in clauses:
            result[label] = Condition(*clauses)
    return result


def _check_literal(label: str, name: str, values: tuple[object, ...], domains: Mapping[str, Domain]) -> None:
    if name not in domains:
        raise SpaceError(f"The condition of {label!r} is on {name!r}, which is no label of this space.")
    if domains[name].size == math.inf:
        raise SpaceError(
            f"The condition of {label!r} is on {name!r}, which is continuous ({domains[name]}); give it a step."
        )
    for value in values:
        reason = domains[name].why_not(value)
        if reason is not None:
            raise SpaceError(f"The condition of {label!r} is on a value that {name!r} cannot have: {reason}")


def topological_order(domains: Mapping[str, Domain], conditions: Mapping[str, Condition]) -> list[str]:
    """Labels, each after those its condition depends on, otherwise by name.

    Raises:
        SpaceError: if conditions go round in circles; the message shows one.
    """
    waiting = {label: set(conditions[label].labels) if label in conditions else set() for label in domains}
    followers: dict[str, list[str]] = {}
    for label, needed in waiting.items():
        for name in needed:
            followers.setdefault(name, []).append(label)
    ready = [label for label, needed in waiting.items() if not needed]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        label = heapq.heappop(ready)
        order.append(label)
        for follower in followers.get(label, ()):
            waiting[follower].discard(label)
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    if len(order) < len(domains):
        raise SpaceError(f"Conditions go round in circles: {' needs '.join(map(repr, _circle(waiting)))}.")
    return order


def _circle(waiting: Mapping[str, set[str]]) -> list[str]:
    """Labels of which each waits for the next, and the last is the first."""
    path = [min(label for label, needed in waiting.items() if needed)]
    while path[-1] not in path[:-1]:
        path.append(min(name for name in waiting[path[-1]] if waiting[name]))
    return path[path.index(path[-1]) :]
