"""Starting a process of our own with a socket to it, from one event loop. Knows no message's meaning."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from frontdesk.worker import protocol


@dataclass(frozen=True, slots=True)
class Child:
    """A process that was started with `spawn`, and both directions of its socket."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, message: protocol.ToChild) -> None:
        self.writer.write(protocol.encode(message))

    async def receive(self) -> protocol.ToParent:
        return await receive(self.reader)

    async def kill(self) -> None:
        """End it at once, and wait until it is gone. May be called again."""
        self.writer.close()
        await reap(self.process)


async def spawn(module: str, environment: Mapping[str, str] | None) -> Child:
    """Run a module of this package as a process of its own group; its argument is the socket's file descriptor."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=protocol.MAX_FRAME)
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, str(theirs.fileno()),
                pass_fds=(theirs.fileno(),), env=environment, start_new_session=True,
            )  # fmt: skip
    except BaseException:
        writer.close()
        raise
    return Child(process, reader, writer)


async def receive(reader: asyncio.StreamReader) -> protocol.ToParent:
    """The next message. Raises `IncompleteReadError` at the end of the stream."""
    header = await reader.readexactly(protocol.HEADER.size)
    return protocol.decode_to_parent(await reader.readexactly(protocol.body_length(header)))


async def reap(process: asyncio.subprocess.Process) -> None:
    """Kill a process unless it has ended, and wait for its end."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
