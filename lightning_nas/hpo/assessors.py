"""NNI's assessors by name, over our stopping rules."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from lightning_nas.hpo.tuners import MODES, TunerError
from lightning_nas.stopping import CurveFitting, MedianStop, StoppingRule

# NNI's name in lower case: the rule, NNI's arguments with our names for them, NNI's defaults.
_RULES: dict[str, tuple[Any, dict[str, str], dict[str, Any]]] = {
    "medianstop": (MedianStop, {"start_step": "start_step"}, {}),
    "curvefitting": (
        CurveFitting,
        {"epoch_num": "max_steps", "start_step": "start_step", "threshold": "threshold", "gap": "gap"},
        {"epoch_num": 20},
    ),
}


def stopping_rule(name: str, class_args: Mapping[str, Any] | None = None) -> StoppingRule:
    """The stopping rule that does what NNI's assessor of this name does.

    Args:
        name: Medianstop or Curvefitting, in any case.
        class_args: as in NNI's experiment files: `start_step`, and for Curvefitting `epoch_num`,
            `threshold` and `gap`. `optimize_mode` must be one of NNI's; the rule follows the objective.

    Raises:
        TunerError: for another assessor, or an argument that it does not have or that is out of range.

    >>> stopping_rule("medianstop", {"optimize_mode": "maximize", "start_step": 5})
    MedianStop(start_step=5, metric=None, mode=None)
    """
    if name.lower() not in _RULES:
        near = difflib.get_close_matches(name.lower(), _RULES, n=1)
        hint = f" (did you mean {near[0].capitalize()}?)" if near else ""
        raise TunerError(f"there is no assessor {name!r}{hint}; there are Medianstop and Curvefitting.")
    rule, names, defaults = _RULES[name.lower()]
    given = {**defaults, **(class_args or {})}
    mode = given.pop("optimize_mode", None)
    if mode is not None and mode not in MODES:
        raise TunerError(f"'optimize_mode' must be maximize or minimize, but is {mode!r}.")
    for argument in given:
        if argument not in names:
            raise TunerError(
                f"the assessor {name} has no argument {argument!r}; it may have "
                f"{', '.join(['optimize_mode', *names])}."
            )
    try:
        made: StoppingRule = rule(**{names[argument]: value for argument, value in given.items()})
    except (TypeError, ValueError) as error:
        raise TunerError(f"the assessor {name} cannot be made of {dict(given)}: {error}") from None
    return made
