"""CORS: which pages of other origins may read our answers. Like Starlette's middleware, for origins that come and go.

An answer names exactly the origin that asked, when that may come; where the settings allow every origin it says `*`. A
page of any other origin gets no CORS header at all, and its preflight a 400. Refusing is `Gate`'s; knows no route.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import SAFELISTED_HEADERS
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frontdesk.access.origins import Origins

METHODS = ("GET", "POST", "DELETE")
REQUEST_HEADERS = (
    "authorization", "content-type", "idempotency-key", "last-event-id", "openai-organization", "openai-project",
    "x-api-key", "x-request-id",
    *(f"x-stainless-{fact}" for fact in (  # OpenAI's client for JavaScript sends these of itself
        "arch", "helper-method", "lang", "os", "package-version", "poll-helper", "retry-count", "runtime",
        "runtime-version", "timeout",
    )),
)  # fmt: skip
ANSWER_HEADERS = (
    "x-request-id", "retry-after", "x-should-retry",
    *(f"x-ratelimit-{fact}-{unit}" for fact in ("limit", "remaining", "reset") for unit in ("requests", "tokens")),
)  # fmt: skip
PREFLIGHT_VARY = (
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network"
)
MAX_AGE = 600  # seconds that a browser may remember a preflight


class Cors:
    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if (origin := headers.get("origin")) is None:
            await self._app(scope, receive, send)
            return
        allowed = await self._origins.allows(origin)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._preflight(headers, allowed)(scope, receive, send)
            return

        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._name(MutableHeaders(scope=message), origin, allowed)
            await send(message)

        await self._app(scope, receive, sender)

    def _name(self, headers: MutableHeaders, origin: str, allowed: bool) -> None:
        headers.add_vary_header("Origin")
        if allowed:
            headers.setdefault("Access-Control-Allow-Origin", "*" if self._origins.every else origin)
            headers["Access-Control-Expose-Headers"] = ", ".join(ANSWER_HEADERS)

    def _preflight(self, asked: Headers, allowed: bool) -> Response:
        headers = {
            "Vary": PREFLIGHT_VARY,
            "Access-Control-Allow-Methods": ", ".join(METHODS),
            "Access-Control-Max-Age": str(MAX_AGE),
            "Access-Control-Allow-Headers": ", ".join(sorted(SAFELISTED_HEADERS | set(REQUEST_HEADERS))),
        }
        if not allowed:
            return PlainTextResponse("Disallowed CORS origin", 400, {"Vary": PREFLIGHT_VARY})
        if self._origins.every:
            headers["Access-Control-Allow-Origin"] = "*"
        else:
            headers["Access-Control-Allow-Origin"] = asked["origin"]
        failures = _failures(asked)
        if failures:
            return PlainTextResponse("Disallowed CORS " + ", ".join(failures), 400, headers)
        return PlainTextResponse("OK", 200, headers)


def _failures(asked: Headers) -> Sequence[str]:
    failures: list[str] = []
    if asked["access-control-request-method"] not in METHODS:
        failures.append("method")
    known = {name.lower() for name in (*SAFELISTED_HEADERS, *REQUEST_HEADERS)}
    if {name.strip().lower() for name in asked.get("access-control-request-headers", "").split(",")} - known - {""}:
        failures.append("headers")
    if "access-control-request-private-network" in asked:
        failures.append("private-network")
    return failures
