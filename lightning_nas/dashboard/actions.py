"""What a page asks of a search: requests in its folder, and what came of them."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning_nas.errors import NASError
from lightning_nas.experiment import requests
from lightning_nas.experiment.requests import Copy, Kill, Request, Retry, Stop
from lightning_nas.experiment.store import SqliteStore
from lightning_nas.space import Domain

_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Args:
        outcome: "done", "refused", or "waiting": the driver has not come to it yet.
        text: a sentence for people.
    """

    outcome: Literal["done", "refused", "waiting"]
    text: str


_DONE = {
    Stop: "The search stops: no new trial starts.",
    Kill: "Trial {number} is told to end.",
    Retry: "The sample of trial {number} is queued; it runs before any new one.",
    Copy: "The changed sample of trial {number} is queued; it runs before any new one.",
}
_WAITING = (
    "The request is left in the experiment's folder, but its driver has not taken it up yet. Where trials run in the "
    "driver's own process it does so at the next report."
)


def ask(directory: Path, request: Request, patience_s: float = _PATIENCE_S) -> Answer:
    """Leaves a request for the driver of an experiment and waits for what it does.

    Args:
        directory: of the experiment.
        request: what is asked for.
        patience_s: how long to wait. It blocks: call it in a thread.
    """
    try:
        with contextlib.closing(SqliteStore.open(directory)) as store:
            trial = None if isinstance(request, Stop) else store.trial(request.number)
            requests.check(request, trial, store.description.space)
        if not requests.wait_for(requests.send(directory, request), patience_s):
            return Answer("waiting", _WAITING)
    except NASError as error:
        return Answer("refused", str(error))
    return Answer("done", _DONE[type(request)].format(**vars(request)))


def value_of(domain: Domain, text: str) -> Any:
    """What a field of the dialog `Copy with changes` holds, as a value of a label: JSON, or else plain text.

    Raises:
        ValueError: if the label has no such value; the message says what it has.
    """
    values: list[Any] = [text]
    with contextlib.suppress(ValueError):
        values.insert(0, json.loads(text))
    for value in values:
        if domain.why_not(value) is None:
            return domain.normalise(value)
    raise ValueError(domain.why_not(values[0]))


def changed(
    sample: Mapping[str, Any], texts: Mapping[str, str], domains: Mapping[str, Domain]
) -> dict[str, Any]:
    """A sample with the values that were typed; an empty text leaves its label out.

    Raises:
        ValueError: if a label has no such value.
    """
    result = dict(sample)
    for label, text in texts.items():
        if text.strip() == "":
            result.pop(label, None)
            continue
        try:
            result[label] = value_of(domains[label], text.strip())
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from None
    return result


def resume_command(directory: Path) -> str:
    """What makes a search go on, for a shell."""
    return f"lightning-nas resume {shlex.quote(str(directory))}"
