"""What a page that embeds the widget gets to see of the server: a visitor's tokens, and never a key or a secret."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import TYPE_CHECKING

import jwt
import pytest
from playwright.async_api import Error, Page, Request, Response, WebSocket
from tests.acceptance.asking import create_key
from tests.web.widget import Site, create_widget, widgets

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenWidget

# Playwright cannot give the body of a stream that a page has read, so the page's own copy of it is kept.
KEEP_BODIES = """{
const ask = window.fetch;
window.bodies = [];
window.fetch = async (...how) => {
    const answer = await ask(...how);
    window.bodies.push(answer.clone().text().catch(String));
    return answer;
};
}"""
STORED = """async chat => JSON.stringify([
    {...localStorage}, {...sessionStorage}, document.cookie, await indexedDB.databases(), await caches.keys(),
    document.documentElement.outerHTML, chat.shadowRoot.innerHTML, await Promise.all(window.bodies),
])"""


class Eavesdropper:
    """Everything that goes to a page or comes from it, as text."""

    def __init__(self, page: Page) -> None:
        self.heard: list[str] = []
        self._reading: list[asyncio.Task[None]] = []
        page.on("request", lambda request: self._soon(self._request(request)))
        page.on("response", lambda response: self._soon(self._response(response)))
        page.on("websocket", self._socket)

    async def all(self) -> str:
        await asyncio.gather(*self._reading)
        return "\n".join(self.heard)

    def _soon(self, reading: Awaitable[None]) -> None:
        self._reading.append(asyncio.ensure_future(reading))

    async def _request(self, request: Request) -> None:
        headers = json.dumps(await request.all_headers())
        self.heard += [request.url, headers, request.post_data or ""]

    async def _response(self, response: Response) -> None:
        self.heard += [response.url, json.dumps(await response.all_headers())]
        try:
            self.heard.append(await response.text())
        except Error:  # a stream, a redirect, or an answer to a preflight: `KEEP_BODIES` has what there is of it
            return

    def _socket(self, socket: WebSocket) -> None:
        self.heard.append(socket.url)
        socket.on("framesent", lambda frame: self.heard.append(str(frame)))
        socket.on("framereceived", lambda frame: self.heard.append(str(frame)))


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_no_key_and_no_secret_reaches_the_page(
    open_widget: OpenWidget, site: Site, start_server: Callable[..., Server], transport: str
) -> None:
    """If this fails, whoever visits a shop finds a key of its server, or can sign in as any of its customers."""
    server = start_server(auth="on")
    keys = [create_key(server, "operator", "--scope", "admin"), create_key(server, "shop")]
    id = create_widget(server, site.url)
    identity_secret = widgets(server.database, "secret", id)
    identity = jwt.encode({"sub": "dana", "exp": int(time.time()) + 600}, identity_secret, "HS256")
    widget = await open_widget(url="about:blank", chat=server.url, id=id, script=KEEP_BODIES)
    listening = Eavesdropper(widget.page)
    heard: list[str] = []
    await widget.page.goto(site.strict(server.url, id, f"/secrets-{transport}", transport=transport))
    await widget.root.evaluate("(chat, token) => chat.identify(token)", identity)
    await widget.open()
    await widget.send("When are you open on Saturday?")
    await widget.settle(1)
    await widget.send("How much is express shipping?")
    heard.append(await widget.root.evaluate(STORED))  # while an answer comes, a record of it is kept
    await widget.settle(2)
    heard.append(await widget.root.evaluate(STORED))
    seen = "\n".join([*heard, await listening.all()])

    for known in ("10:00 to 16:00", "12.90", identity, "authorization", "ek_", "er_", "localStorage"):
        assert known in seen, f"this test does not hear everything: {known} is missing"
    with closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)) as database:
        kept = [value for (value,) in database.execute("SELECT value FROM secrets")]
        hashes = [value for (value,) in database.execute("SELECT hash FROM keys")]
    assert kept
    assert len(hashes) > len(keys)  # the widget has a hidden one
    forbidden = [*(key.split("_", 2)[2] for key in keys), identity_secret]
    for value in (*kept, *hashes):
        forbidden += [value.hex(), base64.b64encode(value).decode(), base64.urlsafe_b64encode(value).decode()]
    assert not [secret for secret in forbidden if secret.rstrip("=") in seen]
    assert "fd_" not in seen
