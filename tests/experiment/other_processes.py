"""Scripts in processes of their own, and whether a process has ended."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path


def run_script(script: str, *arguments: object, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def printed_by(script: str, *arguments: object) -> str:
    """What a script prints that takes its time and ends well."""
    done = run_script(script, *arguments, timeout_s=250)
    assert done.returncode == 0, done.stderr
    return done.stdout


def has_ended(pid: int, within_s: float = 10.0) -> bool:
    """Whether a process ends within a time; one that nobody has waited for yet has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False
