"""Commands and options: how they are read, and what is said of a wrong one."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from lightning_nas import __version__

PROGRAM = "lightning-nas"


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class Commands:
    """The commands of the program, or those of a group such as `trial`.

    Args:
        what: says what they are for.
        parser: of the group; None for the program.

    Attributes:
        parser: reads what comes before the command.
        known: the parsers by the names of their commands.
        groups: the commands that have commands of their own.
    """

    def __init__(self, what: str, parser: Parser | None = None) -> None:
        if parser is None:
            parser = Parser(prog=PROGRAM, description=what, allow_abbrev=False)
            parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
        self.parser = parser
        self.known: dict[str, Parser] = {}
        self.groups: dict[str, Commands] = {}
        self._subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(self, name: str, run: Callable[[argparse.Namespace], None] | None, what: str) -> Parser:
        """A parser for a command, which calls `run` with the options."""
        added: Parser = self._subparsers.add_parser(name, help=what, description=what, allow_abbrev=False)
        added.set_defaults(run=run)
        self.known[name] = added
        return added

    def group(self, name: str, what: str) -> Commands:
        """A command that has commands of its own."""
        self.groups[name] = Commands(what, self.add(name, None, what))
        return self.groups[name]


def parse(commands: Commands, arguments: list[str]) -> argparse.Namespace:
    """The options that were given, and `run` to be called with them.

    Raises:
        SystemExit: with code 2 if they are wrong, with 0 after `--help` and `--version`.
    """
    # argparse answers a misspelt command or option with a list of all; a close match helps more.
    words = (argument for argument in arguments if not argument.startswith("-"))
    group, chosen = commands, commands.parser
    for word in words:
        if word not in group.known:
            group.parser.error(f"there is no command {word!r}{_suggestion(word, group.known)}")
        chosen = group.known[word]
        if word not in group.groups:
            break
        group = group.groups[word]
    options, unknown = commands.parser.parse_known_args(arguments)
    if unknown:
        wrong = unknown[0]
        if not wrong.startswith("-"):
            chosen.error(f"{wrong!r} is one argument too many")
        have = re.findall(r"--[a-z-]+", chosen.format_help())
        chosen.error(f"there is no option {wrong!r}{_suggestion(wrong, set(have))}")
    return options


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """The argument DIR, as `options.experiment`."""
    parser.add_argument("experiment", type=Path, metavar="DIR", help="the folder of the experiment")


def add_trial(parser: argparse.ArgumentParser) -> None:
    """The arguments DIR and NUMBER, as `options.experiment` and `options.number`."""
    add_experiment(parser)
    parser.add_argument("number", type=count(0), metavar="NUMBER", help="the number of the trial")


def add_root(parser: argparse.ArgumentParser) -> None:
    """The argument ROOT, as `options.root`."""
    parser.add_argument(
        "root", type=Path, nargs="?", default=Path(), metavar="ROOT", help="where to look (default: here)"
    )


def count(minimum: int) -> Callable[[str], int]:
    """Reads an integer of at least `minimum`."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"it must be an integer of at least {minimum}, but is {text!r}")
        return int(text)

    return read


def duration(text: str) -> Any:
    """Reads seconds, or a text such as 30m; what `Experiment` takes as `max_duration`."""
    from lightning_nas.experiment.settings import seconds

    value = float(text) if text.replace(".", "", 1).isdecimal() else text
    try:
        seconds(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"it must be seconds, or text such as 90s, 30m, 1h or 1h30m, but is {text!r}"
        ) from None
    return value
