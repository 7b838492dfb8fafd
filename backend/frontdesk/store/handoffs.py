"""Visitors who want a person: at most one open wish for each conversation, closed by the operator, not by the visitor.

Visitors' methods name the owner; `newest` and `settle` are the operator's and see everybody's. A wish goes with its
conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from frontdesk.errors import Conflict
from frontdesk.store.conversations import hold, mine, touch
from frontdesk.store.database import Database
from frontdesk.store.pages import page
from frontdesk.store.records import HandoffRecord, HandoffState, Page
from frontdesk.store.rows import handoff_record, handoff_row
from frontdesk.store.schema import conversations, handoffs
from frontdesk.store.writer import Writer


class Handoffs:
    """All methods raise `StorageFailed` when the database does not answer."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def ask(self, owner: str, record: HandoffRecord) -> HandoffRecord:
        """Put a wish, or what it says into the one that is open already; returns it as it is now.

        What `record` leaves `None` stays as it is there. Raises `NotFound` without the conversation.
        """

        def ask(connection: sa.Connection) -> HandoffRecord:
            hold(connection, owner, record.conversation)
            touch(connection, record.conversation, record.created)
            if (there := _open_among(_all_of(connection, record.conversation))) is None:
                connection.execute(sa.insert(handoffs), handoff_row(record))
                return record
            contact, message = record.contact or there.contact, record.message or there.message
            now = replace(there, contact=contact, message=message)
            connection.execute(sa.update(handoffs).where(handoffs.c.id == now.id).values(said=handoff_row(now)["said"]))
            return now

        return await self._writer.run(ask, scrub=True)

    async def of_conversation(self, owner: str, conversation: str) -> HandoffRecord | None:
        """The open one of a conversation, else its newest."""

        def read(connection: sa.Connection) -> HandoffRecord | None:
            there = _all_of(connection, conversation, sa.exists().where(*mine(owner, conversation)))
            return _open_among(there) or next(iter(there), None)

        return await self._database.read(read)

    async def newest(
        self, state: HandoffState | None = None, *, limit: int = 20, after: str | None = None
    ) -> Page[HandoffRecord]:
        """Everybody's, the newest first, from behind `after` on. Raises `NotFound` when there is no such one."""
        only = [] if state is None else [handoffs.c.state == state]

        def read(connection: sa.Connection) -> Page[HandoffRecord]:
            found, number = sa.select(handoffs), handoffs.c.number
            return page(connection, found, number, handoff_record, limit=limit, after=after, only=only)

        return await self._database.read(read)

    async def settle(self, id: str, state: HandoffState) -> HandoffRecord | None:
        """Close it or open it again; as it is now. Raises `Conflict` when another one of its conversation is open."""

        def settle(connection: sa.Connection) -> HandoffRecord | None:
            conversation = connection.scalar(sa.select(handoffs.c.conversation).where(handoffs.c.id == id))
            if conversation is None:
                return None
            connection.execute(  # as `ask` does: both look for an open one first
                sa.select(conversations.c.number).where(conversations.c.id == conversation).with_for_update()
            )
            if state == "open" and (other := _open_among(_all_of(connection, conversation), besides=id)):
                raise Conflict(f"hand-off {other.id!r} of the same conversation is open", param="state")
            changed = sa.update(handoffs).where(handoffs.c.id == id).values(state=state).returning(handoffs)
            row = connection.execute(changed).mappings().one_or_none()  # it may have been deleted meanwhile
            return handoff_record(row) if row else None

        return await self._writer.run(settle)


def _open_among(there: Sequence[HandoffRecord], besides: str | None = None) -> HandoffRecord | None:
    """It need not be the newest: an older one too can be opened again."""
    return next((one for one in there if one.state == "open" and one.id != besides), None)


def _all_of(connection: sa.Connection, conversation: str, *only: sa.ColumnElement[bool]) -> list[HandoffRecord]:
    """Newest first; they are few. Asking for the open one would have SQLite read everybody's that are open."""
    found = sa.select(handoffs).where(handoffs.c.conversation == conversation, *only)
    return [handoff_record(row) for row in connection.execute(found.order_by(handoffs.c.number.desc())).mappings()]
