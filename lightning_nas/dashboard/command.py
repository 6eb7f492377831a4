"""The options of the dashboard, as the command line and `python -m lightning_nas.dashboard` take them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lightning_nas.errors import ExperimentError
from lightning_nas.experiment.port import listen


def is_installed() -> bool:
    """Whether NiceGUI is, the extra `[ui]`."""
    try:
        return importlib.util.find_spec("nicegui") is not None
    except ModuleNotFoundError:
        return False


def run_dashboard(
    root: Path,
    port: int | None = None,
    host: str = "127.0.0.1",
    open_browser: bool = True,
    while_needed: bool = False,
) -> None:
    """Shows the experiments under a folder until Ctrl-C; see `server.serve`.

    Raises:
        ExperimentError: if there is no such folder, or NiceGUI is not installed.
        PortError: if the port cannot be had.
    """
    if not is_installed():
        raise ExperimentError('The page needs NiceGUI: pip install "lightning-nas[ui]".')
    if not root.is_dir():
        raise ExperimentError(f"There is no folder {root}.")
    listening = listen(host, port)
    # A browser that comes now waits; what takes seconds to load is loaded after the mistakes are told.
    from lightning_nas.dashboard.server import serve

    serve(root, listening, host, open_browser, while_needed)
