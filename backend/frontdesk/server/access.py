"""Who asks, and may they? Answered before a byte of the body is read, by the path alone, for HTTP and WebSockets alike.

Everything is closed that is not listed here as open: a new route needs a credential until somebody decides otherwise.
Where a credential may stand: `Authorization: Bearer`, `x-api-key` (Anthropic's clients) or, for browsers' WebSockets, a
subprotocol. Never the address, which ends in logs and histories. What a credential is worth is `access.gatekeeper`'s.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from urllib.parse import parse_qsl

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from frontdesk.access import keys, visitors
from frontdesk.access.gatekeeper import Gatekeeper
from frontdesk.chat.asking import check_path
from frontdesk.config import Settings
from frontdesk.errors import ConfigError, Forbidden, FrontdeskError, InvalidRequest, NotFound, Unauthorized
from frontdesk.principal import ANONYMOUS, DEFAULT_SCOPES, Principal
from frontdesk.server.middleware import deny, is_loopback
from frontdesk.server.pages import OPEN_PATHS
from frontdesk.store.records import KeyRecord

OPEN = OPEN_PATHS | {"/docs", "/openapi.json", "/livez", "/readyz", "/health", "/v1/widget/sessions"}
OPEN_FOLDERS = ("/demo/",)
SCOPES = {  # everything else needs "chat"
    "/v1/visitors": "visitors",
    "/v1/usage": "usage",
    "/v1/metrics": "admin",
    "/v1/replies": "admin",
    "/v1/errors": "admin",
    "/v1/keys": "admin",
    "/v1/feedback": "admin",
    "/v1/widgets": "admin",
    "/v1/handoffs": "admin",
}
SUBPROTOCOL = "openai-insecure-api-key."  # OpenAI's convention; never echoed back
IN_ADDRESS = frozenset(["api_key", "api-key", "apikey", "x-api-key", "access_token", "token", "authorization"])

Identify = Callable[[], Awaitable[Principal]]


class Access:
    """Puts `principal` and `identify` into `scope["state"]`, or answers 400, 401, 403, 404, 503.

    `identify` looks the same credential up again: a WebSocket asks it before every turn, since a key can be revoked and
    a token expire while the connection lasts. `gatekeeper` is a function, as the database opens after the app is built.
    """

    def __init__(self, app: ASGIApp, gatekeeper: Callable[[], Gatekeeper]) -> None:
        self._app = app
        self._gatekeeper = gatekeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                path = get_route_path(scope)
                if not path.isprintable():  # Starlette's routes would take a line break at the end for nothing
                    raise NotFound("nothing is at an address with control characters")
                if needed := scope_needed(path):
                    await self._admit(scope, needed)
            except FrontdeskError as error:
                await deny(error, scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, needed: str) -> None:
        refuse_in_address(scope)
        credential = credential_of(scope)
        gatekeeper = self._gatekeeper()

        async def identify() -> Principal:
            principal = as_called(await gatekeeper.identify(credential), scope)
            check_origin(scope, principal)
            if needed not in principal.scopes:
                raise Forbidden(lacking(principal, needed))
            check_path(get_route_path(scope), principal)
            return principal

        scope.setdefault("state", {})
        scope["state"].update(principal=await identify(), identify=identify)


def scope_needed(path: str) -> str | None:
    """The scope that a path needs, or `None` when it is open to everybody."""
    if path in OPEN or path.startswith(OPEN_FOLDERS):
        return None
    return next((scope for root, scope in SCOPES.items() if path == root or path.startswith(root + "/")), "chat")


def lacking(principal: Principal, needed: str) -> str:
    """What somebody is told who has not the scope that an address needs."""
    if principal.key is None and principal.visitor is None:
        return f"this address tells of everybody: make a key with `frontdesk keys create NAME --scope {needed}`"
    who = "visitor's token" if principal.visitor else "key"
    return f"this {who} has not the scope '{needed}', which this address needs"


def check_origin(scope: Scope, principal: Principal) -> None:
    """Raises `Forbidden` when a widget's token comes from a page of another origin than it was issued to, and
    `Unauthorized` when a widget's page comes without any: where nobody needs a key, it is still no page of the
    operator's. Programs send no Origin, or any they like: it is the browsers of others that this protects."""
    if scope["state"].get("widget_page") and principal.key is None and principal.visitor is None:
        raise Unauthorized("a page of a widget's origin needs the token of its session", code="missing_api_key")
    if principal.origin is not None and set(Headers(scope=scope).getlist("origin")) - {principal.origin}:
        raise Forbidden("this token was issued to a page of another origin", code="origin_not_allowed")


def credential_of(scope: Scope) -> str | None:
    """The one credential that a request carries, if any. Raises `Unauthorized` when it carries two different ones."""
    headers = Headers(scope=scope)
    found = {value.strip() for value in headers.getlist("x-api-key")}
    for value in headers.getlist("authorization"):
        kind, _, rest = value.strip().partition(" ")
        if kind.lower() == "bearer":
            found.add(rest.strip())
    if scope["type"] == "websocket":
        offered = scope.get("subprotocols", ())
        found |= {name.removeprefix(SUBPROTOCOL) for name in offered if name.startswith(SUBPROTOCOL)}
    found.discard("")
    if len(found) > 1:
        raise Unauthorized("the request carries two different credentials; send one")
    return found.pop() if found else None


def refuse_in_address(scope: Scope) -> None:
    """Raises `InvalidRequest` when the query string holds a credential."""
    if not (query := scope.get("query_string", b"")):
        return
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name.lower() in IN_ADDRESS or visitors.is_token(value) or keys.parse_key(value):
            raise InvalidRequest(
                "a key in the address would end up in logs; send it as 'Authorization: Bearer <key>'",
                code="credential_in_address",
            )


def key_required(settings: Settings) -> bool:
    """Whether nobody may come without a key or a visitor's token."""
    return settings.auth == "on" or (settings.auth == "auto" and not is_loopback(settings.host))


def is_private(settings: Settings) -> bool:
    """Whether nobody needs a key because only the own machine can come."""
    return settings.auth == "auto" and is_loopback(settings.host)


def as_called(principal: Principal, scope: Scope) -> Principal:
    """Who comes without a credential is the operator only as this machine's own (see `Gate`). Through a proxy, from a
    page of another origin or under another name it may be anybody."""
    if principal.key is None and "admin" in principal.scopes and not scope["state"].get("own_machine"):
        return replace(principal, scopes=principal.scopes - {"admin"})
    return principal


def nobody_in_particular(settings: Settings) -> Principal:
    """Who comes without a credential, where none is needed. Only on the own machine is that the operator: on a network
    it may be anybody."""
    return ANONYMOUS if is_loopback(settings.host) else replace(ANONYMOUS, scopes=DEFAULT_SCOPES)


def require_key(settings: Settings, records: Iterable[KeyRecord]) -> None:
    """Raises `ConfigError` when other machines could reach this server but none of these keys would let them in."""
    if not key_required(settings) or is_loopback(settings.host):
        return
    now = time.time()
    if any(keys.state_of(record, now) == "active" for record in records):
        return
    raise ConfigError(
        f"other machines can reach {settings.host}, so a key is needed, and there is none: make one with "
        "`frontdesk keys create NAME`, or let everybody in with --auth off",
        param="host",
    )
