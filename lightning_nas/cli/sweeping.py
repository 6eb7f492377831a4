"""The command `lightning-nas sweep`: its options, and `sweep` behind them."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import Any

from lightning_nas.cli.options import Commands, count, duration
from lightning_nas.errors import ExperimentError

_STRATEGIES = ("TPE", "Random", "GridSearch", "RegularizedEvolution", "LocalSearch", "Anneal")
_RULES = ("ASHA", "Hyperband", "MedianStop", "CurveFitting")


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add("sweep", _sweep, "Search the best values for any keys of a LightningCLI config.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the config for `fit`")
    parser.add_argument(
        "--space",
        type=Path,
        required=True,
        metavar="FILE",
        help="dotted keys of it, and what is searched for each",
    )
    parser.add_argument(
        "--cli",
        metavar="main.py",
        help="the program with your LightningCLI, or module:name (not needed if the config names its classes)",
    )
    parser.add_argument("--objective", default="val_loss", metavar="METRIC", help="(default: %(default)s)")
    parser.add_argument(
        "--mode", choices=("max", "min"), help="which way it is better (default: by its name)"
    )
    parser.add_argument(
        "--strategy", type=_word(_STRATEGIES), default="TPE", help=f"{', '.join(_STRATEGIES)}"
    )
    parser.add_argument(
        "--stopping", type=_word(_RULES), help=f"ends or pauses trials early: {', '.join(_RULES)}"
    )
    parser.add_argument(
        "--max-trials", type=count(1), default=50, metavar="N", help="in all (default: %(default)s)"
    )
    parser.add_argument(
        "--max-duration", type=duration, metavar="D", help="such as 30m or 1h30m (default: no limit)"
    )
    parser.add_argument("--concurrency", type=count(1), default=2, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seed", type=count(0), default=0, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="where to write, or to go on (default: runs/<date>-<time>)",
    )


def _sweep(options: argparse.Namespace) -> None:
    """Runs the sweep and says how to run its best trial again."""
    from lightning_nas import stopping, strategies
    from lightning_nas.hpo.documents import ConfigError
    from lightning_nas.hpo.sweeping import CONFIG, sweep_experiment

    try:
        experiment = sweep_experiment(
            options.config,
            options.space,
            cli=options.cli,
            strategy=getattr(strategies, options.strategy)(),
            stopping=None if options.stopping is None else getattr(stopping, options.stopping)(),
            objective=options.objective,
            mode=options.mode,
            max_trials=options.max_trials,
            max_duration=options.max_duration,
            concurrency=options.concurrency,
            seed=options.seed,
            directory=options.directory,
        )
    except (ValueError, TypeError) as error:  # of a setting
        raise ConfigError(str(error)) from None
    best = experiment.run().best
    if best is None:
        reasons = [f"trial {trial.number}: {trial.reason}" for trial in experiment.trials if trial.reason]
        raise ExperimentError(
            f"{experiment.directory}: no trial has completed; {(reasons or ['none was run'])[-1]}"
        )
    path = os.path.relpath(experiment.directory / "trials" / str(best.number) / CONFIG)
    program = options.cli if options.cli is not None and options.cli.endswith(".py") else "YOUR_CLI.py"
    print(f"Again: {shlex.join(['python', program, 'fit', '--config', path])}")


def _word(words: tuple[str, ...]) -> Any:
    """Reads one of `words`, in any case."""

    def read(text: str) -> str:
        found = {word.lower(): word for word in words}.get(text.lower())
        if found is None:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(words)}")
        return found

    return read
