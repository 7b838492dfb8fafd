"""The tokens of replies, and their ends. What is written here is committed before anybody sees it.

`write` and `end` do not wait: they queue, and call back after the commit. Nothing here knows what a token means.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from frontdesk.errors import Conflict, NotFound
from frontdesk.store.conversations import append_items, touch
from frontdesk.store.database import Database, Insert, Result
from frontdesk.store.ledger import add_entry
from frontdesk.store.records import Ending, JournalEntry, LedgerEntry
from frontdesk.store.rows import item_tuple, journal_entry, journal_row, to_json, usage_row
from frontdesk.store.schema import conversations, insert_new, journal, responses, unfinished
from frontdesk.store.writer import Writer

Done = Callable[[Exception | None], None]


class Journal:
    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer
        self._insert = insert_new(journal, database.dialect)

    def write(self, entry: JournalEntry, done: Done) -> None:
        """Queue some tokens. `done` is called on the event loop after the commit, in the order of the calls: with
        `None`, or with what kept them from being written: `StorageFailed`, or `NotFound` when the response was
        deleted meanwhile.

        The first entry of a position stays: writing it again, after a failure, does no harm.
        """

        def tell(result: Result[None]) -> None:
            gone = isinstance(result.error, Conflict)
            done(NotFound(f"response {entry.response!r} was deleted") if gone else result.error)

        self._writer.submit(Insert(self._insert, journal_row(entry)), tell)

    def end(self, ending: Ending, done: Done) -> None:
        """Queue the end of a reply, one transaction: status, usage and output, the items that its conversation gets
        if it adds any (input, then output; a summary behind its own), and the ledger's entry. `done` as for `write`.

        Exactly once: for a response that has ended, nothing is written. For one that was deleted, only the ledger's
        entry is, since its tokens were used.
        """
        self._writer.submit(lambda connection: _end(connection, ending), lambda result: done(result.error))

    async def pay(self, entry: LedgerEntry) -> None:
        """Write the ledger's entry of a reply that is not kept, and that its conversation was used. Raises
        `StorageFailed`."""

        def pay(connection: sa.Connection) -> None:
            add_entry(connection, entry)
            if entry.conversation is not None:
                touch(connection, entry.conversation, int(entry.at))

        await self._writer.run(pay)

    async def read(self, response: str) -> list[JournalEntry]:
        """All that was committed of a reply, in order of position."""
        return await self._database.read(lambda connection: _entries(connection, response))

    async def resume(self, response: str) -> list[JournalEntry]:
        """What a reply can be continued from: its entries up to the first that is missing. Those behind it, which were
        committed although an earlier one could not be, are deleted: the reply will say that part again."""

        def resume(connection: sa.Connection) -> list[JournalEntry]:
            whole: list[JournalEntry] = []
            position = 0
            for entry in _entries(connection, response):
                if entry.position != position:
                    behind = sa.and_(journal.c.response == response, journal.c.position >= position)
                    connection.execute(sa.delete(journal).where(behind))
                    break
                whole.append(entry)
                position += len(entry.tokens)
            return whole

        return await self._writer.run(resume)


def _entries(connection: sa.Connection, response: str) -> list[JournalEntry]:
    found = sa.select(journal).where(journal.c.response == response).order_by(journal.c.position)
    return [journal_entry(row) for row in connection.execute(found).mappings()]


def _end(connection: sa.Connection, ending: Ending) -> None:
    add_entry(connection, ending.ledger)
    found = sa.select(responses.c.conversation, responses.c.owner, responses.c.input).where(
        responses.c.id == ending.response, unfinished
    )
    response = connection.execute(found.with_for_update()).one_or_none()
    if response is None:
        return
    connection.execute(
        sa.update(responses)
        .where(responses.c.id == ending.response)
        .values(
            status=ending.status,
            completed=ending.completed,
            prompt=b"",  # nobody goes on with it any more, and it holds the whole conversation once more
            output=to_json(ending.output),
            error=ending.error,
            **usage_row(ending.usage),
        )
    )
    if response.conversation is not None and ending.adds:
        connection.execute(
            sa.select(conversations.c.number).where(conversations.c.id == response.conversation).with_for_update()
        )
        append_items(connection, response.conversation, [*item_tuple(response.input), *ending.output], again=True)
        touch(connection, response.conversation, ending.completed)
