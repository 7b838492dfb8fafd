"""An HTTP answer that is an event stream. The only importer of sse_starlette.

The library is fed with ready-made bytes and brings keep-alive comments, the watch for a client that leaves and the
deadline for one that does not read. Knows neither formats nor replies.

Shutdown: the library's own reaction to SIGTERM, which cuts every stream within half a second, is switched off. The
server's drain ends the replies themselves (`server/serve`), and with them the streams: with an error event, or, where
the reply goes on in the server's next life, without any.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

import structlog
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import AppStatus, EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send

from frontdesk.server.guard import drop

AppStatus.disable_automatic_graceful_drain()

HEADERS = {"cache-control": "no-store, no-transform"}

log = structlog.stdlib.get_logger("frontdesk.server")


class EventStream(EventSourceResponse):
    """Streams `frames`. `on_end` is called exactly once, however the stream ends, even if it never began."""

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        *,
        on_end: Callable[[], None],
        comment: Callable[[], str],
        ping_seconds: float,
        send_timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # Comments carry neither `id:` nor `retry:`: OpenAI's Python client breaks on both.
        super().__init__(
            frames,
            headers={**HEADERS, **(headers or {})},
            ping=ping_seconds,
            ping_message_factory=lambda: ServerSentEvent(comment=comment(), sep="\n"),
            send_timeout=send_timeout,
        )
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not in the generator's own `finally`: that never runs if the client leaves before the first frame.
        try:
            await super().__call__(scope, receive, send)
        except* SendTimeoutError:  # a frame and a keep-alive may miss the deadline together: then it is a group of two
            log.info("reader stalled, dropped", seconds=self.send_timeout)
            await drop(scope, receive)
        finally:
            self._on_end()
