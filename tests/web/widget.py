"""The support widget on a page of somebody else's, as a visitor uses it, and the site that the page comes from.

Knows the widget's roles, parts and class names, and no test.
"""

from __future__ import annotations

import asyncio
import html
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
from playwright.async_api import ConsoleMessage, Page, Route, expect
from tests.conftest import ROOT, Server
from tests.web.chat import Chat

from frontdesk.access import visitors
from frontdesk.principal import Limits

DIST = ROOT / "web_demo/dist"
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}
SETTLE_SECONDS = 20  # within which a server has heard of a new widget's origin


class Site:
    """A web server of its own, and so an origin of its own: the sample shop's files, and pages that tests `add`."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.pages: dict[str, tuple[str, Mapping[str, str]]] = {}

    def add(self, path: str, body: str, **headers: str) -> str:
        """The address of a page with this body; `headers` as keywords, `content_security_policy`."""
        self.pages[path] = (body, {name.replace("_", "-"): value for name, value in headers.items()})
        return self.url + path

    def strict(self, chat: str, widget: str, name: str = "/strict", direction: str = "ltr", **data: str) -> str:
        """The address of a page that embeds the widget under the strictest policy that the widget promises to bear."""
        tag = " ".join(f'data-{key}="{html.escape(value)}"' for key, value in {"widget": widget, **data}.items())
        return self.add(
            name,
            f"<!doctype html><html lang=en dir={direction}><head><title>Shop</title>"
            "<meta name=viewport content='width=device-width, initial-scale=1'>"
            "<meta name=color-scheme content='light dark'></head>"
            "<body><main><h1>Shop</h1><p>We sell kettles.</p><button>More</button></main>"
            f"<script src='{chat}/widget.js' {tag} defer></script></body></html>",
            content_security_policy=(
                f"default-src 'none'; script-src {chat}; connect-src {chat} {chat.replace('http', 'ws', 1)}; "
                "require-trusted-types-for 'script'"
            ),
        )


@contextmanager
def running_site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path in site.pages:
                text, headers = site.pages[path]
                self._answer(text.encode(), {"content-type": TYPES[".html"], **headers})
            elif path == "/favicon.ico":
                self.send_response(204)
                self.end_headers()
            elif (file := DIST / path.lstrip("/")).is_file() and file.parent == DIST:
                self._answer(file.read_bytes(), {"content-type": TYPES[file.suffix]})
            else:
                self.send_error(404)

        def _answer(self, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(200)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: the browser's console says what matters."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def widgets(database: str, *arguments: str) -> str:
    """What `frontdesk widgets …` prints, as an operator runs it."""
    command = [sys.executable, "-m", "frontdesk", "widgets", *arguments, "--database", database]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT / "backend")]))
    environment = os.environ | {"PYTHONPATH": path, "XDG_STATE_HOME": os.path.dirname(database)}
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout.strip()


def create_widget(server: Server, origin: str, *flags: str) -> str:
    """The id of a new widget that pages of `origin` may embed, once the server knows of it."""
    id = widgets(server.database, "create", "shop", "--origin", origin, *flags)
    asked = {"origin": origin, "access-control-request-method": "POST"}
    deadline = time.monotonic() + SETTLE_SECONDS
    while httpx2.options(f"{server.url}/v1/responses", headers=asked).status_code != 200:
        assert time.monotonic() < deadline, "the server did not hear of the widget"
        time.sleep(0.1)
    return id


def add_talk(server: Server, widget: str, visitor: str, conversation: str, *texts: str) -> None:
    """Puts a talk, the visitor's turn first, into a conversation of a widget's visitor.

    The visitor cannot do that, since nobody may speak for the model. So it takes a token that no widget gives out,
    signed with the server's own secret.
    """
    with closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)) as database:
        (secret,) = database.execute("SELECT value FROM secrets WHERE name = 'visitors'").fetchone()
    token, _ = visitors.issue(secret, visitors.VisitorToken(visitor, widget[4:], None, Limits()), 600)
    roles = ["user", "assistant"] * len(texts)
    items = [{"type": "message", "role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    address = f"{server.url}/v1/conversations/{conversation}/items"
    headers = {"authorization": f"Bearer {token}"}
    httpx2.post(address, json={"items": items}, headers=headers, timeout=30).raise_for_status()


async def until(page: Page, expression: str) -> None:
    """Wait until this is true on the page. Playwright's own way needs `unsafe-eval`, which these pages forbid."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not await page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        await page.wait_for_timeout(50)


