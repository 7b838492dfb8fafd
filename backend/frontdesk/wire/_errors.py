"""An error as JSON, in OpenAI's shape. Which HTTP status goes with it is the edge's business."""

from __future__ import annotations

from typing import Any

from frontdesk.errors import (
    BudgetExceeded,
    ContextLengthExceeded,
    EngineFailed,
    Forbidden,
    FrontdeskError,
    NotFound,
    RequestRefused,
    Unauthorized,
    Unavailable,
)

# The first class that fits names the type.
_TYPES: tuple[tuple[type[FrontdeskError], str], ...] = (
    (ContextLengthExceeded, "exceed_context_size_error"),
    (NotFound, "not_found_error"),
    (Unauthorized, "authentication_error"),
    (Forbidden, "permission_error"),
    (RequestRefused, "invalid_request_error"),
    (BudgetExceeded, "rate_limit_error"),
    (Unavailable, "unavailable_error"),
)


def error_type(error: FrontdeskError) -> str:
    return next((name for kind, name in _TYPES if isinstance(error, kind)), "server_error")


def error_body(error: FrontdeskError) -> dict[str, Any]:
    """`{"error": {message, type, param, code, …details}}`; no detail can replace one of the four."""
    fixed = {"message": error.message, "type": error_type(error), "param": error.param, "code": error.code}
    return {"error": {**fixed, **{key: value for key, value in error.details.items() if key not in fixed}}}


def cancelled() -> FrontdeskError:
    """What a format without a word for it says of a reply that somebody stopped."""
    return EngineFailed("the reply was cancelled before its end", code="cancelled")
