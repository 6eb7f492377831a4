"""The command `lightning-nas`: runs the demo or a file of NNI's, shows an experiment, exports its best models.

Only the commands that train or build a model load torch, so that help, wrong options and `show`
answer at once. A user's mistake is one line on the standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lightning_nas import __version__
from lightning_nas.errors import ExperimentError, NASError
from lightning_nas.hpo import sweep_command
from lightning_nas.trial import Trial, best

if TYPE_CHECKING:
    from lightning_nas.experiment.store import SqliteStore

PROGRAM = "lightning-nas"
_LOG = "search.log"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; what the installed script `lightning-nas` calls.

    Args:
        arguments: what follows the program's name; None takes the process's own.

    Returns:
        The exit code: 0; 2 after a mistake of the user, which is told in one line; 130 after Ctrl-C.

    Raises:
        SystemExit: with code 2 for a wrong command or option, with 0 after `--help` and `--version`.
    """
    options = _parse(sys.argv[1:] if arguments is None else list(arguments))
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; at exit nothing may be flushed into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (NASError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


# ---------------------------------------------------------------- commands and options


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog=PROGRAM, description="Neural architecture search for PyTorch Lightning.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Any, what: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = subparsers.add_parser(
            name, help=what, description=what, allow_abbrev=False
        )
        added.set_defaults(run=run)
        commands[name] = added
        return added

    commands: dict[str, argparse.ArgumentParser] = {}

    demo = command(
        "demo", _demo, "Search, train and export a small network on real images, in about a minute."
    )
    demo.add_argument(
        "--directory", type=Path, default=Path("demo"), help="where to write (default: %(default)s)"
    )
    demo.add_argument("--trials", type=_positive, help="how many networks to try")

    show = command("show", _show, "Show the trials of an experiment, best first.")
    _add_experiment(show)
    show.add_argument("--top", type=_positive, metavar="K", help="only the K best (default: all)")
    show.add_argument("--json", action="store_true", help="as JSON, for other programs")

    export = command("export", _export, "Export the best models of an experiment, each proved equal first.")
    _add_experiment(export)
    export.add_argument("--top", type=_positive, default=1, metavar="K", help="the K best (default: 1)")
    export.add_argument(
        "--format",
        choices=("dict", "code", "onnx"),
        default="dict",
        help="dict: the chosen values; code: a Python file that needs only torch; onnx (default: %(default)s)",
    )
    export.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write (default: DIR/export; dict: print)"
    )
    export.epilog = (
        "code and onnx rebuild the models by the code that searched, kept in DIR/experiment.pkl: "
        "use them only on experiments that you trust."
    )

    create = command(
        "create", _create, "Run an experiment file of NNI's: its search space, tuner and trial script."
    )
    create.add_argument("--config", type=Path, required=True, metavar="FILE", help="the experiment file")
    create.add_argument(
        "--directory", type=Path, metavar="DIR", help="where to write (default: runs/<date>-<time>)"
    )
    create.add_argument(
        "--foreground", action="store_true", help="run here until the end (default: in the background)"
    )

    validate = command("validate", _validate, "Check an experiment file of NNI's; nothing is run or written.")
    validate.add_argument("file", type=Path, metavar="FILE", help="the experiment file")

    sweep_command.add_options(command("sweep", sweep_command.run, sweep_command.SUMMARY))

    # argparse answers a misspelt command or option with a list of all; a close match helps more.
    word = next((argument for argument in arguments if not argument.startswith("-")), None)
    if word is not None and word not in commands:
        parser.error(f"there is no command {word!r}{_suggestion(word, commands)}")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        chosen = commands[str(word)]
        have = re.findall(r"--[a-z]+", chosen.format_help())
        chosen.error(f"there is no option {unknown[0]!r}{_suggestion(unknown[0], have)}")
    return options


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, metavar="DIR", help="the folder of the experiment")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it must be an integer of at least 1, but is {text!r}")
    return int(text)


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"


# ---------------------------------------------------------------- demo


def _demo(options: argparse.Namespace) -> None:
    from lightning_nas.demo import run_demo

    run_demo(options.directory, options.trials)


# ---------------------------------------------------------------- show


