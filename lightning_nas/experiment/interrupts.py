"""Ctrl-C once: finish cleanly. Twice, or SIGTERM: now. A request says which."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

_MESSAGE = "\nNo new trial starts; the running ones finish. Ctrl-C again stops them too (they run again on resume).\n"


class Interrupts:
    """While entered, SIGINT and SIGTERM are counted instead of killing the process.

    Args:
        runs_here: whether user code runs in the main thread. It has to be interrupted itself: the
            second Ctrl-C, or SIGTERM, raises `KeyboardInterrupt` in it.

    Attributes:
        level: 0 before any, 1 when no new trial is to start, 2 when the running ones are to end too.
        signal: the last that came.

    Outside the main thread, where Python allows no handlers, nothing is changed.
    """

    def __init__(self, runs_here: bool) -> None:
        self.level = 0
        self.signal: int | None = None
        self._runs_here = runs_here
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set by Python
        self._handlers.clear()

    def ask(self, now: bool) -> None:
        """Does what the first Ctrl-C does, or with `now` the second."""
        self.level = max(self.level, 2 if now else 1)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.level = 2 if number == signal.SIGTERM else self.level + 1
        if self.level == 1:
            os.write(2, _MESSAGE.encode())  # `print` may not be entered twice
        # The third time also where the main thread hangs in something else.
        elif self._runs_here or self.level > 2:
            raise KeyboardInterrupt
