"""The server: its pages behind the guard, from a socket to Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse
from nicegui import Client, ui
from nicegui import app as pages_app
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from lightning_nas.dashboard import files, security
from lightning_nas.dashboard.data import Experiments
from lightning_nas.dashboard.exports import close_netron
from lightning_nas.dashboard.look import Page
from lightning_nas.dashboard.pages import (
    architecture,
    experiments,
    importance,
    one_shot,
    overview,
    pareto,
    trial,
    trials,
)
from lightning_nas.dashboard.parts import element
from lightning_nas.drawing.palette import DARK
from lightning_nas.experiment import folder

_IDLE_S = 10.0
_RECONNECT_S = 10.0  # a machine that was busy, or asleep, for less keeps what was chosen on its page
_STYLE = Path(__file__).with_name("look.css")
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><g fill="none" stroke="#1f5fbf" stroke-width="3">'
    '<path d="M6 16 16 6 26 16 16 26Z"/></g><g fill="#1f5fbf"><circle cx="6" cy="16" r="4"/><circle cx="16" cy="6" '
    'r="4"/><circle cx="26" cy="16" r="4"/><circle cx="16" cy="26" r="4"/></g></svg>'
)
_ROUTES: dict[str, Callable[..., Any]] = {
    "/": experiments.show,
    "/experiment/{key}": overview.show,
    "/experiment/{key}/trials": trials.show,
    "/experiment/{key}/trials/{number}": trial.show,
    "/experiment/{key}/architecture": architecture.show,
    "/experiment/{key}/one-shot": one_shot.show,
    "/experiment/{key}/pareto": pareto.show,
    "/experiment/{key}/importance": importance.show,
}


def make_app(shown: Experiments, *, key: str | None = None, **guard: Any) -> ASGIApp:
    """The whole server as an ASGI app; one for each process, since NiceGUI has one.

    Args:
        shown: what the pages show.
        key: that websockets must bring; a random one if None.
        guard: further arguments of `security.Guard`.
    """
    key = key or secrets.token_urlsafe(16)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        shown.watch()
        yield
        close_netron()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.get("/look.css")
    def look() -> Response:
        return FileResponse(_STYLE, media_type="text/css", headers={"Cache-Control": "no-cache"})

    @app.get("/files/{name}/{path:path}")
    def download(name: str, path: str) -> Response:
        reader = shown.reader(name)
        if reader is None:
            return PlainTextResponse("There is no such experiment.\n", 404)
        try:
            found = files.inside(reader.directory, path)
        except files.Refused as error:
            return PlainTextResponse(f"{error}\n", 404)
        # Never shown by the browser, whatever is in it.
        return FileResponse(found, media_type="application/octet-stream", filename=found.name)

    def root(request: Request) -> None:
        page = Page(shown, request.cookies)
        page.header()
        with element("div", "body"):
            ui.sub_pages(dict(_ROUTES), data={"page": page})

    colours = "".join(f"--lnas-{name}:{colour};" for name, colour in {**DARK, "paper": "transparent"}.items())
    ui.add_head_html(
        '<link rel="stylesheet" href="/look.css">'
        f"<style>body{{--lnas-paper:transparent}}body.body--dark{{{colours}}}</style>",
        shared=True,
    )
    pages_app.config.socket_io_js_query_params = {security.KEY: key}
    pages_app.config.socket_io_js_transports = ["websocket"]
    ui.run_with(
        app,
        root=root,
        title="lightning-nas",
        favicon=_ICON,
        dark=None,
        tailwind=False,
        language="en-US",
        gzip_middleware_factory=None,
        show_welcome_message=False,
        reconnect_timeout=_RECONNECT_S,
    )
    guarded = security.Guard(app, key=key, **guard)
    return GZipMiddleware(guarded, minimum_size=1000, compresslevel=4)


def serve(
    root: Path,
    listening: socket.socket,
    host: str,
    open_browser: bool = True,
    while_needed: bool = False,
) -> None:
    """Serves the page until Ctrl-C or SIGTERM.

    Args:
        root: the folder whose experiments are shown.
        listening: the socket, see `port.listen`.
        host: what it was bound to. Off loopback a token is demanded, which is part of the printed address.
        open_browser: whether to open one, if there is a screen.
        while_needed: whether to end when no search works on the experiment `root` and no browser looks.
    """
    port = listening.getsockname()[1]
    only_loopback = security.is_loopback(host)
    token = None if only_loopback else secrets.token_urlsafe(24)
    names = {*security.LOOPBACK, host, *([] if only_loopback else [socket.gethostname(), socket.getfqdn()])}
    shown_host = (
        "127.0.0.1" if only_loopback else socket.gethostname() if host in ("0.0.0.0", "::", "") else host
    )
    shown_host = f"[{shown_host}]" if ":" in shown_host else shown_host
    address = f"http://{shown_host}:{port}/" + (f"?token={token}" if token else "")
    app = make_app(
        Experiments(root),
        names=names,
        only_loopback=only_loopback,
        token=token,
        cookie=f"lightning-nas-{port}",
    )
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    print(f"Experiments under {root.absolute()}: {address}   (Ctrl-C ends it)", flush=True)
    if while_needed:
        threading.Thread(target=_end_when_idle, args=(root, server), daemon=True).start()
    if open_browser and _has_screen():
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


def _end_when_idle(root: Path, server: uvicorn.Server) -> None:
    """Ends the server some seconds after the search has ended and the last browser has gone."""
    idle_since = None
    while idle_since is None or time.monotonic() - idle_since < _IDLE_S:
        time.sleep(1.0)
        is_needed = folder.driver(root) is not None or any(
            client.has_socket_connection for client in list(Client.instances.values())
        )
        idle_since = None if is_needed else idle_since or time.monotonic()
    server.should_exit = True


def _has_screen() -> bool:
    """Whether a browser with windows can be opened; others would take the terminal over."""
    if sys.platform.startswith("linux"):
        return any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return True
