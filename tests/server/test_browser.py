"""What a browser may be tricked into, and what keeps it from that: Origin, Host, CORS, policies, subprotocols."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from frontdesk.config import Settings
from frontdesk.server.app import build_app
from frontdesk.server.middleware import calls_loopback, is_loopback

if TYPE_CHECKING:
    from tests.conftest import Server

SHOP = "https://shop.example"
FOREIGN = [
    "http://evil.example",
    "null",
    "https://shop.example.evil.example",
    "http://shop.example",
    "",
    "https://SHOP.example/",
    "http://[",
]
BODY = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def shop(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Server]:
    """A server that allows one origin."""
    with launch("--origins", SHOP) as server:
        yield server


@pytest.fixture(scope="module")
def anybody(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Server]:
    """A server on the loopback address that lets everybody in, and allows one origin."""
    with launch("--origins", SHOP, auth="off") as server:
        yield server


def own_origin(server: Server) -> str:
    return server.url


def post(server: Server, **headers: str) -> httpx2.Response:
    return httpx2.post(server.url + "/v1/chat/completions", json=BODY, headers=headers, timeout=30)


@pytest.mark.parametrize("origin", FOREIGN)
def test_foreign_pages_cannot_post(shop: Server, origin: str) -> None:
    """If this fails, any web page can burn this machine's compute through a visitor's browser."""
    response = post(shop, origin=origin)
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "origin_not_allowed"


@pytest.mark.parametrize("origin", FOREIGN)
def test_foreign_pages_cannot_open_a_socket(shop: Server, origin: str) -> None:
    """If this fails, any web page can talk to the model and read the answers: CORS does not cover WebSockets."""
    with pytest.raises(InvalidStatus) as refused:
        connect(shop.ws_url + "/v1/responses", origin=Origin(origin), proxy=None)
    assert refused.value.response.status_code == 403


def test_listed_and_own_pages_may(shop: Server) -> None:
    """If this fails, the widget on the shop's page, or our own demo page, stops working."""
    for origin in (SHOP, own_origin(shop)):
        response = post(shop, origin=origin)
        assert response.status_code == 200
        with connect(shop.ws_url + "/v1/responses", origin=Origin(origin), proxy=None):
            pass
    assert post(shop, origin=SHOP).headers["access-control-allow-origin"] == SHOP


def test_a_rebound_name_is_not_our_own_page(shop: Server) -> None:
    """If this fails, DNS rebinding makes any page "same origin" with a server on the loopback address."""
    assert post(shop, origin=f"http://evil.example:{shop.port}", host=f"evil.example:{shop.port}").status_code == 403


@pytest.mark.parametrize("path", ["/", "/v1/conversations", "/v1/keys", "/livez"])
@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"x-forwarded-for": "203.0.113.9"}, {"via": "1.1 proxy"}, {"x-forwarded-proto": "https"},
     {"cf-connecting-ip": "203.0.113.9"}],
    ids=str,
)  # fmt: skip
def test_who_comes_from_elsewhere_to_a_server_without_keys(server: Server, path: str, headers: dict[str, str]) -> None:
    """If this fails, a page behind a rebound name, or the world behind a proxy, reads everybody's conversations."""
    refused = httpx2.get(server.url + path, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_local")
    assert "--auth on" in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/", "/v1/conversations", "/livez"])
@pytest.mark.parametrize("forwarded", [{}, {"x-forwarded-for": "203.0.113.9"}], ids=["plain", "forwarded"])
def test_a_rebound_name_reads_nothing_where_everybody_may_come(
    anybody: Server, path: str, forwarded: dict[str, str]
) -> None:
    """If this fails, a page behind a rebound name reads everybody's conversations with --auth off; or such a server
    cannot stand behind a proxy."""
    for host in ("evil.example", f"evil.example:{anybody.port}", "shop.example.evil.example"):
        refused = httpx2.get(anybody.url + path, headers={"host": host, **forwarded})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "host_not_allowed")
        assert "--origins" in refused.json()["error"]["message"]
    for host in ("127.0.0.1", f"localhost:{anybody.port}", "[::1]", "shop.example", "SHOP.example:8443"):
        assert httpx2.get(anybody.url + path, headers={"host": host, **forwarded}).status_code == 200, host


