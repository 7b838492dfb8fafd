"""How long a full socket is waited for: with a transport whose buffer the test empties. Sockets: test_disconnect."""

from __future__ import annotations

import asyncio

from frontdesk.server.guard import LEAST_READ, PatientProtocol


class Buffer(asyncio.Transport):
    """40 times what a reader has to take between two looks; its peer takes `taken` bytes between two looks."""

    def __init__(self, taken: int) -> None:
        super().__init__()
        self.size = 40 * LEAST_READ
        self.taken = taken
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        self.size = max(0, self.size - self.taken)
        return self.size

    def abort(self) -> None:
        self.aborted.set()


def full(transport: Buffer) -> PatientProtocol:
    protocol = PatientProtocol()
    protocol.transport, protocol.send_timeout = transport, 0.01  # pyright: ignore[reportAttributeAccessIssue]
    protocol.pause_writing()
    return protocol


async def test_whoever_reads_slowly_is_left_alone_until_they_stop() -> None:
    """A large answer to a slow line would be cut in its middle, or a reader that takes nothing would stay for ever."""
    transport = Buffer(LEAST_READ)
    full(transport)
    await asyncio.wait_for(transport.aborted.wait(), 10)
    assert transport.size == 0


async def test_a_few_bytes_now_and_then_do_not_count() -> None:
    """A reader could hold a socket for ever with a byte in each `send_timeout`."""
    transport = Buffer(1)
    full(transport)
    await asyncio.wait_for(transport.aborted.wait(), 10)
    assert transport.size > 39 * LEAST_READ


async def test_an_empty_socket_ends_the_wait() -> None:
    """A stream would be cut in a pause of the model, half a minute after a full moment."""
    transport = Buffer(1)
    full(transport).resume_writing()
    await asyncio.sleep(0.05)
    assert not transport.aborted.is_set()
