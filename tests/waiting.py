"""Tests wait for what shall be, and never for a time that should be enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 20.0


def until(holds: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """Waits until something holds, and gives it."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, f"{holds} did not hold within {seconds} s"
        time.sleep(0.05)