def test_a_proxy_that_speaks_the_oldest_http_is_one(server: Server) -> None:
    """If this fails, nginx with a bare `proxy_pass` makes the world the operator of a server without keys."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
        plain.sendall(f"GET /v1/keys HTTP/1.0\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        assert b" 403 " in plain.recv(100)


def test_a_proxy_may_come_where_keys_are_needed(launch: Callable[..., AbstractContextManager[Server]]) -> None:
    """If this fails, a server cannot stand behind the proxy that ends TLS, or its own pages are refused there."""
    with launch("--auth", "on") as behind:
        headers = {"host": "chat.example", "x-forwarded-for": "203.0.113.9"}
        assert httpx2.get(behind.url + "/", headers=headers).status_code == 200
        assert httpx2.get(behind.url + "/v1/models", headers=headers).status_code == 401
        own = headers | {"origin": "https://chat.example"}
        assert post(behind, **own).json()["error"]["code"] == "missing_api_key"
        assert post(behind, **headers, origin="https://evil.example").json()["error"]["code"] == "origin_not_allowed"


def test_preflight(shop: Server) -> None:
    """If this fails, the listed page's POST is stopped by its browser, or a foreign page's is not."""
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,authorization"}
    allowed = httpx2.options(shop.url + "/v1/responses", headers={"origin": SHOP, **asked})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == SHOP
    foreign = httpx2.options(shop.url + "/v1/responses", headers={"origin": "http://evil.example", **asked})
    assert foreign.status_code == 400
    assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize(
    "names",
    [
        "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-package-version,"
        "x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout,user-agent",
        "content-type, HTTP-Referer, X-Title",
        "openai-beta,x-requested-with,x-stainless-something-new",
        ",".join(f"x-{i:0126}" for i in range(64)),
    ],
    ids=["openai", "openrouter", "others", "many"],
)
def test_preflight_of_clients_with_headers_of_their_own(shop: Server, names: str) -> None:
    """If this fails, the `openai` package, LangChain.js or the AI SDK in a page of a listed origin are stopped by the
    browser, which asks for all the headers that they add."""
    asked = {"access-control-request-method": "POST", "access-control-request-headers": names}
    allowed = httpx2.options(shop.url + "/v1/responses", headers={"origin": SHOP, **asked})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, SHOP)
    assert re.split(", ?", allowed.headers["access-control-allow-headers"]) == re.split(", ?", names)
    assert "Access-Control-Request-Headers" in allowed.headers["vary"]
    foreign = httpx2.options(shop.url + "/v1/responses", headers={"origin": "http://evil.example", **asked})
    assert foreign.status_code == 400
    assert not [name for name in foreign.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "names", ["x y", "x:y", "*, x@y", '"x"', "x" * 129, ",".join(f"x-{i}" for i in range(65))], ids=range(6)
)
def test_preflight_with_names_that_no_browser_sends(shop: Server, names: str) -> None:
    """If this fails, whatever somebody writes into a preflight comes back in a header of ours."""
    asked = {"access-control-request-method": "POST", "access-control-request-headers": names}
    refused = httpx2.options(shop.url + "/v1/responses", headers={"origin": SHOP, **asked})
    assert (refused.status_code, refused.text) == (400, "Disallowed CORS headers")
    assert "access-control-allow-headers" not in refused.headers


def test_a_listed_page_may_come_from_a_public_network(shop: Server) -> None:
    """If this fails, a browser that guards private networks keeps the listed page from a server on one, or lets a
    foreign page in."""
    asked = {"access-control-request-method": "POST", "access-control-request-private-network": "true"}
    allowed = httpx2.options(shop.url + "/v1/responses", headers={"origin": SHOP, **asked})
    assert (allowed.status_code, allowed.headers["access-control-allow-private-network"]) == (200, "true")
    del asked["access-control-request-private-network"]
    plain = httpx2.options(shop.url + "/v1/responses", headers={"origin": SHOP, **asked})
    assert "access-control-allow-private-network" not in plain.headers
    asked["access-control-request-private-network"] = "true"
    foreign = httpx2.options(shop.url + "/v1/responses", headers={"origin": "http://evil.example", **asked})
    assert foreign.status_code == 400
    assert not [name for name in foreign.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("origins", "origin", "named"),
    [((SHOP,), SHOP, SHOP), (("*",), SHOP, "*"), ((SHOP,), "http://evil.example", None), ((SHOP,), None, None)],
    ids=["listed", "every", "foreign", "none"],
)
async def test_who_may_read_what_answers_a_bug(
    origins: tuple[str, ...], origin: str | None, named: str | None
) -> None:
    """If this fails, a listed page takes a bug of ours for a broken network, a foreign one reads the answer, or the
    request has another id in the answer than in the log, or two lines there."""

    async def broken(request: Request) -> None:
        raise RuntimeError("nobody foresaw this")

    app = build_app(Settings(database="memory", origins=origins))
    app.router.routes.append(Route("/openapi.json", broken))
    transport = httpx2.ASGITransport(app=app)  # pyright: ignore[reportArgumentType]
    headers = {"x-request-id": "req-7", **({} if origin is None else {"origin": origin})}
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        with capture_logs() as lines:
            answer = await client.get("/openapi.json", headers=headers)
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "req-7")
    assert "req-7" in answer.json()["error"]["message"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers.get("access-control-allow-origin") == named
    assert ("x-request-id" in answer.headers.get("access-control-expose-headers", "")) == (named is not None)
    assert answer.headers.get("vary") == (None if origin is None else "Origin")
    assert [(line["event"], line["request_id"]) for line in lines] == [
        ("unexpected exception", "req-7"),
        ("request", "req-7"),
    ]
    assert lines[-1]["status"] == 500
    assert [problem.status for problem in app.state.problems.newest()] == [500]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "127.evil.example", "127.0.0.1.evil.example"]
)
async def test_a_server_on_its_own_machine_answers_to_the_name_that_it_was_given(host: str) -> None:
    """If this fails, a server on another loopback address refuses everybody, or a foreign name passes for one."""
    own = "evil" not in host
    assert is_loopback(host) == own
    assert calls_loopback(f"[{host}]:8000" if ":" in host else f"{host}:8000") == own
    assert calls_loopback(f"[{host}]" if ":" in host else host) == own
    app = build_app(Settings(database="memory", host=host if own else "127.0.0.1"))
    transport = httpx2.ASGITransport(app=app)  # pyright: ignore[reportArgumentType]
    url = f"http://[{host}]:8000" if ":" in host else f"http://{host}:8000"
    async with httpx2.AsyncClient(transport=transport, base_url=url) as client:
        assert ((await client.get("/livez")).status_code == 403) != own


async def test_an_answer_that_a_bug_cuts_short_breaks_off() -> None:
    """If this fails, the answer to a bug is written into the middle of another one, or the operator hears nothing."""

    async def broken(request: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"The beginning"
            raise RuntimeError("nobody foresaw this")

        return StreamingResponse(pieces())

    app = build_app(Settings(database="memory", origins=(SHOP,)))
    app.router.routes.append(Route("/openapi.json", broken))
    transport = httpx2.ASGITransport(app=app)  # pyright: ignore[reportArgumentType]
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        with pytest.raises(RuntimeError, match="nobody foresaw this"):
            await client.get("/openapi.json", headers={"origin": SHOP})
    (problem,) = app.state.problems.newest()
    assert (problem.status, problem.message) == (500, "the answer broke off; the log has more")


def test_without_listed_origins_there_is_no_cors(server: Server) -> None:
    """If this fails, a default installation lets pages read answers."""
    response = httpx2.get(server.url + "/v1/models", headers={"origin": "https://nobody.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("host", ["a b", "evil.example/..", "x@y", "<script>", "a" * 300])
def test_bad_host(server: Server, host: str) -> None:
    """If this fails, a made-up Host reaches code that builds addresses from it."""
    assert httpx2.get(server.url + "/v1/models", headers={"host": host}).status_code == 400


def test_security_headers_are_everywhere(server: Server) -> None:
    """If this fails, an answer can be sniffed as HTML, framed or cached."""
    for path in ("/v1/models", "/nothing", "/livez", "/docs", "/openapi.json"):
        headers = httpx2.get(server.url + path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers


def test_the_reference_page_needs_nothing_from_elsewhere(server: Server) -> None:
    """If this fails, the page is blank under its own policy or without a network."""
    page = httpx2.get(server.url + "/docs").text
    assert not re.findall(r"<script|<link|<img|style=|https?://(?!127\.0\.0\.1)", page)
    assert "/v1/chat/completions" in page


def test_subprotocols(server: Server) -> None:
    """If this fails, a browser's key is echoed into logs and proxies, or the browser drops the connection."""
    url = server.ws_url + "/v1/responses"
    key = Subprotocol("openai-insecure-api-key.ek_secret")
    with connect(url, subprotocols=[Subprotocol("realtime"), key], proxy=None) as socket:
        assert socket.subprotocol == "realtime"
    with connect(url, subprotocols=[key, Subprotocol("chat.v1")], proxy=None) as socket:
        assert socket.subprotocol == "chat.v1"
    with connect(url, subprotocols=[key], proxy=None) as socket:
        assert socket.subprotocol is None
