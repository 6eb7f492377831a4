"""Data and programs within an HTML file, where nothing in them can end the element that holds them."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

Change = tuple[list[str | int]] | tuple[list[str | int], Any]
"""The way to a value, and the new value; without one, what is there goes away."""

_DIGITS = 7  # of a number in a chart; full doubles would double the file


def as_script_data(data: Any) -> str:
    """JSON for `<script type="application/json">`: ASCII, without `<`, `>` and `&`; NaN and infinities are null.

    >>> as_script_data({"</script>": [1.0, math.nan, "\\u2028"]})
    '{"\\\\u003c/script\\\\u003e":[1.0,null,"\\\\u2028"]}'
    """
    text = json.dumps(_rounded(data), separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def source_hash(program: str) -> str:
    """What a Content-Security-Policy calls a script of this text."""
    digest = hashlib.sha256(program.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def changes(old: Any, new: Any) -> list[Change]:
    """What turns `old` into `new`, both of which JSON can hold; `report.js` follows it.

    What is under `data` is replaced as a whole: the ways to hundreds of points take more room than these.

    >>> changes({"a": [1, 2], "b": 0, "c": 1}, {"a": [1, 3], "c": 1})
    [(['a', 1], 3), (['b'],)]
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys: list[Any] = list(dict.fromkeys([*old, *new]))
    elif _is_list(old) and _is_list(new) and len(old) == len(new):
        keys = list(range(len(new)))
    else:
        return [] if _same(old, new) else [([], new)]
    found: list[Change] = []
    for key in keys:
        if isinstance(new, Mapping) and key not in new:
            found.append(([key],))
        elif isinstance(old, Mapping) and key not in old:
            found.append(([key], new[key]))
        elif key == "data":
            found += [] if _same(old[key], new[key]) else [([key], new[key])]
        else:
            found += [([key, *change[0]], *change[1:]) for change in changes(old[key], new[key])]  # type: ignore[misc]
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _same(old: Any, new: Any) -> bool:
    return type(old) is type(new) and bool(old == new)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        # Not the large ones: a time in milliseconds has 13 digits.
        return float(f"{value:.{_DIGITS}g}") if abs(value) < 10**_DIGITS else value
    if isinstance(value, Mapping):
        return {str(key): _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if _is_list(value) else value
