"""What an experiment ran on: versions, commit, hardware."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from importlib import metadata
from typing import Any

_PACKAGES = (
    "lightning-nas",
    "torch",
    "pytorch-lightning",
    "lightning",
    "torchvision",
    "numpy",
    "optuna",
    "onnx",
)


def environment() -> dict[str, Any]:
    """Versions, the commit of the folder one works in, the machine and the command; JSON can hold it."""
    return {
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "commit": _commit(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "cores": os.cpu_count(),
        "gpus": visible_gpus(),
        "command": sys.argv,
        "working_directory": os.getcwd(),
    }


def visible_gpus() -> list[str]:
    """A value of CUDA_VISIBLE_DEVICES for each NVIDIA GPU that this process may use."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [gpu.strip() for gpu in given.split(",") if gpu.strip() not in ("", "-1")]
    try:
        return _output("nvidia-smi", "--query-gpu=index", "--format=csv,noheader").split()
    except (OSError, subprocess.SubprocessError):  # no driver
        return []


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the current folder, with "+" behind it if files have changed since; None outside git."""
    try:
        head = _output("git", "rev-parse", "HEAD")
        return head + ("+" if _output("git", "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _output(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return run.stdout.strip()
