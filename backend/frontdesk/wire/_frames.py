"""JSON and SSE framing. Knows bytes only: no format, no event, no socket.

OpenAI's routes carry neither `id:` nor `retry:` lines: with keep-alive comments they break the OpenAI Python client.
Only our own route for `EventSource` numbers its events.
"""

from __future__ import annotations

import msgspec

_encoder = msgspec.json.Encoder()

DONE = b"data: [DONE]\n\n"

# Legal inside JSON strings, but many clients cut lines with Python's `splitlines`, which breaks at these.
_LINE_BREAKS = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


def json_bytes(value: object) -> bytes:
    """Compact JSON without any character that some client takes for the end of a line."""
    data = _encoder.encode(value)
    if data.isascii():
        return data
    for character, escape in _LINE_BREAKS:
        data = data.replace(character, escape)
    return data


def sse(value: object) -> bytes:
    return b"data: " + json_bytes(value) + b"\n\n"


def sse_comment(text: str) -> bytes:
    """`text` is one line."""
    return b": " + text.encode() + b"\n\n"


def sse_named(event: str, value: object) -> bytes:
    return b"event: " + event.encode() + b"\ndata: " + json_bytes(value) + b"\n\n"


def sse_numbered(number: int, event: str, value: object) -> bytes:
    return b"id: %d\n" % number + sse_named(event, value)
