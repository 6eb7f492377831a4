"""The command `rescue`: what can be read of a damaged database."""

from __future__ import annotations

import argparse

from lightning_nas.cli.options import Commands, add_experiment


def add(commands: Commands) -> None:
    """Adds the command."""
    rescue = commands.add(
        "rescue", _rescue, "Save what can still be read of an experiment whose database is damaged."
    )
    add_experiment(rescue)
    rescue.epilog = "The damaged database is kept beside the new one, as experiment.db.damaged."


def _rescue(options: argparse.Namespace) -> None:
    from lightning_nas.experiment.rescue import rescue

    rescued = rescue(options.experiment)
    total = rescued.trials + len(rescued.lost)
    print(f"{rescued.trials} of {total} trials are saved; the damaged database is now {rescued.damaged}.")
    if rescued.incomplete:
        print(f"Some reports are missing of {_numbers(rescued.incomplete)}.")
    if rescued.lost:
        print(f"Lost: {_numbers(rescued.lost)}. When the search goes on they run again, with new samples.")


def _numbers(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:20]))
    return f"trial{'s' if len(numbers) > 1 else ''} {shown}" + (", ..." if len(numbers) > 20 else "")
