"""POST a prompt, get an answer: one endpoint that serves every wire format, streamed or whole.

The format says what the bytes mean, the service does the work; here are only the socket's concerns: the body's limit,
who reads (a reply without readers may be stopped, see `chat.readers`), and merging the replies of one call.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive

from frontdesk.chat.reply import Reply
from frontdesk.chat.service import ChatService
from frontdesk.chat.streams import StreamLog
from frontdesk.errors import EngineNotReady, InvalidRequest
from frontdesk.generation import Event, Failed, Usage
from frontdesk.principal import Principal
from frontdesk.server.body import ClientGone, read_json
from frontdesk.server.sse import EventStream
from frontdesk.wire._format import Encoder, HttpFormat
from frontdesk.wire._frames import json_bytes, sse_comment

Value = TypeVar("Value")

LOOK_SECONDS = 0.25  # how often it is looked whether a reply has come to wait
TELL_SECONDS = 1.0  # how often a reader is told a new place in the line, at most
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
RESTARTS = "the server restarts; when it is back the same request with the same Idempotency-Key gets the whole reply"


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Of one request: bytes of its body; seconds between keep-alives of its stream."""

    body_bytes: int
    ping_seconds: float


class Generate:
    """The endpoint of one format."""

    def __init__(self, format: HttpFormat, service: ChatService, limits: RequestLimits) -> None:
        self._format = format
        self._service = service
        self._limits = limits

    @property
    def route(self) -> Route:
        return Route(self._format.path, self.answer, methods=["POST"], name=self._format.name)

    async def answer(self, request: Request) -> Response:
        body = await read_json(request.scope, request.receive, self._limits.body_bytes)
        call = self._format.parse(body)
        key = idempotency_key(request)
        replies = await self._service.start(call, principal_of(request), idempotency=key)
        first = replies[0]
        if call.stream:
            return event_stream(replies, self._format.encoder(first.call, first.identity), self._limits)
        if not (call.turn and call.turn.background):
            with reading(replies):
                if not await ended_before_client(request.receive, replies):
                    raise ClientGone
            raise_failure(replies, keyed=key is not None)
        answer = self._format.collect(first.call, first.identity, [reply.log.events for reply in replies])
        return json_response(answer, first.headers)


def json_response(body: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json_bytes(body), media_type="application/json", headers=headers)


def event_stream(replies: Sequence[Reply], encoder: Encoder, limits: RequestLimits) -> Response:
    """A reader of these replies from their beginning; what it is sent is for the encoder to say."""
    for reply in replies:
        reply.readers.came()
    return EventStream(
        frames(encoder, replies),
        on_end=lambda: left(replies),
        comment=lambda: comment(replies),
        ping_seconds=limits.ping_seconds,
        headers=replies[0].headers,
    )


@contextmanager
def reading(replies: Sequence[Reply]) -> Iterator[None]:
    for reply in replies:
        reply.readers.came()
    try:
        yield
    finally:
        left(replies)


def left(replies: Sequence[Reply]) -> None:
    for reply in replies:
        reply.readers.left()


def raise_failure(replies: Sequence[Reply], *, keyed: bool) -> None:
    """An answer that is not streamed has a status of its own for a reply that failed, or that has to wait for a
    restart. `keyed`: the same request again gets that very reply; else it would begin another one."""
    for reply in replies:
        if reply.log.suspended:
            if keyed:
                raise EngineNotReady(RESTARTS, retry_after=2.0)
            where = f"/v1/responses/resp_{reply.identity.id}"
            raise EngineNotReady(f"the server restarts; when it is back the reply is at {where}", retry_after=math.inf)
        if isinstance(last := reply.log.events[-1], Failed):
            raise last.error


def principal_of(request: Request) -> Principal:
    """Who asks, as `server/access` found out."""
    return request.state.principal


def idempotency_key(request: Request) -> str | None:
    """Raises `InvalidRequest` for a key that is no name."""
    key = request.headers.get("idempotency-key")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest(
            "the Idempotency-Key header should be 1 to 255 printable ASCII characters", param="Idempotency-Key"
        )
    return key


async def frames(encoder: Encoder, replies: Sequence[Reply]) -> AsyncGenerator[bytes, None]:
    """Bytes of the whole stream; everything that is there already goes into one chunk."""
    logs = [reply.log for reply in replies]
    head, begun = encoder.start(), False
    async with aclosing(merged(logs)) as merging:
        async for batches in merging:
            chunk = head + b"".join([encoder.encode(choice, events) for choice, events in batches])
            head = b""
            if chunk:
                yield chunk
            if not begun:
                begun = True
                async with aclosing(places(replies)) as telling:
                    async for place in telling:
                        yield place
    if any(log.suspended for log in logs):  # the end is still to come, in another life of this server
        if replies[0].call.turn is None:  # and this format's readers cannot come back for it
            yield encoder.encode(0, [Failed(EngineNotReady(RESTARTS), Usage())])
        return
    if tail := head + encoder.end():
        yield tail


async def places(replies: Sequence[Reply]) -> AsyncGenerator[bytes, None]:
    """Until the call has its first text: comments that tell its place in the waiting line at once, and when it has
    changed. Nothing for one that does not wait."""
    told: int | None = None
    while not writing(replies):
        place = place_of(replies)
        if place != (told or 0):
            told = place
            yield sse_comment(comment(replies))
        # The first of several replies is the first to begin.
        if await replies[0].log.grown(1, LOOK_SECONDS if told is None else TELL_SECONDS):
            return


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

    async def ended() -> bool:
        for reply in replies:
            await reply.log.wait_end()
        return True

    return bool(await before_client_leaves(receive, ended()))


async def before_client_leaves(receive: Receive, work: Coroutine[Any, Any, Value]) -> Value | None:
    """What the work comes to; `None`, and the work cancelled, when the client closed the connection first."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()


def comment(replies: Sequence[Reply]) -> str:
    """What a comment says: where the call stands."""
    if writing(replies):
        return "ping"
    place = place_of(replies)
    return f"queued {place}" if place else "prefill"


def writing(replies: Sequence[Reply]) -> bool:
    """Whether there is more of any of them than its start."""
    return any(len(reply.log.events) > 1 for reply in replies)


def place_of(replies: Sequence[Reply]) -> int:
    return min(reply.place for reply in replies)
