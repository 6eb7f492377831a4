"""An ASGI application asked directly, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp


@dataclass(frozen=True)
class Answer:
    """What came back; a websocket that was taken has the status 101, one that was refused 403."""

    status: int
    headers: Mapping[str, str]
    text: str


def answer(
    app: ASGIApp,
    path: str,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    kind: str = "http",
) -> Answer:
    """Asks for `path`, which may have a query."""
    given = {"host": "127.0.0.1:8080", **{name.lower(): value for name, value in (headers or {}).items()}}
    plain, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": kind,
        "method": method,
        "scheme": "http" if kind == "http" else "ws",
        "path": plain,
        "raw_path": plain.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }
    sent: list[Any] = []

    async def ask() -> None:
        first = {"type": "http.request"} if kind == "http" else {"type": "websocket.connect"}
        messages = iter([first])

        async def receive() -> Any:
            return next(messages, {"type": f"{kind}.disconnect", "code": 1000})

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)

    asyncio.run(ask())
    if kind == "websocket":
        return Answer(
            101 if sent[0]["type"] == "websocket.accept" else 403, {}, str(sent[0].get("reason", ""))
        )
    found = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(each.get("body", b"") for each in sent[1:]).decode())
