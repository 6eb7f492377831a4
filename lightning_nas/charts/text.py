"""Trials and numbers in words, as tooltips and labels show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from lightning_nas.trial import Mode, Status, Trial

_LINE = 60
_LABELS = 12
# Where there are thousands of trials, their tooltips would be most of the page.
_FAR = 1e300
_MANY = 2000
_LABELS_OF_MANY = 4


def plain(text: object, limit: int = _LINE) -> str:
    """`text` on one line of at most `limit` characters, without anything that ECharts would read as markup.

    What a canvas draws is text in any case; a brace is followed by an invisible space, since `{b}` is a
    placeholder in a formatter and `{name|text}` a style in a label.

    >>> plain("a\\tvery\\nlong line", 8)
    'a very …'
    """
    line = str(text)[: 4 * limit]
    if not line.isprintable():
        line = "".join(c if c.isprintable() else " " for c in line)
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    return line.replace("{", "{\u200b")


def number_text(value: float) -> str:
    """A number with four digits that count.

    >>> number_text(0.123456), number_text(1234567.0), number_text(12)
    ('0.1235', '1.235e+06', '12')
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def value_text(value: Any) -> str:
    """A value of a sample, on one line; an empty subset is "none"."""
    if isinstance(value, (list, tuple)):
        return plain((", ".join(map(value_text, value)) or "none") if isinstance(value, list) else value)
    return plain(number_text(value) if isinstance(value, float) else value)


def directed(metric: str, direction: Mode) -> str:
    """A metric as the name of an axis.

    >>> directed("loss", "min")
    'loss (lower is better)'
    """
    return f"{plain(metric, 40)} ({'higher' if direction == 'max' else 'lower'} is better)"


def duration_text(seconds: float) -> str:
    """A duration with the units that matter.

    >>> duration_text(0.25), duration_text(75), duration_text(3700)
    ('0.25 s', '1 min 15 s', '1 h 1 min')
    """
    if seconds < 59.5:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def trial_text(trial: Trial, metrics: Mapping[str, float] | None = None, among: int = 1) -> str:
    """What a tooltip says of a trial: number, status, metrics, sample, and why it failed.

    Args:
        trial: the trial.
        metrics: those to show; the trial's own if None.
        among: how many trials the chart has; with thousands, each shows but a few of its labels.
    """
    lines = [f"trial {trial.number}, {trial.status.value}"]
    shown = trial.metrics if metrics is None else metrics
    lines += [f"{plain(name)}: {number_text(float(value))}" for name, value in list(shown.items())[:_LABELS]]
    limit = _LABELS if among <= _MANY else _LABELS_OF_MANY
    lines += [f"{plain(label)} = {value_text(value)}" for label, value in list(trial.sample.items())[:limit]]
    if len(trial.sample) > limit:
        lines.append(f"and {len(trial.sample) - limit} more labels")
    if trial.status is Status.FAILED and trial.reason:
        lines.append(plain(trial.reason, 100))
    return "\n".join(lines)


def scaled(largest: float) -> tuple[float, str]:
    """The unit for counts up to `largest`: what to divide by, and its name.

    >>> scaled(3.3e6), scaled(900)
    ((1000000.0, 'M'), (1.0, ''))
    """
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if largest >= size:
            return size, name
    return 1.0, ""


def time_unit(longest: float) -> tuple[float, str]:
    """The unit for durations up to `longest` seconds: how many seconds it has, and its name.

    >>> time_unit(90), time_unit(86400)
    ((1.0, 's'), (3600.0, 'h'))
    """
    if longest >= 3 * 3600:
        return 3600.0, "h"
    return (60.0, "min") if longest >= 300 else (1.0, "s")


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that has a place on an axis: finite, so that JSON can hold it, and within 1e300."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_FAR < value < _FAR
