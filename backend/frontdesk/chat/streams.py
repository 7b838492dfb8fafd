"""The log of one reply, and the cursors that read it.

A reply belongs to the service, not to a socket: whoever wants its events holds a number into this list. A reader that
is slow, leaves or comes back costs nothing and goes through the same code as a live one. Knows no wire format.

Laws: the first event is `Started`; the last is exactly one `Finished` or `Failed`; nothing follows it; what was
appended never changes. A log that is suspended has no last event yet: the reply goes on in the server's next life, and
readers leave without having seen an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from frontdesk.generation import Delta, Event, Failed, Finished, Started

MOST_AT_ONCE = 256  # events: about 5 ms of encoding


class StreamLog:
    """Append-only events of one reply. Must be used from one event loop."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.suspended = False
        self._waiting: list[asyncio.Future[None]] = []  # for the next event
        self._over = asyncio.Event()  # ended or suspended: whoever waits for that is not woken by every token

    @property
    def ended(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Finished | Failed)

    def append(self, event: Event) -> None:
        """Add one event and wake every reader. Raises RuntimeError when a law of the log would be broken."""
        if self.ended or self.suspended:
            raise RuntimeError(f"{type(event).__name__} after the end of a reply")
        if isinstance(event, Started) == bool(self.events):
            raise RuntimeError(f"{type(event).__name__} as event {len(self.events)}")
        self.events.append(event)
        self._wake()

    def suspend(self) -> None:
        """Send every reader away; nothing is appended any more. Does nothing to a log that has ended."""
        self.suspended = not self.ended
        self._wake()

    async def read(self, after: int = 0) -> AsyncIterator[list[Event]]:
        """Batches of events from index `after` to the end: all that is there, then what comes.

        Events appended while a reader is busy arrive as one batch, so a slow reader does less work, not more; up to
        `MOST_AT_ONCE`, since whoever encodes a batch holds up everybody else.
        """
        position = after
        while True:
            if batch := self.events[position : position + MOST_AT_ONCE]:
                position += len(batch)
                yield batch
            elif self.ended or self.suspended:
                return
            else:
                await self._appended()

    async def grown(self, beyond: int, seconds: float) -> bool:
        """Wait until there are more than `beyond` events, or none will come; False when that takes longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._over.is_set() and len(self.events) <= beyond:
                    await self._appended()
        return self._over.is_set() or len(self.events) > beyond

    async def wait_end(self) -> Finished | Failed | None:
        """Wait for the end of the reply and return its last event; `None` when the log was suspended."""
        await self._over.wait()
        if not self.ended:
            return None
        last = self.events[-1]
        assert isinstance(last, Finished | Failed)
        return last

    def text(self) -> str:
        """All text so far."""
        return "".join(event.text for event in self.events if isinstance(event, Delta))

    async def _appended(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._waiting.remove(future)
            raise

    def _wake(self) -> None:
        if self.ended or self.suspended:
            self._over.set()
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
