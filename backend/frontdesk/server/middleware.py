"""What happens to every request before its endpoint and to every answer after it. Pure ASGI, so streams stay streams.

From the outside in: `Envelope` (request id, security headers, access log, answer to a bug), CORS (Starlette's own),
`Gate` (Host and Origin). Knows no body and no route; size limits of bodies are in `body`, of heads in `guard`.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Collection
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frontdesk.errors import FrontdeskError
from frontdesk.server.errors import Refused, error_response, unexpected
from frontdesk.telemetry.logs import where

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")
LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}
READING = {"GET", "HEAD", "OPTIONS"}
PROBES = {"/livez", "/readyz", "/health"}  # asked every second by somebody: logged at debug level

log = structlog.stdlib.get_logger("frontdesk.access")


class Envelope:
    """Request id and security headers on every answer, one log line a request, and an answer even to our own bugs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        began = time.perf_counter()
        status = 0

        async def sender(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                _add_headers(message, request_id)
            elif message["type"] == "websocket.accept":
                status = 101
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                await self._app(scope, receive, sender)
        except Exception as error:
            log.error("unexpected exception", request_id=request_id, stack=where(error))
            if status or scope["type"] != "http":
                raise
            await unexpected(request_id)(scope, receive, sender)
        finally:
            _log_line(scope, status, time.perf_counter() - began, request_id)


class Gate:
    """Refuses what a browser was tricked into: a foreign page's POST or WebSocket, and a rebound host name.

    Programs send no Origin and pass. A page passes when its origin is listed, or when it came from this server itself;
    on a loopback address the latter must also be called by a loopback name, since any name can be made to point there.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], loopback: bool) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (refused := self._refused(scope)):
            await deny(refused, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refused(self, scope: Scope) -> Refused | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) > 1 or (hosts and not HOST.fullmatch(hosts[0])) or (not hosts and scope["http_version"] != "1.0"):
            return Refused(400, "the request needs exactly one valid Host header", "invalid_host")
        if scope["type"] == "http" and scope["method"] in READING:
            return None
        origins = headers.getlist("origin")
        if not origins or (len(origins) == 1 and self._allowed(origins[0], hosts[0] if hosts else "")):
            return None
        message = "pages of this origin may not use this server; its operator can allow them with --origins"
        return Refused(403, message, "origin_not_allowed")

    def _allowed(self, origin: str, host: str) -> bool:
        if "*" in self._origins or origin in self._origins:
            return True
        if urlsplit(origin).netloc.lower() != host.lower() or not host:
            return False
        return not self._loopback or host.lower().rsplit(":", 1)[0] in LOOPBACK or host.lower() in LOOPBACK


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


async def deny(error: FrontdeskError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    await error_response(error)(scope, receive, send)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"


def _add_headers(message: Message, request_id: str) -> None:
    headers = MutableHeaders(scope=message)
    headers["x-request-id"] = request_id
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)


def _log_line(scope: Scope, status: int, seconds: float, request_id: str) -> None:
    method = scope.get("method", "WS")
    # The raw path keeps control characters escaped; what follows the '?' is never logged.
    path = scope.get("raw_path", b"").decode("ascii", "replace").partition("?")[0][:200]
    write = log.debug if path in PROBES else log.info
    write("request", method=method, path=path, status=status, ms=round(seconds * 1000, 1), request_id=request_id)