class Widget(Chat):
    """One tab. `problems` are errors of the console, policy violations included, and of scripts."""

    def __init__(self, page: Page, chat: str, id: str) -> None:
        self.page = page
        self.chat = chat
        self.id = id
        self.problems: list[str] = []
        self.forgiven: list[str] = []
        self.asked: list[str] = []  # addresses of all requests
        self.root = page.locator("support-chat")
        self.launcher = page.locator("support-chat .launcher")
        self.panel = page.locator("support-chat .panel")
        self.badge = page.locator("support-chat .badge")
        self.notice = page.locator("support-chat .notice")
        self.input = page.locator("support-chat textarea.input")
        self.questions = page.locator("support-chat .message.user .body")
        self.greeting = page.locator("support-chat .message.greeting .body")
        self.answers = page.locator("support-chat .message.assistant:not(.greeting)")
        self.finished = page.locator("support-chat .message.assistant:not(.greeting)[aria-busy=false]")
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(part in message.text for part in self.forgiven):
            self.problems.append(message.text)

    @property
    def sessions(self) -> int:
        """How many sessions this tab has opened."""
        return sum(url.endswith("/v1/widget/sessions") for url in self.asked)

    async def open(self) -> None:
        await self.launcher.click()
        await expect(self.panel).to_be_visible()

    async def focused(self) -> str:
        """Class of the element inside the widget that has the focus; "" when that is elsewhere."""
        return await self.root.evaluate("chat => chat.shadowRoot.activeElement?.className ?? ''")

    async def record(self) -> dict[str, Any]:
        """What the widget keeps in the page's storage: the visitor and the conversation."""
        return json.loads(await self.page.evaluate("id => localStorage.getItem('frontdesk.' + id)", self.id))

    async def session(self) -> dict[str, Any]:
        """Another session of the same visitor, as the widget itself would open it."""
        record = await self.record()
        body = {"widget": self.id, "refresh": record["refresh"], "conversation": record["conversation"]}
        origin = await self.page.evaluate("location.origin")
        answer = httpx2.post(f"{self.chat}/v1/widget/sessions", json=body, headers={"origin": origin}, timeout=30)
        return answer.raise_for_status().json()

    async def stored(self) -> list[dict[str, Any]]:
        """The conversation's items, the oldest first, as the server keeps them."""
        session = await self.session()
        address = f"{self.chat}/v1/conversations/{session['conversation']}/items?order=asc&limit=100"
        headers = {"authorization": f"Bearer {session['token']}"}
        return httpx2.get(address, headers=headers, timeout=30).raise_for_status().json()["data"]

    async def stored_text(self, number: int = -1) -> str:
        return "".join(part["text"] for part in (await self.stored())[number]["content"])


class Held:
    """Requests that are let through when the test says so."""

    def __init__(self) -> None:
        self._routes: asyncio.Queue[Route] = asyncio.Queue()

    async def on(self, widget: Widget, address: str) -> Held:
        """Hold the next request for this address."""
        await widget.page.route(address, lambda route: self._routes.put_nowait(route), times=1)
        return self

    async def came(self) -> Route:
        return await asyncio.wait_for(self._routes.get(), 30)


def long_answers(tokens: int) -> str:
    """A script that makes each question ask for exactly so many tokens, whatever the transport. Needs no interception,
    which would take the place of the browser's own CORS."""
    fields = json.dumps({"temperature": 1.3, "seed": 11, "max_output_tokens": tokens, "ignore_eos": True})
    return f"""{{
    const longer = text => JSON.stringify({{...JSON.parse(text), ...{fields}}});
    const ask = window.fetch, send = WebSocket.prototype.send;
    window.fetch = (url, options = {{}}) => ask(url, options.method === "POST" && String(url).endsWith("/v1/responses")
      ? {{...options, body: longer(options.body)}} : options);
    WebSocket.prototype.send = function (text) {{
      send.call(this, text.includes("response.create") ? longer(text) : text);
    }};
    }}"""
