"""What the database left open, done as soon as it answers: replies of a former life of the server go on, and what a
client was told had not begun is taken back. Until then no other turn of its conversation is let in.

Knows no engine and no budget: how one reply is gone on with is somebody else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog

from frontdesk.chat.keeping import RETRY_SECONDS
from frontdesk.chat.talking import Talking
from frontdesk.errors import FrontdeskError, StorageFailed
from frontdesk.fleet.pool import Backend
from frontdesk.store.records import ResponseRecord
from frontdesk.store.store import Store
from frontdesk.telemetry.logs import where

TRIES_FIRST: Final = 3  # before requests are taken; what is left then is tried beside them

log = structlog.stdlib.get_logger("frontdesk.chat")


class Recovery:
    """Must be used from one event loop. `go_on` raises `StorageFailed` where it is to be tried again; anything else is
    for good."""

    def __init__(
        self, store: Store, talking: Talking, go_on: Callable[[ResponseRecord, Backend], Awaitable[None]]
    ) -> None:
        self._store = store
        self._talking = talking
        self._go_on = go_on
        self._waiting: dict[str, ResponseRecord] = {}  # to go on; each has its conversation's turn
        self._undecided: dict[str, tuple[str, str | None]] = {}  # begun or not: owner and conversation, which is taken
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, backend: Backend) -> int:
        """Go on with every unfinished reply; how many there are. Those that the database keeps from it are tried again
        until `stop`. Raises `StorageFailed` when it does not tell which there are."""
        records = await self._store.responses.unfinished()
        for record in records:
            await self._try(record, backend)
        for _ in range(TRIES_FIRST):
            if self._waiting:
                await self._try_again(backend)
        if self._waiting:
            self._beside(self._try_on(backend))
        return len(records)

    def undo(self, record: ResponseRecord) -> None:
        """Delete a response whose beginning failed: it may be there all the same, as the answer to a commit can be
        lost."""
        log.warning("whether a reply has begun is not known", response=record.id)
        self._talking.resume(record.owner, record.conversation)
        self._undecided[record.id] = record.owner, record.conversation
        if len(self._undecided) == 1:
            self._beside(self._undo_all())

    def stop(self) -> None:
        """What is still open is left to the next life."""
        for task in self._tasks:
            task.cancel()

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _undo_all(self) -> None:
        while self._undecided:
            for id, (owner, conversation) in list(self._undecided.items()):
                try:
                    await self._store.responses.delete(owner, id)
                except StorageFailed:
                    break
                del self._undecided[id]
                self._talking.give_back(owner, conversation)
            else:
                continue
            await asyncio.sleep(RETRY_SECONDS)

    async def _try_on(self, backend: Backend) -> None:
        while self._waiting:
            await self._try_again(backend)

    async def _try_again(self, backend: Backend) -> None:
        await asyncio.sleep(RETRY_SECONDS)
        for record in list(self._waiting.values()):
            await self._try(record, backend)

    async def _try(self, record: ResponseRecord, backend: Backend) -> None:
        try:
            await self._go_on(record, backend)
        except StorageFailed as error:
            if record.id not in self._waiting:
                log.warning("a reply is not continued yet", response=record.id, error=error.message)
                self._waiting[record.id] = record
                self._talking.resume(record.owner, record.conversation)
            return
        except FrontdeskError as error:
            log.error("a reply cannot be continued", response=record.id, error=error.message)
        except Exception as error:  # whatever it is: one broken reply must not keep the server from starting
            log.error("a reply cannot be continued", response=record.id, stack=where(error))
        if self._waiting.pop(record.id, None):
            self._talking.give_back(record.owner, record.conversation)
