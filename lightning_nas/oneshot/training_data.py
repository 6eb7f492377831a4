"""The one seam in Lightning where the training data can be exchanged, which is private to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class _Source:
    """Lightning's source of the training loader, with what it gives changed."""

    def __init__(self, source: Any, change: Callable[[Any], Any]) -> None:
        self._source = source
        self._change = change

    def dataloader(self) -> Any:
        return self._change(self._source.dataloader())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def intercept_training_data(trainer: Any, change: Callable[[Any], Any]) -> Callable[[], None]:
    """Has a trainer's training loader pass through `change`, also when it is loaded again.

    The loader is asked for when Lightning asks, after the module's `setup`. Tried with Lightning 2.6.0 and
    2.6.6, which have no public way.

    Returns:
        What puts the trainer's own source back.
    """
    source = trainer.fit_loop._data_source
    trainer.fit_loop._data_source = _Source(source, change)

    def undo() -> None:
        trainer.fit_loop._data_source = source

    return undo
