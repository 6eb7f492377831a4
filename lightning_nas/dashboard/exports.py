"""Code and ONNX of a trial's network, made by the command line in a process of its own; Netron, if it is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from lightning_nas.dashboard.files import plain

_PATIENCE_S = 600.0
_START_S = 10.0
_LAST_LINES = 12
_SUFFIXES = {"code": ".py", "onnx": ".onnx"}
_NETRON = "import netron, sys; netron.start(sys.argv[1], ('127.0.0.1', int(sys.argv[2])), browse=False); netron.wait()"

_viewers: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Failure:
    """Why something could not be made, in the words of what tried."""

    text: str


def export(directory: Path, number: int, formatter: str) -> Path | Failure:
    """The network of a trial as `formatter`, "code" or "onnx".

    It is made by `lightning-nas export`, which loads torch and the objects kept in `experiment.pkl`; neither
    comes into this process. It blocks: call it in a thread.
    """
    command = ["export", str(directory), "--trial", str(number), "--format", formatter]
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "lightning_nas.cli", *command],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            code = process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return Failure(f"It took longer than {_PATIENCE_S:.0f} seconds.")
        printed.seek(0)
        lines = plain(printed.read().decode(errors="backslashreplace")).strip().splitlines()
    if code != 0:
        return Failure("\n".join(lines[-_LAST_LINES:]) or f"It ended with code {code}.")
    for line in reversed(lines):
        path = Path(line)
        if path.suffix == _SUFFIXES[formatter] and path.is_file():
            return path
    return Failure("\n".join(["It wrote no such file; it said:", *lines[-_LAST_LINES:]]))


def has_netron() -> bool:
    """Whether the package `netron` is installed."""
    return importlib.util.find_spec("netron") is not None


def open_in_netron(path: Path) -> str:
    """Starts Netron's own server for a model, as it is shipped; gives its address. `close_netron` ends it."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    _viewers.append(
        subprocess.Popen(
            [sys.executable, "-c", _NETRON, str(path), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    )
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and _viewers[-1].poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            break
        time.sleep(0.05)
    return f"http://127.0.0.1:{port}"


def close_netron() -> None:
    """Ends all servers that `open_in_netron` has started."""
    for viewer in _viewers:
        viewer.terminate()
        viewer.wait()
    _viewers.clear()
