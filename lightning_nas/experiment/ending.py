"""Why a search ended, and what that makes of its experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["running", "finished", "interrupted", "given up", "broken off"]
"""Where an experiment stands. Broken off: its driver died without a word."""

INTERRUPTED = "interrupted"
STOPPED = "stopped by request"
_HOPELESS = "all failed"
_FULL = "free on the disk"


@dataclass(frozen=True)
class Ending:
    """Why a search ended.

    Args:
        text: a phrase for people; kept in the store.
        is_hopeless: whether too many trials failed in a row.
        is_interrupted: whether a signal or a request ended it.
        is_full: whether its disk did.
    """

    text: str
    is_hopeless: bool = False
    is_interrupted: bool = False
    is_full: bool = False


def interrupted(by_request: bool) -> Ending:
    """The ending that a request, or else a signal, brought about."""
    return Ending(STOPPED if by_request else INTERRUPTED, is_interrupted=True)


def hopeless(failures: int) -> Ending:
    """The ending after `failures` failed trials in a row."""
    return Ending(f"the last {failures} trials {_HOPELESS}", is_hopeless=True)


def full(least_mb: int) -> Ending:
    """The ending where less than `least_mb` are free."""
    return Ending(f"less than {least_mb} MB are {_FULL}", is_full=True)


def state_after(text: str | None) -> State:
    """How an experiment without a driver stands, by the text of its last run's ending; None if it has none.

    >>> state_after("all 20 trials are done"), state_after(None)
    ('finished', 'broken off')
    """
    if text is None:
        return "broken off"
    if text in (INTERRUPTED, STOPPED) or text.endswith(_FULL):
        return "interrupted"
    return "given up" if text.endswith(_HOPELESS) else "finished"
