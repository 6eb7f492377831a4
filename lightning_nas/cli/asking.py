"""What is asked of an experiment's driver: the command `stop`, and how an answer is had."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_nas.cli.options import Commands, add_experiment

if TYPE_CHECKING:
    from lightning_nas.experiment.requests import Request

_PATIENCE_S = 5.0


def add(commands: Commands) -> None:
    """Adds the commands."""
    stop = commands.add(
        "stop", _stop, "Stop an experiment: no new trial starts, and it ends when the running ones have."
    )
    add_experiment(stop)
    stop.add_argument(
        "--now", action="store_true", help="end the running trials too; they run again when it is resumed"
    )


def _stop(options: argparse.Namespace) -> None:
    from lightning_nas.experiment.requests import Stop

    if ask(options.experiment, Stop(options.now)):
        how = "ends now" if options.now else "ends when its running trials have; --now ends them too"
        print(f"{options.experiment} {how}. `lightning-nas resume {options.experiment}` goes on.")


def ask(directory: Path, request: Request) -> bool:
    """Asks the driver of an experiment, and waits for it to follow; whether it has.

    Raises:
        StoreError: if there is no experiment.
        RequestError: if it cannot be followed.
        ExperimentError: if no driver is alive.
    """
    from lightning_nas.cli.reading import find_trial, open_store
    from lightning_nas.experiment import requests

    with open_store(directory) as store:
        # Said here, if it can be: the driver would say the same.
        trial = None if isinstance(request, requests.Stop) else find_trial(store, request.number)
        requests.check(request, trial, store.description.space)
    is_followed = requests.wait_for(requests.send(directory, request), _PATIENCE_S)
    if not is_followed:
        print(
            f"{directory} has not taken it up yet. A trial in the driver's own process (runner='inprocess') lets it do "
            "so when it reports next."
        )
    return is_followed
