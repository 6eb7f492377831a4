"""The command `report`: an experiment as one file to mail around."""

from __future__ import annotations

import argparse
from pathlib import Path

from lightning_nas.cli.options import Commands, add_experiment, count


def add(commands: Commands) -> None:
    """Adds the commands."""
    report = commands.add(
        "report", _report, "Write an experiment as one HTML file that opens from a disk, without a network."
    )
    add_experiment(report)
    report.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write (default: DIR/report.html)"
    )
    report.add_argument("--top", type=count(1), metavar="K", help="list the K best trials (default: 20)")
    report.epilog = (
        "The file also tells the command that started the search, its folders and the name of the machine: "
        "look at it before you pass it on."
    )


def _report(options: argparse.Namespace) -> None:
    from lightning_nas.html_report import LEADERS, write_report

    path = write_report(options.experiment, options.output, options.top or LEADERS)
    print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
