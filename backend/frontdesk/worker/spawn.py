"""Starting a process of our own with a socket to it, and how it ended. For one event loop; knows no meanings."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from frontdesk.worker import protocol

PARTING_SECONDS: Final = 1.0  # that a process gets to end by itself after it has closed its socket
DAMAGED: Final = "the file may be damaged or the memory too small"
WRONG_BUILD: Final = (
    "llama.cpp was compiled for another processor, or by a compiler whose code does not run here. `make serve` "
    "(python3 requirements/install.py runtime) compiles it anew; should that find nothing to do, remove .venv and "
    "~/.cache/frontdesk/wheels first"
)


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
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    async def exit_code(self) -> int:
        """Of one that has closed its socket; negative for a signal. Killed only if it does not end by itself: asyncio
        may lose the code of a process that is killed while it ends, and say 255."""
        self.writer.close()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), PARTING_SECONDS)
        finally:
            await self.kill()
        return await self.process.wait()


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


def how_it_ended(code: int, guess: str = "") -> str:
    """The exit code or the name of the signal, and why: a `guess`, unless the signal tells more."""
    if code == -signal.SIGILL:
        return f"SIGILL; {WRONG_BUILD}"
    name = {-known: known.name for known in signal.Signals}.get(code, f"exit code {code}")
    return f"{name}; {guess}" if guess else name