def _show(options: argparse.Namespace) -> None:
    with _store(options.experiment) as store:
        description, trials = store.description, store.trials()
    ranked = {trial.number: trial for trial in [*best(trials, len(trials)), *trials]}
    shown = list(ranked.values())[: options.top]
    if options.json:
        document = {**description.to_json(), "trials": [_as_json(trial) for trial in shown]}
        print(json.dumps(document, indent=2, allow_nan=False))
        return
    counts = ", ".join(
        f"{n} {status}" for status, n in Counter(trial.status.value for trial in trials).items()
    )
    print(f"{options.experiment}: {len(trials)} trials{counts and f' ({counts})'}")
    print(
        f"strategy {description.strategy}, objective {description.metric or 'default'}, seed {description.seed}"
    )
    _print_table(shown)
    for trial in shown:
        if trial.reason and not trial.is_held:
            print(f"trial {trial.number} {trial.status.value}: {trial.reason}")


def _store(directory: Path) -> contextlib.closing[SqliteStore]:
    """The store of an experiment, to be read without torch and without a pickle.

    Raises:
        StoreError: if there is no experiment, or it cannot be read.
    """
    from lightning_nas.experiment.store import SqliteStore

    return contextlib.closing(SqliteStore.open(directory))


def _as_json(trial: Trial) -> dict[str, Any]:
    return {
        **vars(trial),
        "status": trial.status.value,
        "metrics": _finite(trial.metrics),
        "intermediate": [
            {"step": each.step, "metrics": _finite(each.metrics)} for each in trial.intermediate
        ],
        "artifacts": dict(trial.artifacts),
        "duration_s": trial.duration_s,
    }


def _finite(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """NaN and infinities as strings, for which JSON has no numbers."""
    return {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}


def _print_table(trials: Sequence[Trial]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from lightning_nas.experiment.display import duration_text, sample_text

    table = Table(box=None, pad_edge=False)
    for name in ("trial", "status", "score"):
        table.add_column(name, justify="left" if name == "status" else "right", no_wrap=True)
    table.add_column("metrics")
    table.add_column("sample")
    table.add_column("time", no_wrap=True)
    for trial in trials:
        cells = (
            str(trial.number),
            trial.status.value,
            "" if trial.score is None else f"{trial.score:.5g}",
            ", ".join(f"{name}={value:.5g}" for name, value in trial.metrics.items()),
            sample_text(trial),
            duration_text(trial.duration_s),
        )
        table.add_row(*map(Text, cells))  # as Text: a value such as "[3, 3]" is no markup
    # A pipe has no width: there each trial is one line.
    Console(width=None if sys.stdout.isatty() else 100_000).print(table)


# ---------------------------------------------------------------- export


def _export(options: argparse.Namespace) -> None:
    directory, output = options.experiment, options.output
    with _store(directory) as store:
        trials, runs = store.trials(), store.runs()
    if options.format != "dict":
        # The models are rebuilt by the user's own code, which lay beside the script that searched.
        places = (run["environment"] for run in runs)
        scripts = (Path(place["working_directory"], place["command"][0]).parent for place in places)
        sys.path[:0] = [os.getcwd(), *dict.fromkeys(map(str, scripts))]
        from lightning_nas.experiment import Experiment

        for path in Experiment.resume(directory).export_top_models(options.top, options.format, output):
            print(path)
        return
    leaders = best(trials, options.top)
    if not leaders:
        raise ExperimentError(f"There is nothing to export from {directory}: no trial has completed.")
    if output is None:
        print(json.dumps([trial.sample for trial in leaders], indent=2))
        return
    for trial in leaders:
        path = output / str(trial.number) / "sample.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(trial.sample, indent=2) + "\n")
        print(path)


# ---------------------------------------------------------------- create, validate


def _create(options: argparse.Namespace) -> None:
    from lightning_nas.hpo import load_experiment

    # All that can be wrong with the file is said here, before anything is made.
    experiment = load_experiment(options.config, options.directory)
    if options.foreground:
        experiment.run()
        return
    directory = experiment.directory
    directory.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "lightning_nas.cli",
        "create",
        "--config",
        str(options.config.absolute()),
    ]
    with (directory / _LOG).open("ab") as log:
        process = subprocess.Popen(
            [*command, "--directory", str(directory), "--foreground"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    print(f"{directory} (process {process.pid}; what it prints is in {_LOG})")


def _validate(options: argparse.Namespace) -> None:
    from lightning_nas.hpo import read_config

    config = read_config(options.file)
    limit = "no limit of trials" if config.max_trials is None else f"{config.max_trials} trials"
    print(
        f"{options.file}: right; {len(config.space.space)} labels, {limit}, {config.concurrency} at the same time"
    )


if __name__ == "__main__":
    sys.exit(main())
