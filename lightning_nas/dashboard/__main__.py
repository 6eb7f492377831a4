"""`python -m lightning_nas.dashboard DIR`: the same as `lightning-nas ui DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lightning_nas.dashboard.command import run_dashboard
from lightning_nas.errors import NASError


def main() -> int:
    """Reads the options and serves the page; 2 after a mistake, which is told in one line."""
    parser = argparse.ArgumentParser(prog="python -m lightning_nas.dashboard", description=__doc__)
    parser.add_argument("root", type=Path, nargs="?", default=Path(), metavar="DIR")
    parser.add_argument("--port", type=int)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument(
        "--while-needed", action="store_true", help="end when no search runs in DIR and no browser looks"
    )
    options = parser.parse_args()
    try:
        run_dashboard(options.root, options.port, options.host, not options.no_browser, options.while_needed)
    except NASError as error:
        print(f"lightning-nas ui: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
