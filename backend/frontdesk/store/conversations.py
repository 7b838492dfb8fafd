"""Conversations and their items. Every query names the owner: another owner's conversation does not exist.

An item is a row, numbered within its conversation. The one summary has number 0, so it stands before all others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from frontdesk.errors import Conflict, NotFound
from frontdesk.messages import Item
from frontdesk.store.database import Database
from frontdesk.store.pages import page
from frontdesk.store.records import ConversationRecord, Page
from frontdesk.store.rows import (
    ITEM_COLUMNS,
    conversation_record,
    conversation_row,
    item_record,
    item_row,
    item_tuple,
    name_tuple,
    to_json,
)
from frontdesk.store.schema import conversations, insert_new, insert_or_replace, items, responses, unfinished
from frontdesk.store.summaries import put_behind
from frontdesk.store.writer import Writer

SUMMARY_POSITION: Final = 0
MOST_ITEMS: Final = 10_000  # that can be added to one conversation; what is said in it comes beside them
MOST_BYTES: Final = 16 * 2**20


class Conversations:
    """Methods that write return after the commit. All raise `StorageFailed` when the database does not answer."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def create(self, record: ConversationRecord, items: Sequence[Item] = ()) -> None:
        """Raises `Conflict` when the id is taken, or two items have the same one."""

        def create(connection: sa.Connection) -> None:
            statement = insert_new(conversations, connection.dialect.name)
            if not connection.execute(statement, conversation_row(record)).rowcount:
                raise Conflict(f"there already is a conversation {record.id!r}")
            append_items(connection, record.id, items)

        await self._writer.run(create)

    async def newest_or_create(self, record: ConversationRecord, *, unused: bool = False) -> str:
        """The id of the owner's newest conversation, or of this one where there is none. With `unused` it only counts
        if nothing was said or asked in it yet. Of several who ask at once, one creates."""
        used = sa.or_(
            sa.exists().where(items.c.conversation == conversations.c.id),
            sa.exists().where(responses.c.conversation == conversations.c.id),
        )

        def newest_or_create(connection: sa.Connection) -> str:
            found = sa.select(conversations.c.id, used).where(conversations.c.owner == record.owner)
            newest = connection.execute(found.order_by(conversations.c.number.desc()).limit(1)).one_or_none()
            if newest is not None and not (unused and newest[1]):
                return newest[0]
            connection.execute(sa.insert(conversations), conversation_row(record))
            return record.id

        return await self._writer.run(newest_or_create)

    async def get(self, owner: str, id: str) -> ConversationRecord | None:
        def get(connection: sa.Connection) -> ConversationRecord | None:
            row = connection.execute(sa.select(conversations).where(*mine(owner, id))).mappings().one_or_none()
            return conversation_record(row) if row else None

        return await self._database.read(get)

    async def update(
        self,
        owner: str,
        id: str,
        *,
        metadata: Mapping[str, str] | None = None,
        options: Callable[[Mapping[str, object]], Mapping[str, object]] | None = None,
    ) -> ConversationRecord | None:
        """Replace what is given and leave the rest; `options` makes new ones of those that are there. Returns the
        conversation as it is now."""
        changes: dict[str, Any] = {"updated": int(time.time())}
        if metadata is not None:
            changes["metadata"] = to_json(metadata)

        def update(connection: sa.Connection) -> ConversationRecord | None:
            found = sa.select(conversations).where(*mine(owner, id)).with_for_update()
            if (row := connection.execute(found).mappings().one_or_none()) is None:
                return None
            now = {} if options is None else {"options": to_json(options(conversation_record(row).options))}
            statement = sa.update(conversations).where(*mine(owner, id)).values({**changes, **now})
            return conversation_record(connection.execute(statement.returning(conversations)).mappings().one())

        return await self._writer.run(update)

    async def delete(self, owner: str, id: str) -> bool:
        """Delete it with its items, its responses and their journals; whether it was there."""

        def delete(connection: sa.Connection) -> bool:
            return bool(connection.execute(sa.delete(conversations).where(*mine(owner, id))).rowcount)

        return await self._writer.run(delete, scrub=True)

    async def list(
        self, owner: str, *, limit: int = 20, after: str | None = None, descending: bool = True
    ) -> Page[ConversationRecord]:
        """In order of creation, the newest first unless said otherwise, from behind the conversation `after` on.

        Raises `NotFound` when `after` is none of the owner's.
        """

        def read(connection: sa.Connection) -> Page[ConversationRecord]:
            found, number = sa.select(conversations).where(conversations.c.owner == owner), conversations.c.number
            return page(
                connection, found, number, conversation_record, limit=limit, after=after, descending=descending
            )

        return await self._database.read(read)

    async def add_items(self, owner: str, id: str, items: Sequence[Item]) -> None:
        """Append in order; a summary replaces the one that is there. Raises `NotFound` without the conversation,
        `Conflict` when an item of that id is in it or it is full (code `conversation_full`)."""

        def add(connection: sa.Connection) -> None:
            hold(connection, owner, id)
            _check_room(connection, id, items)
            append_items(connection, id, items)
            touch(connection, id, int(time.time()))

        await self._writer.run(add)

    async def items(
        self, owner: str, id: str, *, limit: int = 20, after: str | None = None, descending: bool = True
    ) -> Page[Item]:
        """The newest first unless said otherwise, from behind the item `after` on. Raises `NotFound` without the
        conversation or `after`."""

        def read(connection: sa.Connection) -> Page[Item]:
            check(connection, owner, id)
            found, number = sa.select(*ITEM_COLUMNS).where(items.c.conversation == id), items.c.position
            return page(connection, found, number, item_record, limit=limit, after=after, descending=descending)

        return await self._database.read(read)

    async def all_items(self, owner: str, id: str) -> list[Item]:
        """Oldest first, behind the summary if there is one. Raises `NotFound` without the conversation."""

        def read(connection: sa.Connection) -> list[Item]:
            check(connection, owner, id)
            found = sa.select(*ITEM_COLUMNS).where(items.c.conversation == id).order_by(items.c.position)
            return [item_record(row) for row in connection.execute(found).mappings()]

        return await self._database.read(read)

    async def item(self, owner: str, id: str, item_id: str) -> Item | None:
        def read(connection: sa.Connection) -> Item | None:
            found = sa.select(*ITEM_COLUMNS).join(conversations).where(*mine(owner, id), *_entry(id, item_id))
            row = connection.execute(found).mappings().one_or_none()
            return item_record(row) if row else None

        return await self._database.read(read)

    async def items_named(self, owner: str, ids: Sequence[str], *, conversation: str | None = None) -> list[Item]:
        """Those of these items that there are, in whichever of the owner's conversations, or in this one. In no
        order."""
        # Asked of each item, not joined: SQLite might look through all of the owner's conversations instead.
        whose = sa.select(conversations.c.owner).where(conversations.c.id == items.c.conversation).scalar_subquery()
        found = sa.select(*ITEM_COLUMNS).where(items.c.id.in_(ids), whose == owner)
        if conversation is not None:
            found = found.where(items.c.conversation == conversation)

        def read(connection: sa.Connection) -> list[Item]:
            return [item_record(row) for row in connection.execute(found).mappings()]

        return await self._database.read(read)

    async def delete_item(self, owner: str, id: str, item_id: str) -> bool:
        """Take one item out of a conversation; whether it was there.

        What repeats it goes too: the responses that had it as input or output, those that failed, and a summary that
        stands for it. What else those responses said stays in the conversation.
        """

        def delete(connection: sa.Connection) -> bool:
            gone = sa.delete(items).where(*_entry(id, item_id), sa.exists().where(*mine(owner, id)))
            if not connection.execute(gone).rowcount:
                return False
            _delete_repetitions(connection, id, item_id)
            touch(connection, id, int(time.time()))
            return True

        return await self._writer.run(delete, scrub=True)

    async def replace_summary(self, owner: str, id: str, former: Item | None, item: Item) -> bool:
        """Put the conversation's summary in place of the former one, which it goes on from. Raises `NotFound` without
        the conversation.

        Whether it is kept: not if another summary has come while it was being written, for what that says would be
        lost, and not if it covers what was deleted meanwhile, for it repeats that.
        """

        def replace(connection: sa.Connection) -> bool:
            hold(connection, owner, id)
            found = sa.select(items.c.id, items.c.position).where(items.c.conversation == id)
            there = {row.id: row.position for row in connection.execute(found)}
            own = next((id for id, position in there.items() if position == SUMMARY_POSITION), None)
            if own != (former.id if former else None) or not there.keys() >= set(item.covers):
                return False
            append_items(connection, id, [item])
            touch(connection, id, int(time.time()))
            return True

        return await self._writer.run(replace)


