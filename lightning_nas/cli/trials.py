"""Commands for single trials: `trial ls`, `log`, `kill`, `retry`, `copy`."""

from __future__ import annotations

import argparse
import codecs
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nas.cli.asking import ask
from lightning_nas.cli.options import Commands, add_experiment, add_trial, count
from lightning_nas.cli.reading import find_trial, open_store
from lightning_nas.errors import ExperimentError

if TYPE_CHECKING:
    from lightning_nas.experiment.logs import Stream
    from lightning_nas.trial import Trial

_STATUSES = ("running", "paused", "completed", "stopped", "failed")
_POLL_S = 0.2
_NOTHING = object()
"""The value of `--set LABEL=`."""


def add(commands: Commands) -> None:
    """Adds the commands."""
    group = commands.group("trial", "List the trials of an experiment, read their logs, end or repeat one.")
    listing = group.add("ls", _ls, "List the trials by number.")
    add_experiment(listing)
    listing.add_argument("--status", choices=_STATUSES, help="only those that are this (default: all)")

    log = group.add("log", _log, "Print what a trial printed, and why it failed if it did.")
    add_trial(log)
    log.add_argument(
        "--stderr", action="store_true", help="its standard error (default: its standard output)"
    )
    log.add_argument("--tail", type=count(1), metavar="N", help="only the last N lines (default: all)")
    log.add_argument("--follow", action="store_true", help="go on printing until the trial ends")
    log.epilog = (
        "A trial in a process of its own has one log for both streams, in the order they came; the script of an "
        "experiment file has one for each."
    )

    kill = group.add(
        "kill", _kill, "End a trial for good; it counts as stopped, with its last intermediate result."
    )
    add_trial(kill)

    retry = group.add("retry", _retry, "Run the sample of a trial that has ended once more, as a new trial.")
    add_trial(retry)

    copy = group.add("copy", _copy, "Run the sample of a trial with some values changed, as a new trial.")
    add_trial(copy)
    copy.add_argument(
        "--set",
        action="append",
        default=[],
        type=_assignment,
        metavar="LABEL=VALUE",
        help="a new value, as JSON or plain text; an empty one removes the label. May be given several times",
    )


def _ls(options: argparse.Namespace) -> None:
    from lightning_nas.cli.looking import print_trials
    from lightning_nas.experiment import folder
    from lightning_nas.trial import Status

    driver, some = folder.driver(options.experiment), options.status
    with open_store(options.experiment) as store:
        trials = store.trials() if some is None else store.trials_that_are(Status(some))
    print_trials(trials)
    if driver is None and any(trial.status is Status.RUNNING for trial in trials):
        print(
            "No process works on this experiment: what was running broke off, and runs again on `lightning-nas resume`."
        )


# ---------------------------------------------------------------- asking the driver


def _kill(options: argparse.Namespace) -> None:
    from lightning_nas.experiment.requests import Kill

    if ask(options.experiment, Kill(options.number)):
        print(f"Trial {options.number} of {options.experiment} is told to end.")


def _retry(options: argparse.Namespace) -> None:
    from lightning_nas.experiment.requests import Retry

    if ask(options.experiment, Retry(options.number)):
        print(f"The sample of trial {options.number} is queued; it runs before any new one.")


def _copy(options: argparse.Namespace) -> None:
    from lightning_nas.experiment.requests import Copy

    with open_store(options.experiment) as store:
        sample: dict[str, Any] = dict(find_trial(store, options.number).sample)
    for label, value in options.set:
        if value is not _NOTHING:
            sample[label] = value
        elif label in sample:
            del sample[label]
        else:
            raise ExperimentError(f"The sample has no {label!r} to remove; it has {', '.join(sample)}.")
    if ask(options.experiment, Copy(options.number, sample)):
        print(f"The changed sample of trial {options.number} is queued; it runs before any new one.")


def _assignment(text: str) -> tuple[str, Any]:
    """Reads LABEL=VALUE."""
    label, sign, value = text.partition("=")
    if not sign or not label:
        raise argparse.ArgumentTypeError(f"it must be LABEL=VALUE, but is {text!r}")
    if not value:
        return label, _NOTHING
    try:
        return label, json.loads(value)
    except ValueError:
        return label, value


# ---------------------------------------------------------------- logs


def _log(options: argparse.Namespace) -> None:
    from lightning_nas.experiment import folder
    from lightning_nas.experiment.logs import last_lines, log_of

    stream: Stream = "stderr" if options.stderr else "stdout"
    with open_store(options.experiment) as store:
        trial = find_trial(store, options.number)
    path = log_of(options.experiment, trial.number, stream)
    if path is None:
        raise ExperimentError(_no_log(options.experiment, trial, stream))
    if options.tail is None:
        position = _print_from(path, 0, is_whole=not options.follow or trial.status.is_final)
    else:
        text, position = last_lines(path, options.tail)
        sys.stdout.write(text)
    follows = options.follow
    while follows and not trial.status.is_final:
        sys.stdout.flush()
        time.sleep(_POLL_S)
        # These first: what a trial printed before it ended, or its driver died, is in the file by then.
        follows = folder.driver(options.experiment) is not None
        with open_store(options.experiment) as store:
            trial = find_trial(store, options.number)
        position = _print_from(path, position, is_whole=not follows or trial.status.is_final)
    _print_failure(trial, path)


def _print_from(path: Path, position: int, is_whole: bool) -> int:
    """Prints a file from a position on; the position up to which it did, before a character still to be completed."""
    with path.open("rb") as file:
        file.seek(position)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
        while block := file.read(1 << 20):
            sys.stdout.write(decoder.decode(block))
        sys.stdout.write(decoder.decode(b"", final=is_whole))
        return file.tell() - len(decoder.getstate()[0])


def _print_failure(trial: Trial, path: Path) -> None:
    """Says on the standard error why a trial failed, where its log does not end with that."""
    from lightning_nas.experiment.logs import last_lines

    why = trial.traceback or trial.reason
    if trial.status.value == "failed" and why:
        end, _ = last_lines(path, 50)
        if why.strip().splitlines()[-1] not in end:
            sys.stdout.flush()
            print(
                f"trial {trial.number} failed: {trial.reason}\n{trial.traceback or ''}".rstrip(),
                file=sys.stderr,
            )


def _no_log(directory: Path, trial: Trial, stream: Stream) -> str:
    from lightning_nas.experiment.logs import log_of

    if stream == "stderr" and log_of(directory, trial.number) is not None:
        return f"Trial {trial.number} has one log for both its streams; leave out --stderr."
    where = (
        "it has not begun" if trial.started is None else "it ran in its driver's process and printed there"
    )
    failure = f"; it failed with {trial.reason}" if trial.status.value == "failed" else ""
    return f"Trial {trial.number} has no log of its own: {where}{failure}."
