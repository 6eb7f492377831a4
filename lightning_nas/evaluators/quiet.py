"""Keeps Lightning from saying in every trial what would be said once to someone who trains one model."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from lightning_nas.evaluators.roots import ROOTS

# Advice on speed and on logging, that a CSVLogger goes on in its folder (see `loggers`), and what Lightning 2.6 does
# that PyTorch 2.11 and newer deprecate:
# beginnings of the messages, and the modules of Lightning that they come from.
_WARNINGS = (
    (r"The '\w+_dataloader' does not have many workers", ""),
    (r"The number of training batches \(\d+\) is smaller than the logging interval", ""),
    (r"Experiment logs directory .* exists and is not empty", ""),
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", r"(pytorch_lightning|lightning\.pytorch)\."),
)
_LINES = ("GPU available: ", "TPU available: ", "HPU available: ", "💡 Tip: ", "`Trainer.fit` stopped: ")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block these warnings and log lines of Lightning are dropped, and no others."""
    # Lightning's helper logs under the name of whichever root was imported last.
    loggers = [logging.getLogger(f"{root}.utilities.rank_zero") for root in ROOTS]
    for logger in loggers:
        logger.addFilter(_is_news)
    try:
        with warnings.catch_warnings():
            for message, module in _WARNINGS:
                warnings.filterwarnings("ignore", message, module=module)
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_LINES)