# --- inside a transaction; other parts of the store use them too ------------------------------------------------------


def mine(owner: str, id: str) -> Sequence[sa.ColumnElement[bool]]:
    return conversations.c.owner == owner, conversations.c.id == id


def check(connection: sa.Connection, owner: str, id: str, *, lock: bool = False) -> None:
    """Raises `NotFound` where the owner has no such conversation."""
    found = sa.select(conversations.c.number).where(*mine(owner, id))
    if connection.scalar(found.with_for_update() if lock else found) is None:
        raise NotFound(f"there is no conversation {id!r}")


def hold(connection: sa.Connection, owner: str, id: str) -> None:
    """Keep others from changing the conversation up to the commit. Raises `NotFound` as `check` does."""
    check(connection, owner, id, lock=True)


def _check_room(connection: sa.Connection, id: str, new: Sequence[Item]) -> None:
    """Every turn reads the whole conversation, so that a boundless one would take the memory of all."""
    held = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(sa.func.length(items.c.message)), 0))
    number, size = connection.execute(held.where(items.c.conversation == id)).one()
    size += sum(len(to_json(item.message)) for item in new)
    if number + len(new) > MOST_ITEMS or size > MOST_BYTES:
        raise Conflict(
            f"a conversation takes at most {MOST_ITEMS:,} items and {MOST_BYTES:,} bytes of them: begin another one",
            param="items",
            code="conversation_full",
        )


