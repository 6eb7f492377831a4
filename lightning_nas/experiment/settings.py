"""Reading the settings of an experiment."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from pathlib import Path
from typing import Any

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d+(?:\.\d*)?|\.\d+)\s*([smhd])\s*"


def seconds(duration: str | float) -> float:
    """A duration in seconds: a number of them, or text with the units s, m, h and d.

    Raises:
        ValueError: for other text, or what is not finite and at least 0.

    >>> seconds("1h30m"), seconds("0.5 m"), seconds(10)
    (5400.0, 30.0, 10.0)
    """
    if isinstance(duration, str) and re.fullmatch(f"({_PART})+", duration.strip()):
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, duration))
    if not isinstance(duration, (int, float)) or not 0 <= duration < math.inf:
        raise ValueError(
            "`max_duration` must be seconds, or text such as '90s', '30m', '1h' or '1h30m', but got "
            f"{duration!r}."
        )
    return float(duration)


def check_at_least(minimum: int, *, or_none: bool = False, **settings: int | None) -> None:
    """Raises ValueError, naming the setting, if one is no integer of at least `minimum`.

    Args:
        minimum: the least.
        or_none: whether None will do too.
        settings: by name.
    """
    for name, value in settings.items():
        if value is None and or_none:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"`{name}` must be an integer of at least {minimum}, but got {value!r}.")


def fitted_rule(rule: Any, evaluator: Any, max_trials: int | None) -> Any:
    """A stopping rule whose `max_steps`, where it has one that is None, is the evaluator's.

    Raises:
        TypeError: if it is no stopping rule.
        ValueError: if the evaluator does not tell, or the rule needs more trials for one to run to its end.
    """
    if rule is None:
        return None
    name = type(rule).__name__
    if isinstance(rule, type) or not callable(getattr(rule, "decide", None)):
        raise TypeError(f"`stopping` must be an object with a method `decide`, but got {rule!r}.")
    if dataclasses.is_dataclass(rule) and getattr(rule, "max_steps", 0) is None:
        steps = getattr(evaluator, "max_steps", None)
        if steps is None:
            raise ValueError(
                f"Give {name} `max_steps`, the number of reports of a trial that is never stopped: this evaluator "
                "does not tell."
            )
        rule = dataclasses.replace(rule, max_steps=steps)  # type: ignore[type-var]
    needed = getattr(rule, "trials_needed", None)
    if needed is not None and max_trials is not None and max_trials < needed:
        raise ValueError(
            f"{rule} needs {needed} trials for one that is sure to run to its end, but got max_trials={max_trials}. "
            "Give more trials, or fewer rungs."
        )
    return rule


def new_directory() -> Path:
    """A folder for an experiment of its own, named by the time, which does not exist yet."""
    path = Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    attempt = 2
    name = path.name
    while path.exists():
        path = path.with_name(f"{name}-{attempt}")
        attempt += 1
    return path
