"""POST a prompt, get an answer: one endpoint that serves every wire format, streamed or whole.

The format says what the bytes mean, the service does the work; here are only the socket's concerns: the body's limit, a
client that leaves (its replies are cancelled within one engine step), and merging the replies of one call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive

from frontdesk.chat.service import ChatService, Reply
from frontdesk.chat.streams import StreamLog
from frontdesk.generation import Event, Failed
from frontdesk.server.body import ClientGone, read_json
from frontdesk.server.sse import EventStream
from frontdesk.wire._format import Call, Encoder, HttpFormat, Identity
from frontdesk.wire._frames import json_bytes

CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody reads it but the access log


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one request: bytes of its body; seconds between keep-alives and for one write to a reader."""

    body_bytes: int
    ping_seconds: float
    send_timeout: float


class Generate:
    """The endpoint of one format."""

    def __init__(self, format: HttpFormat, service: ChatService, limits: Limits) -> None:
        self._format = format
        self._service = service
        self._limits = limits

    @property
    def route(self) -> Route:
        return Route(self._format.path, self.answer, methods=["POST"], name=self._format.name)

    async def answer(self, request: Request) -> Response:
        try:
            body = await read_json(request.scope, request.receive, self._limits.body_bytes)
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        call = self._format.parse(body)
        replies = await self._service.start(call.generation, n=call.n)
        identity = Identity(replies[0].id, replies[0].model, replies[0].created, replies[0].sampling)
        if call.stream:
            return self._stream(replies, self._format.encoder(call, identity))
        return await self._whole(request.receive, call, identity, replies)

    def _stream(self, replies: list[Reply], encoder: Encoder) -> Response:
        return EventStream(
            frames(encoder, [reply.log for reply in replies]),
            on_end=lambda: cancel(replies),
            comment=lambda: comment(replies),
            ping_seconds=self._limits.ping_seconds,
            send_timeout=self._limits.send_timeout,
        )

    async def _whole(self, receive: Receive, call: Call, identity: Identity, replies: list[Reply]) -> Response:
        try:
            if not await ended_before_client(receive, replies):
                return Response(status_code=CLIENT_CLOSED_REQUEST)
        finally:
            cancel(replies)
        for reply in replies:
            if isinstance(last := reply.log.events[-1], Failed):
                raise last.error
        answer = self._format.collect(call, identity, [reply.log.events for reply in replies])
        return Response(json_bytes(answer), media_type="application/json")


def cancel(replies: Sequence[Reply]) -> None:
    for reply in replies:
        reply.cancel()


async def frames(encoder: Encoder, logs: Sequence[StreamLog]) -> AsyncGenerator[bytes, None]:
    """Bytes of the whole stream; everything that is there already goes into one chunk."""
    head = encoder.start()
    async with aclosing(merged(logs)) as merging:
        async for batches in merging:
            chunk = head + b"".join([encoder.encode(choice, events) for choice, events in batches])
            head = b""
            if chunk:
                yield chunk
    if tail := head + encoder.end():
        yield tail


async def merged(logs: Sequence[StreamLog]) -> AsyncGenerator[list[tuple[int, list[Event]]], None]:
    """Events of several logs in the order in which they come, each batch with its log's number."""
    if len(logs) == 1:
        async for events in logs[0].read():
            yield [(0, events)]
        return
    queue: asyncio.Queue[tuple[int, list[Event] | None]] = asyncio.Queue()

    async def pump(choice: int, log: StreamLog) -> None:
        async for events in log.read():
            queue.put_nowait((choice, events))
        queue.put_nowait((choice, None))

    pumps = [asyncio.create_task(pump(choice, log)) for choice, log in enumerate(logs)]
    try:
        running = len(logs)
        while running:
            batches = [await queue.get()]
            while not queue.empty():
                batches.append(queue.get_nowait())
            running -= sum(events is None for _, events in batches)
            yield [(choice, events) for choice, events in batches if events is not None]
    finally:
        for task in pumps:
            task.cancel()


async def ended_before_client(receive: Receive, replies: Sequence[Reply]) -> bool:
    """Wait for the end of all replies; False when the client closed the connection first."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def ended() -> None:
        for reply in replies:
            await reply.log.wait_end()

    tasks = [asyncio.create_task(gone()), asyncio.create_task(ended())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[1].done()
    finally:
        for task in tasks:
            task.cancel()


def comment(replies: Sequence[Reply]) -> str:
    """What a keep-alive comment says: where the call stands."""
    if any(len(reply.log.events) > 1 for reply in replies):
        return "ping"
    place = min(reply.place for reply in replies)
    return f"queued {place}" if place else "prefill"
