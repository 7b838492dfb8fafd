"""Deadlines and size limits below the application: what uvicorn's protocols do not have.

A client that sends its head or body too slowly, too large or not at all is answered (408, 431, 503) or cut before any
request object exists. One that does not take what it is sent is cut, too: here, where it costs nothing as long as all
goes well, and not by a timer around every frame. Knows bytes, times and connections; no routes, no bodies, no users.

The limits, each for one attack: header deadline (slowloris), body deadline (slow POST), head size (llhttp collects a
header of any length), framing size (endless chunk extensions and trailers), number of connections (file descriptors).
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from collections.abc import Callable
from typing import Any, ClassVar

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from frontdesk.errors import FrontdeskError, Unavailable
from frontdesk.server.errors import Refused, raw_refusal, refusal

MAX_HEAD = 32 * 1024  # bytes of request line and headers
SPARE_CONNECTIONS = 64  # beyond the cap, answered with 503; more than that are cut unheard
LEAST_READ = 4096  # bytes that a reader with a full socket has to take in each `send_timeout`
FRAMING = 8  # most bytes on the wire per byte of body: chunks of one byte cost six

CROWDED = Unavailable("too many connections", retry_after=2.0)
LARGE_HEAD = Refused(431, f"the request's head is over {MAX_HEAD} bytes", "headers_too_large")
LARGE_FRAMING = Refused(413, "the request's framing is far larger than its body", "request_too_large")
SLOW = Refused(408, "the request came too slowly", "request_timeout")


log = structlog.stdlib.get_logger("frontdesk.server")


class PatientProtocol(asyncio.Protocol):
    """Cuts a connection whose peer takes next to nothing out of a full socket for `send_timeout` seconds, without
    flushing, so that the kernel's buffers are freed at once. A socket is full as soon as the kernel does not take all
    that is written. The timer runs in the context of the request that filled it. A slow peer that goes on reading a
    large answer is left alone."""

    send_timeout: ClassVar[float] = 30.0
    transport: asyncio.Transport

    _full: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(0)  # by default there is no pause, and no deadline, below 64 KiB

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        self._calm()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._calm()
        super().connection_lost(exc)

    def _calm(self) -> None:
        if self._full is not None:
            self._full.cancel()
            self._full = None

    def _watch(self) -> None:
        self._full = asyncio.get_running_loop().call_later(self.send_timeout, self._look, self._untaken())

    def _untaken(self) -> int:
        """Bytes that the peer has not taken yet, here and in the kernel, which makes room only in large pieces."""
        queued = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return self.transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)

    def _look(self, before: int) -> None:
        if before - self._untaken() >= LEAST_READ:
            self._watch()
            return
        log.info("reader stalled, dropped", seconds=self.send_timeout)
        self.transport.abort()


class GuardedProtocol(PatientProtocol, HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with limits. The class attributes and `refused` are set by `guarded`."""

    header_timeout: ClassVar[float] = 10.0  # seconds
    body_timeout: ClassVar[float] = 30.0  # seconds
    max_connections: ClassVar[int] = 1024

    _timer: asyncio.TimerHandle | None = None
    _turn: RequestResponseCycle | None = None  # whose answer is due; `cycle` is the newest and may wait behind it
    _reading: str = "head"  # head | body | "" while a response is due and no request is being read
    _wire = 0  # bytes that came since this request began
    _body = 0  # of these, bytes of the body
    _head = 0  # bytes of the head that were parsed

    @staticmethod
    def refused(error: FrontdeskError) -> None:
        """Hears of every error that a client is answered with here, below the application."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections + SPARE_CONNECTIONS:
            transport.abort()
        elif len(self.connections) > self.max_connections:
            self.app = refusal(CROWDED)
            self.refused(CROWDED)
        self._expect("head", self.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._turn is not None and not self._turn.response_complete:
            self._turn.disconnected = True
            self._turn.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._reading and self._answered:
            self._expect("head", self.header_timeout)
        self._wire += len(data)
        super().data_received(data)
        if self._reading != "body" and self._wire > MAX_HEAD:  # also of the next request, while an answer is under way
            self._give_up(LARGE_HEAD)
        elif self._reading == "body" and self._wire - MAX_HEAD > FRAMING * (self._body + MAX_HEAD):
            self._give_up(LARGE_FRAMING)

    @property
    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def _answering(self) -> bool:
        return self._turn is not None and self._turn.response_started and not self._turn.response_complete

    def on_response_complete(self) -> None:
        if self.pipeline:
            self._turn = self.pipeline[-1][0]
        super().on_response_complete()
        # What came while the answer was streaming had no deadline of its own, so as not to cut the stream.
        if self._reading == "body" and self._timer is None and not self.pipeline:
            self._expect("body", self.body_timeout)
        elif self._wire and not self._reading and self._answered:
            self._expect("head", self.header_timeout)

    def handle_websocket_upgrade(self) -> None:
        self._stop_timer()
        if not self._answered:  # the two would write into each other, and nobody would hear that the reader left
            self.transport.abort()
            return
        if self.app is not self.config.loaded_app:
            self._give_up(CROWDED)
            return
        if self._head > MAX_HEAD:  # what was left out may be the very header that forbids it
            self._give_up(LARGE_HEAD, told=True)
            return
        super().handle_websocket_upgrade()

    # --- parser callbacks ---------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0

    def on_url(self, url: bytes) -> None:
        self._head += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value) + 4
        if self._head <= MAX_HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        app, waits = self.app, not self._answered
        if self._head > MAX_HEAD:
            self.app = refusal(LARGE_HEAD)
            self.refused(LARGE_HEAD)
        try:
            super().on_headers_complete()
        finally:
            self.app = app
        if waits:
            self._reading = "body"  # uvicorn stops reading: the deadline begins when this one's turn comes
        else:
            self._turn = self.cycle
            self._expect("body", self.body_timeout)

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_timer()
        self._reading, self._wire, self._body = "", 0, 0
        super().on_message_complete()
        if self.cycle is not None and self.cycle.scope is self.scope and self.cycle.response_complete:
            # It was answered before its body came: uvicorn has taken its own deadline for the next request away.
            self._expect("head", self.header_timeout)

    # --- deadlines ----------------------------------------------------------------------------------------------------

    def _expect(self, part: str, seconds: float) -> None:
        self._stop_timer()
        self._reading = part
        self._timer = self.loop.call_later(seconds, self._give_up, SLOW)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self, error: FrontdeskError, *, told: bool = False) -> None:
        """Answer when nothing was answered yet, and close; abort when an answer is under way."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self._answering or (self._reading == "head" and self._wire == 0):
            self.transport.abort()
            return
        self.transport.write(raw_refusal(error))
        if not told and error is not CROWDED:  # that was told when the connection came
            self.refused(error)
        self.transport.close()
        # close() waits for the peer to take what is buffered: a peer that takes nothing is cut.
        self.loop.call_later(1.0, self.transport.abort)


class GuardedWebSocket(PatientProtocol, WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol with a deadline for readers. `send_timeout` is set by `guarded_websocket`."""


def guarded(
    header_timeout: float,
    body_timeout: float,
    send_timeout: float,
    max_connections: int,
    refused: Callable[[FrontdeskError], None],
) -> type[GuardedProtocol]:
    """The protocol class for `uvicorn.Config(http=...)` with these limits."""
    attributes: dict[str, Any] = {
        "header_timeout": header_timeout,
        "body_timeout": body_timeout,
        "send_timeout": send_timeout,
        "max_connections": max_connections,
        "refused": staticmethod(refused),
    }
    return type("GuardedProtocol", (GuardedProtocol,), attributes)


def guarded_websocket(send_timeout: float) -> type[GuardedWebSocket]:
    """The same for `uvicorn.Config(ws=...)`."""
    return type("GuardedWebSocket", (GuardedWebSocket,), {"send_timeout": send_timeout})
