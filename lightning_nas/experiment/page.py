"""The page of a running search: a process beside it."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

from lightning_nas.errors import ExperimentError

_pages: list[subprocess.Popen[bytes]] = []  # Python warns of one that nobody holds
_HOST, _FIRST, _TRIED = "127.0.0.1", 8080, 100


def start_page(directory: Path, port: int | None = None) -> str:
    """Starts the page of an experiment; gives its address.

    The process ends by itself when no search works on the experiment and no browser has the page open. It
    reads the store alone, and nothing that happens to it touches the search.

    Args:
        directory: of the experiment.
        port: to serve it on; the first free one from 8080 on if None.

    Raises:
        ExperimentError: if NiceGUI is not installed, or the port is taken.
    """
    if importlib.util.find_spec("nicegui") is None:
        raise ExperimentError('`ui` needs NiceGUI: pip install "lightning-nas[ui]".')
    port = _free() if port is None else _checked(port)
    command = [sys.executable, "-m", "lightning_nas.dashboard", str(directory), "--port", str(port)]
    # A session of its own: Ctrl-C ends the search, and the page then shows how it ended.
    process = subprocess.Popen(
        [*command, "--while-needed", "--no-browser"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    _pages.append(process)
    return f"http://{_HOST}:{port}"


def _free() -> int:
    for port in range(_FIRST, _FIRST + _TRIED):
        with contextlib.suppress(OSError):
            _try(port)
            return port
    raise ExperimentError(
        f"All ports from {_FIRST} to {_FIRST + _TRIED - 1} are taken; give `ui` another one."
    )


def _checked(port: int) -> int:
    try:
        _try(port)
    except OSError as error:
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise ExperimentError(f"Port {port} {why}; {_free()} is free.") from None
    return port


def _try(port: int) -> None:
    with contextlib.closing(socket.socket()) as probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((_HOST, port))
