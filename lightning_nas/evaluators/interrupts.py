"""Ctrl-C in a training of Lightning's."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ctrl_c_raises() -> Iterator[None]:
    """Within the block Ctrl-C comes out as KeyboardInterrupt: Lightning makes it an exit with code 1.

    Lightning also leaves SIGINT ignored then; the handler is put back.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from error
