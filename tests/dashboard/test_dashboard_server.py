"""The server as a process of its own: it starts, serves, says what is wrong and ends quietly."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from stored import made, trial

from lightning_nas.experiment.port import PortError, listen

START_S = 30.0  # a busy machine; the benchmark of this is in docs/dashboard.md
HEAVY = {"lightning", "pytorch_lightning", "torch", "torchvision", "onnx", "pandas", "matplotlib"}


@contextlib.contextmanager
def served(
    *arguments: object, program: tuple[str, ...] = ("-m", "lightning_nas.dashboard")
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server; gives its address and its process."""
    process = subprocess.Popen(
        [sys.executable, *program, *map(str, arguments), "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, process.communicate(timeout=START_S)
        yield found[0], process
    finally:
        process.kill()
        process.communicate()


def get(address: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=START_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.slow
def test_it_serves_pages_and_files_and_ends_quietly_at_ctrl_c(tmp_path: Path) -> None:
    directory = made(tmp_path / "root" / "an exp", [trial(0)])
    (directory / "trials" / "0").mkdir(parents=True)
    (directory / "trials" / "0" / "page.html").write_text("<script>alert(1)</script>")
    (tmp_path / "root" / "secret").write_text("secret")
    (directory / "link").symlink_to(tmp_path / "root" / "secret")
    with served(tmp_path / "root", "--port", 0) as (address, process):
        assert address.startswith("http://127.0.0.1:")
        assert get(address)[0] == 200
        assert get(address + "experiment/an~20exp/trials")[0] == 200
        with urllib.request.urlopen(address + "files/an~20exp/trials/0/page.html") as answer:
            assert answer.read() == b"<script>alert(1)</script>"
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"].startswith("attachment")
        for path in ("../secret", "..%2Fsecret", "%2e%2e/secret", "link", "%2Fetc%2Fpasswd", "missing"):
            assert get(f"{address}files/an~20exp/{path}")[0] == 404
        assert get(f"{address}files/nothing/trials/0/page.html")[0] == 404
        assert get(address, Host="evil.example")[0] == 403
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=START_S)
    assert (process.returncode, err) == (0, "")


@pytest.mark.slow
def test_off_loopback_the_printed_address_has_the_token(tmp_path: Path) -> None:
    with served(tmp_path, "--port", 0, "--host", "0.0.0.0") as (address, _):
        place, _, token = address.partition("?token=")
        port = place.rstrip("/").rpartition(":")[2]
        assert len(token) >= 32
        here = f"http://127.0.0.1:{port}/"
        assert get(here)[0] == 401
        assert get(here, Cookie=f"lightning-nas-{port}={token}")[0] == 200


@pytest.mark.slow
def test_the_command_line_serves_the_same(tmp_path: Path) -> None:
    made(tmp_path / "exp")
    for command in (("ui", tmp_path), ("view", tmp_path / "exp")):
        with served(*command, "--port", 0, program=("-m", "lightning_nas.cli")) as (address, process):
            assert "lightning-nas" in get(address)[1]
            process.send_signal(signal.SIGINT)
            assert process.wait(START_S) == 0


@pytest.mark.slow
def test_the_page_of_a_run_ends_when_the_search_has_and_no_browser_looks(tmp_path: Path) -> None:
    with served(made(tmp_path / "exp"), "--port", 0, "--while-needed") as (address, process):
        assert get(address)[0] == 200
        assert process.wait(START_S) == 0


def test_nothing_heavy_is_loaded() -> None:
    program = """
import json, sys
import lightning_nas.dashboard.server
from lightning_nas.importance import importances
from lightning_nas.space import Float, SearchSpace
from lightning_nas.trial import Objective, Status, Trial
trials = [Trial(n, {"x": n / 30}, Status.COMPLETED, {"acc": n}, n) for n in range(30)]
importances(SearchSpace({"x": Float(0, 1)}), trials, Objective("acc"))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not HEAVY.intersection(json.loads(done.stdout))


def _said(*arguments: object, **environment: str) -> str:
    """The one line that a mistake is answered with."""
    done = subprocess.run(
        [sys.executable, "-m", "lightning_nas.cli", "ui", *map(str, arguments), "--no-browser"],
        capture_output=True,
        text=True,
        timeout=START_S,
        env={**os.environ, **environment},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_busy_port_says_who_has_it_and_which_is_free(tmp_path: Path) -> None:
    with contextlib.closing(listen("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = _said(tmp_path, "--port", port)
    assert f"Port {port} is taken by process {os.getpid()} (" in said
    assert re.search(r"; port 8\d\d\d is free", said)


def test_without_a_port_the_first_free_one_is_taken() -> None:
    with contextlib.ExitStack() as stack:
        ports = [
            stack.enter_context(contextlib.closing(listen("127.0.0.1"))).getsockname()[1] for _ in range(3)
        ]
    assert ports == sorted(set(ports))
    assert ports[0] >= 8080


@pytest.mark.parametrize(
    ("host", "port", "why"),
    [("203.0.113.1", 0, "cannot be listened on"), ("no.such.host.invalid", 0, "cannot be listened on")],
)
def test_an_address_of_another_machine_is_refused(host: str, port: int, why: str) -> None:
    with pytest.raises(PortError, match=why):
        listen(host, port)


@pytest.mark.parametrize(("port", "why"), [("70000", "70000"), ("-1", "-1"), ("x", "'x'")])
def test_a_number_that_is_no_port_is_refused(tmp_path: Path, port: str, why: str) -> None:
    assert why in _said(tmp_path, f"--port={port}")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert f"There is no folder {tmp_path / 'nix'}." in _said(tmp_path / "nix")


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'nicegui':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    assert 'pip install "lightning-nas[ui]"' in _said(tmp_path, PYTHONPATH=path)


def test_a_socket_can_be_had_again_at_once() -> None:
    with contextlib.closing(listen("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with contextlib.closing(socket.create_connection(("127.0.0.1", port))):
            first.accept()[0].close()
    time.sleep(0.05)
    listen("127.0.0.1", port).close()
