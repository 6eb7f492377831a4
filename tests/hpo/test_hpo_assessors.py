"""NNI's assessors by name."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_nas.hpo.assessors import stopping_rule
from lightning_nas.hpo.tuners import TunerError
from lightning_nas.stopping import CurveFitting, MedianStop


@pytest.mark.parametrize(
    ("name", "arguments", "rule"),
    [
        ("Medianstop", {}, MedianStop()),
        ("medianstop", {"optimize_mode": "maximize", "start_step": 4}, MedianStop(start_step=4)),
        ("Curvefitting", {}, CurveFitting(max_steps=20)),
        ("CurveFitting", {"epoch_num": 9, "threshold": 0.9, "gap": 2}, CurveFitting(9, threshold=0.9, gap=2)),
    ],
)
def test_assessors_are_found_by_nnis_names_and_arguments(
    name: str, arguments: dict[str, Any], rule: Any
) -> None:
    assert stopping_rule(name, arguments) == rule


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Medianstopp", {}, "did you mean Medianstop"),
        ("ASHA", {}, "there are Medianstop and Curvefitting"),
        ("Medianstop", {"start": 3}, "has no argument 'start'; it may have optimize_mode, start_step"),
        ("Medianstop", {"start_step": -1}, "start_step"),
        ("Medianstop", {"optimize_mode": "max"}, "must be maximize or minimize"),
    ],
)
def test_others_are_refused_in_one_line(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TunerError, match=message):
        stopping_rule(name, arguments)
