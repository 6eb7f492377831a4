"""Who may ask the server for what: the guard in front of every request and every websocket.

The page can stop trials and read files, so other sites that are open in the same browser must not reach it, nor other
machines unless they are told the token:

- The `Host` header must be a name of this server. A site that has its own name resolve to this address (DNS
  rebinding) is told apart by it.
- Nothing is taken from another origin: not a websocket, not a `fetch`.
- A websocket, over which all actions come, must bring the key that only pages of this server hold.
- Off loopback each request must bring a token, from the URL once and from a cookie then.
- Only GET and HEAD exist beside the websocket.

Pages run the scripts that this server delivers, and no others, and load nothing from elsewhere (Content-Security-
Policy). Vue compiles templates in the browser, which needs `unsafe-eval`; Quasar and ECharts set styles inline.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SOCKET = "/_nicegui_ws/"
KEY = "page_key"
"""The query parameter in which a page's websocket brings its key."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'"
)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that is bound to `host`.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def allowed(host: str, names: Iterable[str], only_loopback: bool) -> bool:
    """Whether a `Host` header names this server.

    Args:
        host: the header, perhaps with a port; any port will do, since tunnels change it.
        names: what the server is called.
        only_loopback: whether it is bound to loopback. Otherwise any address will do too: a page under an
            address cannot have been rebound to another one.
    """
    name = _netloc(f"//{host}", "hostname")
    if name in {each.lower() for each in names}:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not only_loopback


class Guard:
    """ASGI middleware that turns away whoever may not ask, and adds the headers that protect pages.

    Args:
        app: what answers the others.
        names: of this server, as they may stand in `Host`.
        only_loopback: whether it is bound to loopback.
        token: that must be brought; None for none.
        key: that a websocket must bring.
        cookie: the name of the cookie in which a browser keeps the token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        names: Iterable[str] = LOOPBACK,
        only_loopback: bool = True,
        token: str | None = None,
        key: str,
        cookie: str = "lightning-nas",
    ) -> None:
        self._app = app
        self._names = tuple(names)
        self._only_loopback = only_loopback
        self._token = token
        self._key = key
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        why = self._refusal(scope, headers, query)
        if why is not None:
            await _refuse(403, why, scope, receive, send)
        elif self._token is None:
            await self._answer(scope, receive, send)
        elif scope["type"] == "http" and _equal(query.pop("token", ""), self._token):
            await _KeepToken(query, self._cookie, self._token)(scope, receive, send)
        elif _has_token(headers, self._cookie, self._token):
            await self._answer(scope, receive, send)
        else:
            why = "This page needs its token: open the address that `lightning-nas ui` printed."
            await _refuse(401, why, scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers, query: Mapping[str, str]) -> str | None:
        """Why a request is turned away, whatever it brings as a token; None if it is not."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not allowed(host, self._names, self._only_loopback):
            return "This server does not go by the name in the Host header."
        if origin is not None and _netloc(origin, "netloc") != host.lower():
            return "Requests of other origins are not answered."
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return "Requests of other sites are not answered."
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            return "Only GET is answered."
        if scope["path"].startswith(_SOCKET):
            if scope["type"] != "websocket":
                return "This address takes websockets only."
            if origin is None:
                return "A websocket must name its origin."
            if not _equal(query.get(KEY, ""), self._key):
                return (
                    "The page that asks is not one of this server, or of one that has ended; load it again."
                )
        return None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        nonce = secrets.token_urlsafe(16)
        start: Message | None = None
        body = b""

        async def protected(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers["Content-Security-Policy"] = _POLICY.format(nonce=nonce)
                if headers.get("content-type", "").startswith("text/html"):
                    start = message
                    return
            if start is None:
                await send(message)
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                # In what NiceGUI renders, `<` of any text is escaped: these are its own scripts.
                body = body.replace(b"<script", f'<script nonce="{nonce}"'.encode())
                MutableHeaders(scope=start)["content-length"] = str(len(body))
                await send(start)
                await send({"type": "http.response.body", "body": body})

        await self._app(scope, receive, protected)


class _KeepToken:
    """Sends a browser to the same address without the token, which it keeps in a cookie."""

    def __init__(self, query: Mapping[str, str], cookie: str, token: str) -> None:
        self._query, self._cookie, self._token = query, cookie, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # One slash at the beginning: `//host` would be another host.
        path = "/" + scope["path"].lstrip("/")
        response = RedirectResponse(path + (f"?{urlencode(self._query)}" if self._query else ""), 303)
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        await response(scope, receive, send)


def _has_token(headers: Headers, cookie: str, token: str) -> bool:
    try:
        kept = SimpleCookie(headers.get("cookie", "")).get(cookie)
    except CookieError:
        return False
    return kept is not None and _equal(kept.value, token)


def _netloc(url: str, part: Literal["hostname", "netloc"]) -> str:
    """A part of an address in small letters; empty if it is none."""
    try:
        return str(getattr(urlsplit(url), part) or "").lower()
    except ValueError:
        return ""


def _equal(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode(), expected.encode())


async def _refuse(status: int, why: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    await PlainTextResponse(why + "\n", status, dict(_HEADERS))(scope, receive, send)
