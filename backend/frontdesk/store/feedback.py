"""What people think of single answers: up or down, and a few words. One opinion for each answer, the last one counts.

Everything but `newest`, which is the operator's, names the owner. Feedback goes with the answer, and that with its
conversation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import sqlalchemy as sa

from frontdesk.errors import NotFound
from frontdesk.messages import ITEM_PREFIXES
from frontdesk.store.conversations import check, hold, mine, touch
from frontdesk.store.database import Database
from frontdesk.store.pages import page
from frontdesk.store.records import FeedbackRecord, Page, RatedAnswer, Rating
from frontdesk.store.rows import ITEM_COLUMNS, feedback_record, feedback_row, item_record
from frontdesk.store.schema import feedback, items, ledger
from frontdesk.store.writer import Writer

LOOK_BACK: Final = 8  # messages, among which the question to an answer is looked for


class Feedback:
    """All methods raise `StorageFailed` when the database does not answer."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def put(self, owner: str, record: FeedbackRecord) -> FeedbackRecord:
        """Write what is thought of a message, in place of what was thought before, whose id it keeps; as it is now.

        Raises `NotFound` without the conversation or the message.
        """

        def put(connection: sa.Connection) -> FeedbackRecord:
            hold(connection, owner, record.conversation)
            message = sa.select(items.c.id).where(
                items.c.conversation == record.conversation, items.c.id == record.item, items.c.kind == "message"
            )
            if connection.scalar(message) is None:
                raise NotFound(f"there is no message {record.item!r}")
            touch(connection, record.conversation, record.created)
            of_item = _of_item(record.conversation, record.item)
            before = connection.scalar(sa.select(feedback.c.id).where(of_item))
            now = record if before is None else replace(record, id=before)
            connection.execute(sa.delete(feedback).where(of_item))
            connection.execute(sa.insert(feedback), feedback_row(now))  # under a new number: it is the newest
            return now

        return await self._writer.run(put, scrub=True)

    async def delete(self, owner: str, conversation: str, item: str) -> FeedbackRecord | None:
        """Forget what is thought of an item; what that was, `None` if nothing."""

        def delete(connection: sa.Connection) -> FeedbackRecord | None:
            there = sa.exists().where(*mine(owner, conversation))
            gone = sa.delete(feedback).where(_of_item(conversation, item), there).returning(feedback)
            row = connection.execute(gone).mappings().one_or_none()
            return feedback_record(row) if row else None

        return await self._writer.run(delete, scrub=True)

    async def of_conversation(self, owner: str, id: str) -> list[FeedbackRecord]:
        """All of one conversation, oldest first. Raises `NotFound` without the conversation."""

        def read(connection: sa.Connection) -> list[FeedbackRecord]:
            check(connection, owner, id)
            rows = connection.execute(sa.select(feedback).where(feedback.c.conversation == id)).mappings().all()
            return [feedback_record(row) for row in sorted(rows, key=lambda row: row["number"])]

        return await self._database.read(read)

    async def newest(
        self, *, rating: Rating | None = None, limit: int = 20, after: str | None = None
    ) -> Page[RatedAnswer]:
        """Of all owners, the newest first, from behind the entry `after` on. Raises `NotFound` when there is none."""
        only = [] if rating is None else [feedback.c.rating == rating]

        def read(connection: sa.Connection) -> Page[RatedAnswer]:
            found, number = sa.select(feedback), feedback.c.number
            records = page(connection, found, number, feedback_record, limit=limit, after=after, only=only)
            models = _models(connection, records.items)
            rated = [_rated(connection, record, models.get(record.item)) for record in records.items]
            return Page(rated, has_more=records.has_more)

        return await self._database.read(read)


def _of_item(conversation: str, item: str) -> sa.ColumnElement[bool]:
    return sa.and_(feedback.c.conversation == conversation, feedback.c.item == item)


def _models(connection: sa.Connection, records: list[FeedbackRecord]) -> dict[str, str]:
    """Which model wrote each item. An answer has the id of its reply, whose row in the ledger stays for ever."""
    prefix = ITEM_PREFIXES["message"] + "_"
    replies = {record.item.removeprefix(prefix): record.item for record in records}
    found = sa.select(ledger.c.reply, ledger.c.model).where(ledger.c.reply.in_(replies))
    return {replies[reply]: model for reply, model in connection.execute(found)}


def _rated(connection: sa.Connection, record: FeedbackRecord, model: str | None) -> RatedAnswer:
    """With the answer and the last thing that the user said before it."""
    of_conversation = items.c.conversation == record.conversation
    place = sa.select(items.c.position).where(of_conversation, items.c.id == record.item).scalar_subquery()
    before = sa.select(*ITEM_COLUMNS).where(of_conversation, items.c.position <= place, items.c.kind == "message")
    newest = connection.execute(before.order_by(items.c.position.desc()).limit(LOOK_BACK)).mappings()
    answer, *former = [item_record(row).message for row in newest]
    question = next((message.content for message in former if message.role == "user"), None)
    return RatedAnswer(record, question, answer.content, model)
