"""Reading a request's body: at most so many bytes, strict JSON.

Refused here are invalid UTF-8, lone surrogates, NaN and nesting that would eat the parser's stack. How deep the value
may be, and whether its numbers fit, is for `wire._validation` and the format to say: they check the WebSocket's
messages too. UTF-8's byte order mark, which some editors and shells put in front of a file, is passed over. Knows no
format.
"""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8

import msgspec
from starlette.types import Receive, Scope

from frontdesk.errors import BodyTooLarge, InvalidRequest
from frontdesk.wire._validation import too_deep

THREAD_BYTES = 256 * 1024  # larger bodies are parsed in a thread: about 1 ms


class ClientGone(Exception):
    """The client closed the connection before its request was answered."""


async def read_json(scope: Scope, receive: Receive, limit: int) -> object:
    """The parsed body. Raises `BodyTooLarge`, `InvalidRequest`, `ClientGone`."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise too_large(limit)
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise InvalidRequest("compressed request bodies are not accepted", code="unsupported_encoding")
    body = await _read(receive, limit)
    return await asyncio.to_thread(parse_json, body) if len(body) > THREAD_BYTES else parse_json(body)


def parse_json(body: bytes) -> object:
    """Strict JSON. Raises `InvalidRequest` with the position of the first mistake."""
    body = body.removeprefix(BOM_UTF8)
    if not body:
        raise InvalidRequest("the request has no body; send JSON", code="invalid_json")
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise too_deep() from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 (byte {error.start})", code="invalid_json") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}", code="invalid_json") from None


def too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the request's body is over the limit of {limit} bytes", limit_bytes=limit)


async def _read(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
