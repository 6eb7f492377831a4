"""The port the page is served on: a free one is found, and of a busy one it is said who holds it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path

from lightning_nas.errors import ExperimentError

FIRST = 8080
_TRIED = 100
_LISTENS = "0A"


class PortError(ExperimentError):
    """No port can be had; the message says who holds it and which is free."""


def listen(host: str, port: int | None = None) -> socket.socket:
    """A listening socket on a port; on the first free one from 8080 on if `port` is None.

    Raises:
        PortError: if it is taken or cannot be had, or `host` is no address of this machine.
    """
    if port is not None and not 0 <= port < 1 << 16:
        raise PortError(f"A port is a number from 0 to 65535, but got {port}.")
    for candidate in range(FIRST, FIRST + _TRIED) if port is None else [port]:
        try:
            return _bound(host, candidate)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                if port is not None:
                    raise PortError(f"Port {port} is taken{_by(port)}; {_free(host)}") from None
                continue
            if error.errno == errno.EACCES:
                raise PortError(
                    f"Port {candidate} needs more rights than this user has; {_free(host)}"
                ) from None
            raise PortError(f"{host!r} cannot be listened on ({error.strerror or error}).") from None
    raise PortError(f"All ports from {FIRST} to {FIRST + _TRIED - 1} are taken; give another one.")


def _bound(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share the port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except OSError:
        found.close()
        raise
    return found


def _free(host: str) -> str:
    for port in range(FIRST, FIRST + _TRIED):
        with contextlib.suppress(OSError):
            _bound(host, port).close()
            return f"port {port} is free."
    return "give another one."


def _by(port: int) -> str:
    """Who listens on a port, as far as /proc tells."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        with contextlib.suppress(OSError):
            if any(os.readlink(entry) in inodes for entry in (process / "fd").iterdir()):
                words = (
                    (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                )
                return f" by process {process.name} ({words[:100]})"
    return " by a process of another user" if inodes else ""
