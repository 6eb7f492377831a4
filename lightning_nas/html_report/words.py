"""Values in words, as the report shows them; what users wrote becomes plain text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

# Colours, cursor movements and titles of a terminal (ECMA-48: CSI, OSC, and the short ones).
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_LINE = 1000  # characters
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def plain(text: str) -> str:
    """`text` without terminal codes and control characters; of a line that a progress bar rewrote, its last state.

    >>> plain("\\x1b[31mred\\x1b[0m\\r\\n 10%\\r100%")
    'red\\n100%'
    """
    text = _ESCAPES.sub("", text).replace("\r\n", "\n")
    lines = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))
    return _CONTROLS.sub("\ufffd", "\n".join(lines))


def last_lines(text: str, count: int) -> str:
    """The last lines of a text, long ones cut, with a note on how many came before.

    >>> last_lines("a\\nb\\nc", 2)
    '[1 line before]\\nb\\nc'
    """
    lines = [line if len(line) <= _LINE else f"{line[:_LINE]}…" for line in text.rstrip().split("\n")]
    left = len(lines) - count
    return "\n".join([f"[{counted(left, 'line')} before]", *lines[left:]] if left > 0 else lines)


def number(value: object) -> str:
    """A metric: five digits that count, whole ones in groups of three.

    >>> number(0.9876543), number(1234567.0), number(math.nan), number(None)
    ('0.98765', '1,234,567', 'NaN', '-')
    """
    if value is None:
        return "-"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return plain(str(value))
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.5g}"


def amount(value: int | None) -> str:
    """A count of parameters or operations.

    >>> amount(950), amount(12345), amount(3_300_000), amount(None)
    ('950', '12.3 k', '3.3 M', 'unknown')
    """
    if value is None:
        return "unknown"
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def choice(value: Any) -> str:
    """A value of a sample.

    >>> choice([3, 3]), choice(0.1234567), choice("relu"), choice(True)
    ('[3, 3]', '0.12346', 'relu', 'True')
    """
    return f"{value:.5g}" if isinstance(value, float) else plain(str(value))


def moment(time: float | None) -> str:
    """A Unix time, with the time zone of this machine."""
    return "-" if time is None else datetime.fromtimestamp(time).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def counted(count: int, noun: str) -> str:
    """A count and its noun.

    >>> counted(1, "trial"), counted(1200, "trial")
    ('1 trial', '1,200 trials')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(numbers: Sequence[int], most: int = 12) -> str:
    """Trials' numbers.

    >>> listed([3, 5, 8], most=2)
    '3, 5 and 1 more'
    """
    shown = ", ".join(map(str, numbers[:most]))
    return shown + (f" and {len(numbers) - most:,} more" if len(numbers) > most else "")


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, the first and the last among them, in order.

    >>> evenly(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def sentence(text: str) -> str:
    """A phrase as a sentence.

    >>> sentence("all 12 trials are done")
    'All 12 trials are done.'
    """
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def many(count: float, noun: str) -> str:
    """A count that may be astronomic, and its noun.

    >>> many(18, "sample"), many(10**400, "sample"), many(math.inf, "sample")
    ('18 samples', 'about 1.0e+400 samples', 'infinitely many samples')
    """
    if count == math.inf:
        return f"infinitely many {noun}s"
    if count < 1e9:
        return counted(int(count), noun)
    return f"about {Decimal(count):.2g} {noun}s"
