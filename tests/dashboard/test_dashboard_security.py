"""Who is let in, and what pages are allowed to do."""

from __future__ import annotations

import re

import pytest
from asgi import Answer, answer
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from lightning_nas.dashboard.security import Guard, allowed, is_loopback

KEY, TOKEN = "key", "secret-token"
SOCKET = "/_nicegui_ws/socket.io"
ORIGIN = "http://127.0.0.1:8080"
PAGE = "<html><script>one</script><p>&lt;script&gt;</p><script type='module'>two</script></html>"


async def _take(socket: WebSocket) -> None:
    await socket.accept()


APP = Starlette(
    routes=[
        Route("/", lambda request: HTMLResponse(PAGE)),
        Route("/text", lambda request: PlainTextResponse("text"), methods=["GET", "POST"]),
        WebSocketRoute(SOCKET, _take),
    ]
)


def get(path: str = "/text", token: str | None = None, method: str = "GET", **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer(Guard(APP, key=KEY, token=token), path, names, method)


def socket(query: str, token: str | None = None, **headers: str) -> Answer:
    return answer(Guard(APP, key=KEY, token=token), f"{SOCKET}?{query}", headers, kind="websocket")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:9000", "[::1]:8080", "127.0.0.5"]
)
def test_names_of_this_machine_are_answered(host: str) -> None:
    assert get(Host=host).text == "text"


@pytest.mark.parametrize(
    "host",
    ["evil.example:8080", "127.0.0.1.evil.example", "192.168.0.7", "", "localhost.", "evil@b", "[::2]", "[x"],
)
def test_other_names_are_not_answered_on_loopback_so_that_dns_rebinding_fails(host: str) -> None:
    refused = get(Host=host)
    assert (refused.status, "Host" in refused.text) == (403, True)


def test_a_name_that_was_given_is_answered() -> None:
    assert allowed("box.local:80", ["box.local"], only_loopback=False)
    assert allowed("192.168.0.7", ["box.local"], only_loopback=False)
    assert not allowed("evil.example", ["box.local"], only_loopback=False)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:9999", "null", "http://127.0.0.1", "http://[x"]
)
def test_another_origin_is_not_answered(origin: str) -> None:
    refused = get(Origin=origin)
    assert (refused.status, refused.text) == (403, "Requests of other origins are not answered.\n")
    assert "access-control-allow-origin" not in refused.headers


def test_the_same_origin_is_answered() -> None:
    assert get(Origin=ORIGIN).status == 200


def test_another_site_may_lead_here_but_not_fetch() -> None:
    assert get(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200
    assert get(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_is_taken_but_get(method: str) -> None:
    assert get(method=method, Origin=ORIGIN).status == 403


def test_a_websocket_of_our_own_page_is_taken() -> None:
    assert socket(f"page_key={KEY}&transport=websocket", Origin=ORIGIN).status == 101


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("transport=websocket", {"Origin": ORIGIN}),
        ("page_key=wrong", {"Origin": ORIGIN}),
        (f"page_key={KEY}", {"Origin": "http://evil.example"}),
        (f"page_key={KEY}", {}),
        (f"page_key={KEY}", {"Origin": "http://evil.example", "Host": "evil.example"}),
    ],
)
def test_any_other_websocket_is_refused(query: str, headers: dict[str, str]) -> None:
    refused = socket(query, **headers)
    assert refused.status == 403
    assert refused.text


def test_the_socket_cannot_be_polled_around_the_check() -> None:
    assert get(f"{SOCKET}?page_key={KEY}&transport=polling").status == 403


def test_off_loopback_a_token_is_demanded_and_kept_in_a_cookie() -> None:
    assert get("/", token=TOKEN).status == 401
    assert get("/?token=wrong", token=TOKEN).status == 401
    assert get("/", token=TOKEN, Cookie="lightning-nas=wrong").status == 401
    first = get(f"/text?token={TOKEN}&a=b", token=TOKEN)
    assert (first.status, first.headers["location"]) == (303, "/text?a=b")
    cookie, *attributes = first.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(attributes)
    assert get(token=TOKEN, Cookie=cookie).text == "text"


def test_a_websocket_needs_the_token_too() -> None:
    assert socket(f"page_key={KEY}&token={TOKEN}", token=TOKEN, Origin=ORIGIN).status == 403
    cookie = f"lightning-nas={TOKEN}"
    assert socket(f"page_key={KEY}", token=TOKEN, Origin=ORIGIN, Cookie=cookie).status == 101


def test_the_redirect_leads_to_no_other_host() -> None:
    assert get(f"//evil.example/?token={TOKEN}", token=TOKEN).headers["location"] == "/evil.example/"


def test_pages_run_only_scripts_of_this_server() -> None:
    page = get("/")
    policy = page.headers["content-security-policy"]
    (nonce,) = re.findall(r"'nonce-([\w-]+)'", policy)
    assert page.text.count(f'<script nonce="{nonce}"') == 2
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert "http" not in policy
    assert "default-src 'none'" in policy
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert int(page.headers["content-length"]) == len(page.text)


def test_each_answer_has_a_nonce_of_its_own() -> None:
    assert len({get("/").headers["content-security-policy"] for _ in range(3)}) == 3


def test_what_is_reached_from_outside_is_told_from_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "[::1]", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.7", "box")] == [False] * 4
