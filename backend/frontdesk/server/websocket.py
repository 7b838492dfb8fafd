"""The WebSocket `/v1/responses`: the socket around `wire.responses_socket`, which holds the protocol.

One task reads (so that a cancel is heard while answers stream), one task per turn writes, one waits for shutdown. Turns
of different lanes write in turns, frame by frame, so that a long replay in one lane holds up no other. Whatever ends
the connection takes this reader from its replies; what becomes of them is theirs to know. Knows close codes; no message
of the protocol.

Close codes: 1003 a binary message, 1009 a message over the limit (uvicorn's part), 1011 a bug of ours, 1012 restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from frontdesk.chat.reply import Reply
from frontdesk.chat.service import ChatService
from frontdesk.errors import FrontdeskError
from frontdesk.server.access import Identify
from frontdesk.server.body import THREAD_BYTES
from frontdesk.server.errors import headers_of, status_of
from frontdesk.server.lifetime import Lifetime
from frontdesk.telemetry.logs import where
from frontdesk.telemetry.problems import Problems, asking
from frontdesk.wire.responses_socket import Cancel, Command, Place, Refuse, ResponsesSocket, Resume, Start, read

# Browsers cannot send headers and carry keys as a further "subprotocol"; that one must never be echoed.
SUBPROTOCOLS = ("realtime", "chat.v1")
# What sending to a client that has left ends in: the latter once anything else has found it out, or uvicorn has closed.
GONE = (WebSocketDisconnect, RuntimeError)

log = structlog.stdlib.get_logger("frontdesk.server")


class _Ended(Exception):
    """The connection is over; `code` is what we close it with, `None` when the client closed it."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Connection:
    """One connection. Who it belongs to is asked again for every turn: a key can be revoked meanwhile."""

    def __init__(self, socket: WebSocket, service: ChatService, lifetime: Lifetime, problems: Problems) -> None:
        self._socket = socket
        self._service = service
        self._lifetime = lifetime
        self._problems = problems
        self._identify: Identify = socket.state.identify
        self._protocol = ResponsesSocket()
        self._replies: dict[int, Reply] = {}
        self._turns: set[asyncio.Task[None]] = set()
        self._suspended = asyncio.Event()  # a reply goes on in the server's next life, where its reader has to come

    async def run(self) -> None:
        offered = self._socket.scope.get("subprotocols", [])
        await self._socket.accept(next((name for name in offered if name in SUBPROTOCOLS), None))
        ended: _Ended | None = None
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._read())
                self._tasks.create_task(self._close_for_restart(self._lifetime.stopping))
                self._tasks.create_task(self._close_for_restart(self._suspended))
        except* _Ended as group:
            ended = group.exceptions[0]  # pyright: ignore[reportAssignmentType]
        except* Exception as group:
            log.error("unexpected exception", stack=where(group.exceptions[0]))
            ended = _Ended(1011, "internal error")
        await self._close(ended or _Ended(None))

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise _Ended(None)
            if (text := message.get("text")) is None:
                raise _Ended(1003, "text messages only")
            received = await asyncio.to_thread(read, text) if len(text) > THREAD_BYTES else read(text)
            await self._execute(self._protocol.receive(received))

    async def _close_for_restart(self, moment: asyncio.Event) -> None:
        await moment.wait()
        while self._turns:
            await asyncio.wait(self._turns)
        raise _Ended(1012, "the server restarts")

    async def _execute(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Start() | Resume():
                    task = self._tasks.create_task(self._turn(command))
                    self._turns.add(task)
                    task.add_done_callback(self._turns.discard)
                case Cancel():
                    if (reply := self._replies.get(command.turn)) is not None:
                        reply.cancel()
                case Place():
                    if (reply := self._replies.get(command.turn)) is not None:
                        await self._send(self._protocol.placed(command.turn, reply.place))
                case Refuse():
                    await self._send(command.frames)

    async def _turn(self, command: Start | Resume) -> None:
        turn = command.turn
        try:
            reply = await self._reply(command)
        except FrontdeskError as error:
            self._problems.refused(asking.get(), error)
            await self._send(self._protocol.refused(turn, error, status_of(error), headers_of(error)))
        else:
            reply.readers.came()
            try:
                self._replies[turn] = reply
                await self._stream(turn, reply)
            finally:
                del self._replies[turn]
                reply.readers.left()
            if not reply.log.ended:
                self._suspended.set()
                return
        await self._execute(self._protocol.done(turn))

    async def _stream(self, turn: int, reply: Reply) -> None:
        await self._execute(self._protocol.started(turn, reply.call, reply.identity))
        async for events in reply.log.read():
            await self._send(self._protocol.events(turn, events))

    async def _reply(self, command: Start | Resume) -> Reply:
        principal = await self._identify()
        if isinstance(command, Resume):
            return await self._service.open(principal, command.response_id, anew=command.anew)
        (reply,) = await self._service.start(command.call, principal)
        return reply

    async def _send(self, frames: Sequence[str]) -> None:
        for frame in frames:
            try:
                await self._socket.send_text(frame)
            except GONE:
                raise _Ended(None) from None

    async def _close(self, ended: _Ended) -> None:
        if ended.code is not None and self._socket.client_state is WebSocketState.CONNECTED:
            with suppress(*GONE):
                await self._socket.close(ended.code, ended.reason)
