"""What happens to every request before its endpoint and to every answer after it. Pure ASGI, so streams stay streams.

From the outside in: `Envelope` (request id, security headers, access log), `cors.Cors`, `Apology` (answer to a bug),
`Gate` (Host and Origin). Knows no body and no route; size limits of bodies are in `body`, of heads in `guard`.
"""

from __future__ import annotations

import http
import re
import secrets
import time
from ipaddress import ip_address

import msgspec
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frontdesk.access.origins import Origins
from frontdesk.errors import FrontdeskError
from frontdesk.server.errors import CLIENT_CLOSED_REQUEST, Refused, error_response, unexpected
from frontdesk.telemetry.logs import where
from frontdesk.telemetry.problems import Asked, Problems, asking

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")
READING = {"GET", "HEAD", "OPTIONS"}
PASSED_ON = re.compile(  # what proxies say of a request
    r"forwarded|via|x-forwarded-.*|x-original-.*|x-real-ip|x-client-ip|x-cluster-client-ip|x-scheme|true-client-ip|cf-.*",
    re.IGNORECASE,
)
PROBES = {"/livez", "/readyz", "/health"}  # asked every second by somebody: logged at debug level

log = structlog.stdlib.get_logger("frontdesk.access")


class _Error(msgspec.Struct):
    message: str
    code: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error


class Envelope:
    """Request id and security headers on every answer, one log line a request, and an answer even to a bug in `Cors`.

    `problems` hears of every answer with an error, but for probes.
    """

    def __init__(self, app: ASGIApp, problems: Problems) -> None:
        self._app = app
        self._problems = problems

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        asked = Asked(request_id, scope.get("method", "WS"), _path(scope))
        began = time.perf_counter()
        status = 0
        told = False

        async def sender(message: Message) -> None:
            nonlocal status, told
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                _add_headers(message, request_id)
            elif message["type"] == "websocket.accept":
                status = 101
                MutableHeaders(scope=message)["x-request-id"] = request_id
            elif status >= 400 and not told:
                told = True
                self._tell(asked, status, message.get("body", b""))
            await send(message)

        token = asking.set(asked)
        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                await self._app(scope, receive, sender)
        except Exception as error:  # whatever it is: the log has it, and who asked is told
            _log_bug(request_id, error)
            if status or scope["type"] != "http":
                self._problems.answered(asked, 500, FrontdeskError.code, "the answer broke off; the log has more")
                raise
            await unexpected(request_id)(scope, receive, sender)
        finally:
            asking.reset(token)
            _log_line(asked, status, time.perf_counter() - began)

    def _tell(self, asked: Asked, status: int, body: bytes) -> None:
        if status != CLIENT_CLOSED_REQUEST and asked.path not in PROBES:
            self._problems.answered(asked, status, *_said(status, body))


