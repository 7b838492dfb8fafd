"""Visitors who want a person: at most one open wish for each conversation, closed by the operator, not by the visitor.

Visitors' methods name the owner; `newest` and `settle` are the operator's and see everybody's. A wish goes with its
conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from frontdesk.errors import Conflict, NotFound
from frontdesk.store.conversations import hold, touch
from frontdesk.store.database import Database
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
            if (there := _newest_of(connection, record.conversation)) is None or there.state != "open":
                connection.execute(sa.insert(handoffs), handoff_row(record))
                return record
            contact, message = record.contact or there.contact, record.message or there.message
            now = replace(there, contact=contact, message=message)
            connection.execute(sa.update(handoffs).where(handoffs.c.id == now.id).values(said=handoff_row(now)["said"]))
            return now

        return await self._writer.run(ask, scrub=True)

    async def of_conversation(self, owner: str, conversation: str) -> HandoffRecord | None:
        """The newest of a conversation."""

        def read(connection: sa.Connection) -> HandoffRecord | None:
            mine = sa.select(conversations.c.number)
            mine = mine.where(conversations.c.owner == owner, conversations.c.id == conversation)
            return None if connection.scalar(mine) is None else _newest_of(connection, conversation)

        return await self._database.read(read)

    async def newest(
        self, state: HandoffState | None = None, *, limit: int = 20, after: str | None = None
    ) -> Page[HandoffRecord]:
        """Everybody's, the newest first, from behind `after` on. Raises `NotFound` when there is no such one."""

        def read(connection: sa.Connection) -> Page[HandoffRecord]:
            found = sa.select(handoffs).order_by(handoffs.c.number.desc()).limit(limit + 1)
            if state is not None:
                found = found.where(handoffs.c.state == state)
            if after is not None:
                place = connection.scalar(sa.select(handoffs.c.number).where(handoffs.c.id == after))
                if place is None:
                    raise NotFound(f"there is no hand-off {after!r} to list from", param="after")
                found = found.where(handoffs.c.number < place)
            rows: Sequence[Any] = connection.execute(found).mappings().all()
            return Page([handoff_record(row) for row in rows[:limit]], has_more=len(rows) > limit)

        return await self._database.read(read)

    async def settle(self, id: str, state: HandoffState) -> HandoffRecord | None:
        """Close it or open it again; as it is now. Raises `Conflict` when a newer one of its conversation is open."""

        def settle(connection: sa.Connection) -> HandoffRecord | None:
            named = sa.select(handoffs).where(handoffs.c.id == id).with_for_update()
            if (row := connection.execute(named).mappings().one_or_none()) is None:
                return None
            newest = _newest_of(connection, row["conversation"])
            if state == "open" and newest is not None and newest.id != id and newest.state == "open":
                raise Conflict(f"hand-off {newest.id!r} of the same conversation is open", param="state")
            changed = sa.update(handoffs).where(handoffs.c.id == id).values(state=state).returning(handoffs)
            return handoff_record(connection.execute(changed).mappings().one())

        return await self._writer.run(settle)


def _newest_of(connection: sa.Connection, conversation: str) -> HandoffRecord | None:
    found = sa.select(handoffs).where(handoffs.c.conversation == conversation)
    row = connection.execute(found.order_by(handoffs.c.number.desc()).limit(1)).mappings().one_or_none()
    return handoff_record(row) if row else None
