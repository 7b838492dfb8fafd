"""The socket of a client that has gone without a word, of which the server hears at its next write."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message
from starlette.websockets import WebSocket
from structlog.testing import capture_logs

from frontdesk.server.websocket import Connection

FOUND = OSError()  # uvicorn's own error is one
FOUND_BEFORE = RuntimeError("Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.")


@pytest.mark.parametrize("error", [FOUND, FOUND_BEFORE], ids=["found", "found before"])
@pytest.mark.parametrize(
    "message",
    [{"bytes": b"x"}, {"text": "not understood"}],
    ids=["at the close", "at an answer"],
)
async def test_a_client_that_is_gone_is_no_bug(message: Message, error: Exception) -> None:
    """Every train in a tunnel would be a stack trace in the log and an "internal error"."""
    said = [{"type": "websocket.connect"}, {"type": "websocket.receive", **message}]

    async def receive() -> Message:
        if not said:
            await asyncio.Event().wait()
        return said.pop(0)

    async def send(message: Message) -> None:
        if message["type"] != "websocket.accept":
            raise error

    scope: Any = {"type": "websocket", "state": {"identify": None}}
    lifetime: Any = SimpleNamespace(stopping=asyncio.Event())
    unused: Any = None
    with capture_logs() as logs:
        await Connection(WebSocket(scope, receive, send), unused, lifetime, unused).run()
    assert logs == []
