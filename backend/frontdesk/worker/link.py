"""A child's end of the socket to the service. Knows no message's meaning, but that loading is told in steps."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

from frontdesk.worker import protocol
from frontdesk.worker.protocol import Loading


def leave_stopping_to_the_service() -> None:
    """Whoever manages services signals all processes of one at once; replies that run still need their engine."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class Link:
    """The socket to the service, from this side. Its end is the end of this process."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, message: protocol.ToParent) -> None:
        try:
            self._sock.sendall(protocol.encode(message))
        except ConnectionError:
            os._exit(0)

    def receive(self) -> protocol.ToChild:
        """The next message. Exits the process when the service is gone."""
        return protocol.decode_to_child(self._exactly(protocol.body_length(self._exactly(protocol.HEADER.size))))

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                part = self._sock.recv(size - len(data))
            except ConnectionError:  # also when the service died with unread messages
                part = b""
            if not part:
                os._exit(0)  # from any thread, in the middle of a decode
            data += part
        return bytes(data)


def throttled(link: Link) -> Callable[[float], None]:
    """For progress from 0 to 1 that is told by the thousand: passes on every hundredth."""
    last = -1.0

    def report(progress: float) -> None:
        nonlocal last
        if progress - last >= 0.01 or progress >= 1:
            last = progress
            link.send(Loading(progress))

    return report