def append_items(connection: sa.Connection, id: str, new: Sequence[Item], *, again: bool = False) -> None:
    """Number and insert items. `again`: they are a turn's. Then one whose id is there already is left out, else it
    raises `Conflict`; and a summary is put behind the one that is there, else in its place."""
    last = connection.scalar(sa.select(sa.func.max(items.c.position)).where(items.c.conversation == id)) or 0
    summaries = [item for item in new if item.kind == "summary"]
    rows = [
        item_row(id, last + place, item)
        for place, item in enumerate((item for item in new if item.kind != "summary"), start=1)
    ]
    if rows and again:
        connection.execute(insert_new(items, connection.dialect.name), rows)
    elif rows:
        try:
            connection.execute(sa.insert(items), rows)
        except exc.IntegrityError as error:
            raise Conflict(f"conversation {id!r} already has one of these items") from error
    if summaries:
        summary = _behind_own(connection, id, summaries[-1]) if again else summaries[-1]
        row = item_row(id, SUMMARY_POSITION, summary)
        connection.execute(insert_or_replace(items, connection.dialect.name), row)


def _behind_own(connection: sa.Connection, id: str, given: Item) -> Item:
    found = sa.select(*ITEM_COLUMNS).where(items.c.conversation == id, items.c.position == SUMMARY_POSITION)
    own = connection.execute(found).mappings().one_or_none()
    return put_behind(item_record(own), given) if own else given


def touch(connection: sa.Connection, id: str, at: int) -> None:
    """Say that the conversation was used; never earlier than it was already."""
    later = sa.and_(conversations.c.id == id, conversations.c.updated < at)
    connection.execute(sa.update(conversations).where(later).values(updated=at))


def _entry(id: str, item_id: str) -> Sequence[sa.ColumnElement[bool]]:
    return items.c.conversation == id, items.c.id == item_id


def _delete_repetitions(connection: sa.Connection, conversation: str, item: str) -> None:
    """A turn that failed may have been sent again with the same words as other items; it added nothing itself."""
    failed = sa.and_(responses.c.conversation == conversation, responses.c.status == "failed")
    connection.execute(sa.delete(responses).where(failed))
    said = sa.select(responses.c.number, responses.c.input, responses.c.output)
    for row in connection.execute(said.where(responses.c.conversation == conversation, ~unfinished)).all():
        if any(item == one.id for one in (*item_tuple(row.input), *item_tuple(row.output))):
            connection.execute(sa.delete(responses).where(responses.c.number == row.number))
    summaries = sa.select(items.c.id, items.c.covers).where(items.c.kind == "summary")
    for row in connection.execute(summaries.where(items.c.conversation == conversation)).all():
        if item in name_tuple(row.covers):
            connection.execute(sa.delete(items).where(*_entry(conversation, row.id)))
