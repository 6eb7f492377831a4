"""The page of a running search: a process beside it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from lightning_nas.errors import ExperimentError
from lightning_nas.experiment.port import listen

_pages: list[subprocess.Popen[bytes]] = []  # Python warns of one that nobody holds
_HOST = "127.0.0.1"


def start_page(directory: Path, port: int | None = None) -> str:
    """Starts the page of an experiment; gives its address.

    The process ends by itself when no search works on the experiment and no browser has the page open. It
    reads the store alone, and nothing that happens to it touches the search.

    Args:
        directory: of the experiment.
        port: to serve it on; the first free one from 8080 on if None.

    Raises:
        ExperimentError: if NiceGUI is not installed.
        PortError: if the port is taken; it says by whom, and which is free.
    """
    if importlib.util.find_spec("nicegui") is None:
        raise ExperimentError('`ui` needs NiceGUI: pip install "lightning-nas[ui]".')
    with listen(_HOST, port) as held:  # only to find it; the page listens on it anew
        port = held.getsockname()[1]
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