class Apology:
    """Answers a bug of ours: the log has the stack, the client a 500 with the request's id.

    Stands within `Cors`, so that a page which may read our answers can read this one too. What it cannot answer (an
    answer that breaks off, a WebSocket) it leaves to `Envelope`, in which it must stand.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = asking.get()
        if scope["type"] != "http" or asked is None:
            await self._app(scope, receive, send)
            return
        begun = False

        async def sender(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sender)
        except Exception as error:  # whatever it is: the log has it, and who asked is told
            if begun:
                raise
            _log_bug(asked.request_id, error)
            await unexpected(asked.request_id)(scope, receive, send)


class Gate:
    """Refuses what a browser was tricked into: a foreign page's POST or WebSocket, and a rebound host name.

    Programs send no Origin and pass. A page passes when its origin is listed in the settings or is a widget's, or when
    it came from this server itself. Where a loopback address asks nobody for a key (`open_loopback`) the latter must
    also be called by a loopback name, since any name can be made to point there; and since a page reads its own server
    without an Origin, nobody is answered there under a name that is neither the machine's own nor a listed origin's.
    In the scope's state, `widget_page` says that a page comes as a widget's alone, and `own_machine` that nothing
    speaks against a program or page of this machine: no other name, page or proxy.

    `private`: nobody needs a key, since only this machine's own programs are meant to come. Then a foreign name or a
    proxy's headers are refused altogether: behind them may be anybody. So is HTTP/1.0, which nginx speaks to a server
    behind it unless it is told otherwise. A proxy that leaves no trace at all is not found out.
    """

    def __init__(self, app: ASGIApp, origins: Origins, open_loopback: bool, private: bool) -> None:
        self._app = app
        self._origins = origins
        self._open_loopback = open_loopback
        self._private = private

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (refused := await self._refused(scope)):
            await deny(refused, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _refused(self, scope: Scope) -> Refused | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) > 1 or (hosts and not HOST.fullmatch(hosts[0])) or (not hosts and scope["http_version"] != "1.0"):
            return Refused(400, "the request needs exactly one valid Host header", "invalid_host")
        passed_on = scope["http_version"] == "1.0" or any(PASSED_ON.fullmatch(name) for name in headers)
        if self._private and (passed_on or (hosts and not calls_loopback(hosts[0]))):
            message = "this server asks for no key, so only its own machine may come, and under no other name"
            return Refused(403, message + ": behind a proxy, serve with --auth on", "not_local")
        if self._open_loopback and hosts and not (calls_loopback(hosts[0]) or self._origins.names(hosts[0])):
            message = "this server asks for no key, so it answers only under names of its own machine and of --origins"
            hint = ": behind a proxy, serve with --auth on, or let everybody in by --origins https://its-name"
            return Refused(403, message + hint, "host_not_allowed")
        origins = headers.getlist("origin")
        own_page = not origins or (hosts and all(is_same(origin, hosts[0]) for origin in origins))
        if hosts and own_page and calls_loopback(hosts[0]) and not passed_on:
            scope.setdefault("state", {})["own_machine"] = True
        if not origins or (len(origins) == 1 and self._is_trusted(origins[0], hosts[0] if hosts else "")):
            return None
        if len(origins) == 1 and await self._origins.allows(origins[0]):
            scope.setdefault("state", {})["widget_page"] = True
            return None
        if scope["type"] == "http" and scope["method"] in READING:
            return None
        message = "pages of this origin may not use this server; its operator can allow them with --origins or a widget"
        return Refused(403, message, "origin_not_allowed")

    def _is_trusted(self, origin: str, host: str) -> bool:
        """Whether it is listed, or this server's own."""
        if self._origins.lists(origin):
            return True
        if not is_same(origin, host):
            return False
        return not self._open_loopback or calls_loopback(host)


def is_same(origin: str, host: str) -> bool:
    """Whether a page of this origin came from the host that it calls."""
    return bool(host) and origin.partition("://")[2].lower() == host.lower()


def calls_loopback(host: str) -> bool:
    """Whether a Host header names the machine itself, with or without a port."""
    named = HOST.fullmatch(host)
    return named is not None and is_loopback(named[1].strip("[]"))


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is the machine's own. Of names only one is: others can be made to mean it."""
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


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


def _path(scope: Scope) -> str:
    """The raw path keeps control characters escaped; what follows the '?' is never logged."""
    return scope.get("raw_path", b"").decode("ascii", "replace").partition("?")[0][:200]


def _said(status: int, body: bytes) -> tuple[str | None, str]:
    """Code and message of an answer with an error; the status in words where it has none."""
    try:
        error = msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.MsgspecError, ValueError):
        return None, http.HTTPStatus(status).phrase
    return error.code, error.message


def _log_bug(request_id: str, error: Exception) -> None:
    log.error("unexpected exception", request_id=request_id, stack=where(error))


def _log_line(asked: Asked, status: int, seconds: float) -> None:
    write = log.debug if asked.path in PROBES else log.info
    ms = round(seconds * 1000, 1)
    write("request", method=asked.method, path=asked.path, status=status, ms=ms, request_id=asked.request_id)
