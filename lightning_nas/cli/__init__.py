"""The command `lightning-nas`: runs experiments, shows them, asks their drivers and exports what they found.

Only the commands that train or build a model load torch, so that all others answer at once; help and
wrong options do not even load numpy. A user's mistake is one line on the standard error and exit code 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lightning_nas.cli import (
    asking,
    exporting,
    looking,
    page,
    reporting,
    rescuing,
    running,
    sizing,
    sweeping,
    trials,
)
from lightning_nas.cli.options import PROGRAM, Commands, parse
from lightning_nas.errors import NASError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; what the installed script `lightning-nas` calls.

    Args:
        arguments: what follows the program's name; None takes the process's own.

    Returns:
        The exit code: 0; 2 after a mistake of the user, which is told in one line; 130 after Ctrl-C.

    Raises:
        SystemExit: with code 2 for a wrong command or option, with 0 after `--help` and `--version`.
    """
    commands = Commands("Neural architecture search for PyTorch Lightning.")
    for group in (running, sweeping, page, looking, asking, trials, exporting, reporting, sizing, rescuing):
        group.add(commands)
    options = parse(commands, sys.argv[1:] if arguments is None else list(arguments))
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
