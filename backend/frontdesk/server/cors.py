"""CORS: which pages of other origins may read our answers. Like Starlette's middleware, for origins that come and go.

An answer names exactly the origin that asked, when that may come; where the settings allow every origin it says `*`. A
page that may come may send any header, since clients add some of their own. From a public network to a private one only
those of the settings' origins may come, not a widget's. A page of any other origin gets no CORS header at all, and its
preflight a 400. Refusing is `Gate`'s; knows no route.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frontdesk.access.origins import Origins

METHODS = ("GET", "POST", "DELETE")
MOST_REQUEST_HEADERS = 64
REQUEST_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")  # HTTP's token
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
        if not allowed:
            return PlainTextResponse("Disallowed CORS origin", 400, {"Vary": PREFLIGHT_VARY})
        headers = {
            "Vary": PREFLIGHT_VARY,
            "Access-Control-Allow-Origin": "*" if self._origins.every else asked["origin"],
            "Access-Control-Allow-Methods": ", ".join(METHODS),
            "Access-Control-Max-Age": str(MAX_AGE),
        }
        failures: list[str] = []
        if asked["access-control-request-method"] not in METHODS:
            failures.append("method")
        names = list(filter(None, map(str.strip, asked.get("access-control-request-headers", "").split(","))))
        if len(names) > MOST_REQUEST_HEADERS or not all(map(REQUEST_HEADER.fullmatch, names)):
            failures.append("headers")
        elif names:
            headers["Access-Control-Allow-Headers"] = ", ".join(names)
        if "access-control-request-private-network" in asked:
            if self._origins.lists(asked["origin"]):
                headers["Access-Control-Allow-Private-Network"] = "true"
            else:
                failures.append("private-network")
        if failures:
            return PlainTextResponse("Disallowed CORS " + ", ".join(failures), 400, headers)
        return PlainTextResponse("OK", 200, headers)
