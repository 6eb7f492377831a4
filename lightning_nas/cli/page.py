"""The command `ui`, and what `view` shares with it: the page in a browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from lightning_nas.cli.options import Commands, count


def add(commands: Commands) -> None:
    """Adds the command."""
    page = commands.add("ui", _ui, "Show all experiments under a folder as a page in the browser, live.")
    page.add_argument(
        "root", type=Path, nargs="?", default=Path(), metavar="DIR", help="where to look (default: here)"
    )
    add_page(page)
    page.epilog = (
        "The page is for this machine alone. With --host, such as --host 0.0.0.0, others reach it by the printed "
        "address, which holds a token. It needs the extra: pip install 'lightning-nas[ui]'."
    )


def add_page(parser: argparse.ArgumentParser) -> None:
    """The options of the page, for `show_page`."""
    parser.add_argument("--port", type=count(0), metavar="N", help="(default: the first free one from 8080)")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="H", help="the address to listen on (default: %(default)s)"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address only")


def show_page(root: Path, options: argparse.Namespace) -> None:
    """Serves the page until Ctrl-C.

    Raises:
        ExperimentError: if there is no such folder, or NiceGUI is not installed.
        PortError: if the port cannot be had.
    """
    from lightning_nas.dashboard.command import run_dashboard

    run_dashboard(root, options.port, options.host, not options.no_browser)


def _ui(options: argparse.Namespace) -> None:
    show_page(options.root, options)
