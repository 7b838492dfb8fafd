"""An HTTP answer that is an event stream. The only importer of sse_starlette.

The library is fed with ready-made bytes and brings keep-alive comments and the watch for a client that leaves. Its
deadline for one that does not read costs a timer for every frame; ours is below, in `server/guard`. Knows neither
formats nor replies.

Shutdown: the library's own reaction to SIGTERM, which cuts every stream within half a second, is switched off. The
server's drain ends the replies themselves (`server/serve`), and with them the streams: with an error event, or, where
the reply goes on in the server's next life, without any.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import AppStatus, EventSourceResponse
from starlette.types import Message, Receive, Scope, Send

AppStatus.disable_automatic_graceful_drain()

HEADERS = {"cache-control": "no-store, no-transform"}


class EventStream(EventSourceResponse):
    """Streams `frames`. `on_end` is called exactly once, however the stream ends, even if it never began."""

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        *,
        on_end: Callable[[], None],
        comment: Callable[[], str],
        ping_seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # Comments carry neither `id:` nor `retry:`: OpenAI's Python client breaks on both.
        super().__init__(
            frames,
            headers={**HEADERS, **(headers or {})},
            ping=ping_seconds,
            ping_message_factory=lambda: ServerSentEvent(comment=comment(), sep="\n"),
        )
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not in the generator's own `finally`: that never runs if the client leaves before the first frame.
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        """The library's way to send a frame, without the scope that it opens around each even where no time is set."""
        await send(message)
