"""A server with widgets, as pages that embed them see it: sessions over HTTP, with the Origin that browsers send."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2
import jwt
from tests.acceptance.asking import create_key
from tests.conftest import ROOT

if TYPE_CHECKING:
    from tests.conftest import Server

SHOP = "https://shop.example"
SESSIONS = "/v1/widget/sessions"
TOKEN_FIELDS = {"object", "token", "expires_at", "refresh", "refresh_expires_at", "visitor", "conversation", "widget"}


def frontdesk(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command on a running server's database, as an operator gives it."""
    command = [sys.executable, "-m", "frontdesk", *arguments, "--database", server.database]
    environment = {"PYTHONPATH": str(ROOT / "backend"), "PATH": "/usr/bin:/bin", "COLUMNS": "160"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


@dataclass
class Page:
    """A page of one origin that embeds one widget."""

    server: Server
    widget: str
    secret: str
    origin: str = SHOP
    _admin: list[str] = field(default_factory=list)

    def begin(self, *, origin: str | None = None, forwarded: str = "", **body: Any) -> httpx2.Response:
        """Ask for a session. `origin` "" sends no Origin header; `forwarded` is what a proxy says of the address."""
        headers = {"origin": self.origin if origin is None else origin, "x-forwarded-for": forwarded}
        body = {"widget": self.widget, **body}
        url = self.server.url + SESSIONS
        return httpx2.post(url, json=body, headers={k: v for k, v in headers.items() if v}, timeout=30)

    def session(self, **body: Any) -> dict[str, Any]:
        answer = self.begin(**body)
        assert answer.status_code == 200, answer.text
        assert answer.json().keys() == TOKEN_FIELDS
        return answer.json()

    def call(
        self, token: str, method: str, path: str, body: object = None, *, origin: str | None = None
    ) -> httpx2.Response:
        headers = {"authorization": f"Bearer {token}", "origin": self.origin if origin is None else origin}
        headers = {name: value for name, value in headers.items() if value}
        with httpx2.Client(timeout=60) as client:
            return client.request(method, self.server.url + path, headers=headers, json=body)

    def identity(self, subject: str = "customer 7", **claims: Any) -> str:
        """What the shop's own server signs."""
        said = {"sub": subject, "exp": int(time.time()) + 600, **claims}
        return jwt.encode(said, self.secret, "HS256")

    def admin(self, method: str, path: str, body: object = None) -> httpx2.Response:
        """A request of the operator's."""
        if not self._admin:
            self._admin.append(create_key(self.server, "operator", "--scope", "admin", "--scope", "chat"))
        return self.call(self._admin[0], method, path, body, origin="")


def make_page(server: Server, *flags: str, origin: str = SHOP) -> Page:
    """A new widget for pages of one origin, and such a page, once the server has heard of it."""
    made = frontdesk(server, "widgets", "create", "Shop", "--origin", origin, *flags)
    assert made.returncode == 0, made.stderr
    asked, deadline = {"origin": origin, "access-control-request-method": "POST"}, time.monotonic() + 20
    while httpx2.options(server.url + SESSIONS, headers=asked).status_code != 200:
        assert time.monotonic() < deadline, "a running server takes notice within about a second"
        time.sleep(0.05)
    return Page(server, made.stdout.strip(), made.stderr.rsplit(" ", 1)[1].strip(), origin)


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]
