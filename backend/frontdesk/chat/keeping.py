"""The two ways to keep a reply, and what it is charged.

A stored reply goes through the journal: its tokens are committed before they are seen, its end together with its row
in the ledger. Of any other reply only the ledger row is written, at its end: what the server's death interrupts was
never charged.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import structlog

from frontdesk.chat.reply import Done, Outcome, Reply
from frontdesk.chat.stored import ending_of
from frontdesk.errors import StorageFailed
from frontdesk.generation import Usage
from frontdesk.store.records import Ending, JournalEntry, LedgerEntry
from frontdesk.store.store import Store

RETRY_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = 2.0  # at shutdown

log = structlog.stdlib.get_logger("frontdesk.chat")


class Journalled:
    """The keeper of stored replies. An end that the database does not take is tried again for as long as we live."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owed: dict[str, asyncio.Event] = {}

    def write(self, entry: JournalEntry, done: Done) -> None:
        self._store.journal.write(entry, done)

    def end(self, reply: Reply, outcome: Outcome, done: Done) -> None:
        ending = ending_of(reply, outcome, ledger_entry(reply, outcome))
        self._store.journal.end(ending, partial(self._ended, ending, done))

    async def paid(self, id: str) -> None:
        """Wait until the end of this reply is written, if it could not be at first."""
        if event := self._owed.get(id):
            await event.wait()

    def _ended(self, ending: Ending, done: Done, error: Exception | None) -> None:
        if isinstance(error, StorageFailed):
            self._owed[ending.response] = asyncio.Event()
            self._again(ending)
        done(error)

    def _again(self, ending: Ending) -> None:
        def written(error: Exception | None) -> None:
            if isinstance(error, StorageFailed):
                self._again(ending)
            else:
                self._owed.pop(ending.response).set()

        again = partial(self._store.journal.end, ending, written)
        asyncio.get_running_loop().call_later(RETRY_SECONDS, again)


class Passing:
    """The keeper of replies that nobody can come back to: nothing is waited for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writing: set[asyncio.Task[None]] = set()

    def write(self, entry: JournalEntry, done: Done) -> None:
        done(None)

    def end(self, reply: Reply, outcome: Outcome, done: Done) -> None:
        task = asyncio.get_running_loop().create_task(self._add(ledger_entry(reply, outcome)))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        done(None)

    async def flush(self) -> None:
        """Wait until every row is written, or until there is no hope for it."""
        if self._writing:
            _, left = await asyncio.wait(self._writing, timeout=FLUSH_SECONDS)
            for task in left:
                task.cancel()

    async def _add(self, entry: LedgerEntry) -> None:
        while True:
            try:
                await self._store.journal.pay(entry)
                return
            except StorageFailed as error:
                log.warning("a reply is not in the ledger yet", reply=entry.reply, error=error.message)
            await asyncio.sleep(RETRY_SECONDS)


def spent(reply: Reply, usage: Usage) -> int:
    """Tokens that a reply is charged: the prompt counts once the engine has read of it, and for the first of `n`."""
    return (usage.prompt if _pays_prompt(reply) else 0) + usage.completion


def ledger_entry(reply: Reply, outcome: Outcome) -> LedgerEntry:
    order, usage = reply.order, outcome.usage
    charged = _pays_prompt(reply)
    return LedgerEntry(
        reply=order.id,
        at=float(order.created),  # the moment of the hold: budgets charge the minute and the day in which it was made
        owner=order.principal.owner,
        key=order.principal.key,
        visitor=order.principal.visitor,
        conversation=order.conversation or order.paying,
        model=order.backend.card.name,
        prompt=usage.prompt if charged else 0,
        cached=usage.cached if charged else 0,
        completion=usage.completion,
        outcome="failed" if outcome.error else "cancelled" if outcome.reason == "cancelled" else "finished",
    )


def _pays_prompt(reply: Reply) -> bool:
    return (reply.reading or reply.computed) and reply.order.first
