"""From the error tree to HTTP: status, headers and a body in OpenAI's shape. The only place that knows status codes.

Routes that do not exist, methods that do not fit and requests that never became one (too slow, too large) get the same
shape, so that a client needs one error path. Never puts text of a prompt into an answer or a log line.
"""

from __future__ import annotations

import http
import math

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from frontdesk.access.budgets import duration
from frontdesk.errors import (
    BodyTooLarge,
    BudgetExceeded,
    Conflict,
    EngineFailed,
    Forbidden,
    FrontdeskError,
    NotFound,
    Overloaded,
    RequestRefused,
    Unauthorized,
    Unavailable,
)
from frontdesk.wire._errors import error_body

# The first class that fits counts, so a class stands before its parent.
STATUS: tuple[tuple[type[FrontdeskError], int], ...] = (
    (NotFound, 404),
    (Unauthorized, 401),
    (Forbidden, 403),
    (Conflict, 409),
    (BodyTooLarge, 413),
    (RequestRefused, 400),
    (Overloaded, 429),
    (BudgetExceeded, 429),
    (Unavailable, 503),
    (EngineFailed, 500),
    (FrontdeskError, 500),
)


CLIENT_CLOSED_REQUEST = 499  # nginx's number: the client went away before there was an answer
FUTILE = {"idempotency_key_reused", "conversation_full"}  # codes of a 409 that the same request gets again


class Refused(RequestRefused):
    """Refused by the edge itself with a status of its own, e.g. 405."""

    def __init__(self, status: int, message: str, code: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.headers = headers or {}


def status_of(error: FrontdeskError) -> int:
    if isinstance(error, Refused):
        return error.status
    return next(status for kind, status in STATUS if isinstance(error, kind))


def headers_of(error: FrontdeskError) -> dict[str, str]:
    """OpenAI's clients retry 408, 409, 429 and 5xx by themselves: they are told how long to wait, or not to.

    A 401 names its scheme, as HTTP asks.
    """
    if isinstance(error, Refused):
        return error.headers
    if isinstance(error, Unauthorized):
        return {"www-authenticate": "Bearer"}
    headers = _budget_headers(error) if isinstance(error, BudgetExceeded) else {}
    if isinstance(error, Unavailable) and math.isfinite(error.retry_after):
        return {**headers, "retry-after": str(max(1, math.ceil(error.retry_after)))}
    never = isinstance(error, EngineFailed | Unavailable) or error.code in FUTILE
    return {**headers, "x-should-retry": "false"} if never else headers


def _budget_headers(error: BudgetExceeded) -> dict[str, str]:
    """The same that a request which passes is told, of the budget that refused."""
    unit = "requests" if "requests" in str(error.details.get("budget")) else "tokens"
    facts = {"limit": error.details.get("limit"), "remaining": error.details.get("remaining")}
    if math.isfinite(error.retry_after):
        facts["reset"] = duration(error.retry_after)
    return {f"x-ratelimit-{name}-{unit}": str(value) for name, value in facts.items()}


def error_response(error: FrontdeskError) -> Response:
    body = msgspec.json.encode(error_body(error))
    return Response(body, status_of(error), headers_of(error), media_type="application/json")


async def on_frontdesk_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FrontdeskError)
    return error_response(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message, code = f"there is no {request.method} {_short(request.scope['path'])}; see /docs", "not_found"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message, code = f"{_short(request.scope['path'])} takes {allowed}, not {request.method}", "method_not_allowed"
    else:
        message, code = error.detail, "http_error"
    return error_response(Refused(error.status_code, message, code, dict(error.headers or {})))


async def on_client_gone(request: Request, error: Exception) -> Response:
    """Only the access log reads it."""
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def unexpected(request_id: str) -> Response:
    """The answer to a bug of ours; the stack is in the log under the same id."""
    return error_response(FrontdeskError(f"internal error; the server's log has more under request id {request_id}"))


def refusal(error: FrontdeskError) -> ASGIApp:
    """An application that answers every request with this error and then closes the connection."""
    response = error_response(error)
    response.headers["connection"] = "close"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await response(scope, receive, send)

    return app


def raw_refusal(error: FrontdeskError) -> bytes:
    """The same as bytes of HTTP/1.1, for when there is no request that an application could answer."""
    response = error_response(error)
    response.headers["connection"] = "close"
    head = [f"HTTP/1.1 {response.status_code} {http.HTTPStatus(response.status_code).phrase}".encode()]
    head += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*head, b"", bytes(response.body)])


def _short(path: str) -> str:
    return path if len(path) <= 100 else path[:99] + "…"
