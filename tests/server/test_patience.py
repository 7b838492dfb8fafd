"""How long a full socket is waited for: with a transport whose buffer the test empties. Sockets: test_disconnect."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import pytest

from frontdesk.server.guard import LEAST_READ, PatientProtocol


class Buffer(asyncio.Transport):
    """40 times what a reader has to take between two looks; its peer takes `taken` bytes between two looks. In front
    of them are `pieces` of that size in the kernel, of which a peer takes one between two looks."""

    def __init__(self, taken: int, pieces: int = 0) -> None:
        ours, self.peer = self.ends = socket.socketpair()
        super().__init__({"socket": ours})
        for _ in range(pieces):
            ours.sendall(bytes(LEAST_READ))
        self.pieces = pieces
        self.size = 40 * LEAST_READ
        self.taken = taken
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        if self.pieces:
            self.pieces -= 1
            self.peer.recv(LEAST_READ)
        else:
            self.size = max(0, self.size - self.taken)
        return self.size

    def abort(self) -> None:
        self.aborted.set()

    def close(self) -> None:
        for end in self.ends:
            end.close()


def full(transport: Buffer) -> PatientProtocol:
    protocol = PatientProtocol()
    protocol.transport, protocol.send_timeout = transport, 0.01  # pyright: ignore[reportAttributeAccessIssue]
    protocol.pause_writing()
    return protocol


async def test_whoever_reads_slowly_is_left_alone_until_they_stop() -> None:
    """A large answer to a slow line would be cut in its middle, or a reader that takes nothing would stay for ever."""
    with closing(Buffer(LEAST_READ)) as transport:
        full(transport)
        await asyncio.wait_for(transport.aborted.wait(), 10)
    assert transport.size == 0


async def test_a_few_bytes_now_and_then_do_not_count() -> None:
    """A reader could hold a socket for ever with a byte in each `send_timeout`."""
    with closing(Buffer(1)) as transport:
        full(transport)
        await asyncio.wait_for(transport.aborted.wait(), 10)
    assert transport.size > 39 * LEAST_READ


async def test_what_the_kernel_holds_counts() -> None:
    """A slow reader of a little would be cut while it reads: the kernel asks for more only when it has much room."""
    with closing(Buffer(0, pieces=10)) as transport:
        full(transport)
        await asyncio.wait_for(transport.aborted.wait(), 10)
    assert transport.pieces == 0


async def test_an_empty_socket_ends_the_wait() -> None:
    """A stream would be cut in a pause of the model, half a minute after a full moment."""
    with closing(Buffer(1)) as transport:
        full(transport).resume_writing()
        await asyncio.sleep(0.05)
        assert not transport.aborted.is_set()


class Filling(PatientProtocol):
    """Sends until one byte or more is left over, and nothing after that."""

    send_timeout = 0.05

    def __init__(self) -> None:
        self.made, self.lost = asyncio.Event(), asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        super().connection_made(transport)
        while not transport.get_write_buffer_size():
            transport.write(bytes(1000))
        self.made.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()


@pytest.mark.parametrize("idle", [False, True], ids=["open", "closing"])
async def test_a_little_that_is_never_taken_is_not_waited_for(idle: bool) -> None:
    """Peers that leave less than 64 KiB unread would hold their connections for ever, and shut everybody out."""
    protocol = Filling()
    server = await asyncio.get_running_loop().create_server(lambda: protocol, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()):
        await protocol.made.wait()
        if idle:  # uvicorn closes it, which waits for the peer
            protocol.transport.close()
        await asyncio.wait_for(protocol.lost.wait(), 10)
    server.close()
