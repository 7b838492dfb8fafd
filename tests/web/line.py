"""A way to the server that breaks as lines do: what is said on it gets lost, either way, it is cut, or it stays open
for nothing.

It runs in the test's own loop, so a test must not ask through it and block meanwhile.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

LAST_CHUNK = b"0\r\n\r\n"


class Line:
    """Forwards TCP to a server on this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections: set[_Connection] = set()
        self.lost = asyncio.Event()  # something that a browser said on a deaf socket was lost
        self.ends_held = False  # an event stream stays open when all of it was said
        self.released = asyncio.Event()

    async def __aenter__(self) -> Line:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._listener.close()
        for connection in list(self._connections):
            connection.cut()
        await self._listener.wait_closed()

    def deafen(self) -> None:
        """From now on the server hears nothing of what is said on the WebSockets that are open."""
        self.lost.clear()
        for connection in self._connections:
            connection.deaf = connection.is_socket

    def mute(self) -> None:
        """From now on nothing gets through on the WebSockets and event streams that are open, not even their end."""
        for connection in self._connections:
            connection.mute = connection.is_socket or connection.is_stream

    def cut(self) -> None:
        """Breaks the WebSockets that are open."""
        for connection in [each for each in self._connections if each.is_socket]:
            connection.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._port)
        connection = _Connection(self, writer, to_writer)
        self._connections.add(connection)
        try:
            pumps = [
                asyncio.create_task(connection.ask(reader)),
                asyncio.create_task(connection.answer(to_reader)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            connection.cut()
            self._connections.discard(connection)


class _Connection:
    def __init__(self, line: Line, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._line = line
        self._client = client
        self._server = server
        self.is_socket = self.is_stream = self.deaf = self.mute = False

    async def ask(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            self.is_socket |= b"upgrade: websocket" in data.lower()
            if self.deaf:
                self._line.lost.set()
            if self.deaf or self.mute:
                continue
            self._server.write(data)
            await self._server.drain()

    async def answer(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            self.is_stream |= b"text/event-stream" in data.lower()
            if self.mute:
                continue
            if self._line.ends_held and self.is_stream and data.endswith(LAST_CHUNK):
                self._client.write(data[: -len(LAST_CHUNK)])
                await self._line.released.wait()
                data = LAST_CHUNK
            self._client.write(data)
            await self._client.drain()
        if self.mute:
            await self._line.released.wait()

    def cut(self) -> None:
        self._client.transport.abort()
        self._server.transport.abort()
