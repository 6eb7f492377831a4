"""Which networks of a model space are small enough: looked at before any is trained."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lightning_nas.space import Sample

if TYPE_CHECKING:
    from lightning_nas.mutables import Blueprint

Limits = Mapping[str, tuple[float | None, float | None]]
"""`{measure: (least, most)}`; None where there is no limit."""

_NEED_INPUTS = ("macs_m", "activation_mb")


class Within:
    """True for the samples whose network costs neither less nor more than it may.

    Networks are built on the meta device, where weights take neither time nor memory.

    Args:
        model: the space.
        limits: `{"params_m": (0, 4), "macs_m": (None, 600), "activation_mb": (0, 50)}`, in the units of `Cost`.
        inputs: what `forward` takes, a batch of one; only parameters can be counted without.

    Raises:
        ValueError: if a measure is unknown, a limit is no such pair, or inputs are missing.
    """

    def __init__(self, model: Blueprint, limits: Limits, inputs: Sequence[Any] = ()) -> None:
        self._model = model
        self._limits = _checked(limits, bool(inputs))
        self._inputs = tuple(inputs) if self._limits.keys() & set(_NEED_INPUTS) else ()
        self._known: dict[Hashable, bool] = {}

    def __call__(self, sample: Sample) -> bool:
        own = {label: value for label, value in sample.items() if label in self._model.space}
        key = self._model.space.key(own)
        if key not in self._known:
            from lightning_nas.evaluators.cost import cost_of_sample

            cost = cost_of_sample(self._model, own, self._inputs)
            self._known[key] = all(
                least <= getattr(cost, name) <= most for name, (least, most) in self._limits.items()
            )
        return self._known[key]

    def __repr__(self) -> str:
        limits = ", ".join(f"{name}=({low:g}, {high:g})" for name, (low, high) in self._limits.items())
        return f"Within({limits})"


def _checked(limits: Limits, has_inputs: bool) -> dict[str, tuple[float, float]]:
    from lightning_nas.evaluators.cost import Cost

    measures = [field.name for field in fields(Cost)]
    checked = {}
    for name, limit in limits.items():
        if name not in measures:
            raise ValueError(f"`constraints` knows {', '.join(measures)}, but got {name!r}.")
        if name in _NEED_INPUTS and not has_inputs:
            raise ValueError(
                f"The constraint {name!r} needs example_inputs=, what the model's forward takes, such as "
                "torch.zeros(1, 3, 32, 32)."
            )
        try:
            least, most = limit
            checked[name] = (
                -math.inf if least is None else float(least),
                math.inf if most is None else float(most),
            )
        except (TypeError, ValueError):
            raise ValueError(
                f"The constraint {name!r} must be a pair (least, most), but is {limit!r}."
            ) from None
        if not checked[name][0] <= checked[name][1]:
            raise ValueError(f"The constraint {name!r} leaves nothing between {least} and {most}.")
    return checked
