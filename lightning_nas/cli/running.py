"""Commands that run an experiment: `demo`, `create`, `resume`, `validate`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nas.cli.options import Commands, Parser, add_experiment, count, duration
from lightning_nas.cli.reading import open_store
from lightning_nas.errors import ExperimentError

if TYPE_CHECKING:
    from lightning_nas.experiment import Experiment

_LOG = "search.log"
_START_S, _POLL_S = 60.0, 0.05  # for a driver in the background to begin


def add(commands: Commands) -> None:
    """Adds the commands."""
    demo = commands.add(
        "demo", _demo, "Search, train and export a small network on real images, in about a minute."
    )
    demo.add_argument(
        "--directory", type=Path, default=Path("demo"), help="where to write (default: %(default)s)"
    )
    demo.add_argument("--trials", type=count(1), help="how many networks to try")

    create = commands.add(
        "create", _create, "Run an experiment file of NNI's: its search space, tuner and trial script."
    )
    create.add_argument("--config", type=Path, required=True, metavar="FILE", help="the experiment file")
    create.add_argument(
        "--directory", type=Path, metavar="DIR", help="where to write (default: runs/<date>-<time>)"
    )
    _add_foreground(create)

    resume = commands.add("resume", _resume, "Go on with an experiment that was stopped or broke off.")
    add_experiment(resume)
    resume.add_argument(
        "--max-trials",
        type=count(1),
        metavar="N",
        help="a new budget: how many trials in all, all runs together",
    )
    resume.add_argument(
        "--max-duration",
        type=duration,
        metavar="D",
        help="a new budget of time, all runs together: 90s, 30m, 1h30m",
    )
    _add_foreground(resume)
    resume.epilog = (
        "An experiment of `create` goes on by its file, which is kept in DIR. One of a Python script goes on by the "
        "objects kept in DIR/experiment.pkl, which can run any code: do that only with folders that you trust. "
        "The script run again goes on as well."
    )

    validate = commands.add(
        "validate", _validate, "Check an experiment file of NNI's; nothing is run or written."
    )
    validate.add_argument("file", type=Path, metavar="FILE", help="the experiment file")


def _add_foreground(parser: Parser) -> None:
    parser.add_argument(
        "--foreground", action="store_true", help="run here until the end (default: in the background)"
    )


def _demo(options: argparse.Namespace) -> None:
    from lightning_nas.demo import run_demo

    run_demo(options.directory, options.trials)


def _create(options: argparse.Namespace) -> None:
    from lightning_nas.experiment import folder
    from lightning_nas.hpo import load_experiment
    from lightning_nas.hpo.config_experiment import keep_config

    # All that can be wrong with the file is said here, before anything is made.
    experiment = load_experiment(options.config, options.directory)
    directory = experiment.directory
    folder.check_free(directory)
    folder.make(directory)
    keep_config(options.config, directory)
    if options.foreground:
        experiment.run()
        return
    config = str(options.config.absolute())
    _run_behind(directory, ["create", "--config", config, "--directory", str(directory)])


def _resume(options: argparse.Namespace) -> None:
    from lightning_nas.experiment import folder
    from lightning_nas.experiment.summary import summary

    directory = options.experiment
    before = summary(directory)
    folder.check_free(directory)
    given = {"--max-trials": options.max_trials, "--max-duration": options.max_duration}
    given = {option: value for option, value in given.items() if value is not None}
    if before.state == "finished" and not given:
        raise ExperimentError(
            f"{directory} is finished: {before.ending}; a larger --max-trials or --max-duration makes it go on."
        )
    changes = {option[2:].replace("-", "_"): value for option, value in given.items()}
    here = os.getcwd()
    experiment = _experiment(directory.absolute(), changes)  # what is wrong is said here
    if options.foreground:
        experiment.run()
        return
    os.chdir(here)
    words = [word for option, value in given.items() for word in (option, str(value))]
    _run_behind(directory, ["resume", str(directory.absolute()), *words])


def _experiment(directory: Path, changes: dict[str, Any]) -> Experiment:
    from lightning_nas.experiment import Experiment
    from lightning_nas.hpo.config_experiment import resume_config

    experiment = resume_config(directory, **changes)
    if experiment is None:
        find_users_code(directory)
        _go_where_it_began(directory)
        experiment = Experiment.resume(directory, **changes)
    return experiment


def find_users_code(directory: Path) -> None:
    """Lets Python find the modules that lay beside the script that searched, and those of this folder."""
    with open_store(directory) as store:
        places = [run["environment"] for run in store.runs()]
    commands = (
        Path(place["working_directory"], place["command"][0]) for place in places if "command" in place
    )
    # Of a run by this program the folder would be our own, whose modules hide the user's of the same name.
    ours = Path(__file__).parent
    scripts = (command.parent for command in commands if command.parent != ours)
    sys.path[:0] = [os.getcwd(), *dict.fromkeys(map(str, scripts))]


def _go_where_it_began(directory: Path) -> None:
    """Goes to the folder in which the script ran, for paths such as `data/`; stays if it is gone."""
    with open_store(directory) as store:
        places = [run["environment"].get("working_directory") for run in store.runs()]
    if places and places[0] is not None and os.path.isdir(places[0]):
        os.chdir(places[0])


def _run_behind(directory: Path, command: Sequence[str]) -> None:
    """Starts a command of this program that goes on when this one has ended; returns when it has begun.

    Raises:
        ExperimentError: if it ends with a mistake before that.
    """
    from lightning_nas.experiment import folder

    with (directory / _LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lightning_nas.cli", *command, "--foreground"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _wait(lambda: process.poll() is not None or folder.driver(directory) is not None)
    if process.poll():
        from lightning_nas.experiment.logs import last_lines

        text, _ = last_lines(directory / _LOG, 1)
        raise ExperimentError(f"{directory} did not start: {text.strip() or 'see ' + _LOG}")
    print(f"{directory} (process {process.pid}; what it prints is in {_LOG})")
    print(f"lightning-nas view {directory}   shows it; `stop` in place of `view` ends it")


def _wait(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_S
    while not is_so() and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _validate(options: argparse.Namespace) -> None:
    from lightning_nas.hpo import read_config

    config = read_config(options.file)
    limit = "no limit of trials" if config.max_trials is None else f"{config.max_trials} trials"
    print(
        f"{options.file}: right; {len(config.space.space)} labels, {limit}, {config.concurrency} at the same time"
    )
