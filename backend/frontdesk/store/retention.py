"""Deletes what nobody has used for long, a little at a time, so that replies are written in between.

A response outside of a conversation is in use as long as a newer one goes on from it, however long the chain. Inside
one it lives as long as the conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from frontdesk.store.database import Database
from frontdesk.store.schema import conversations, responses, unfinished
from frontdesk.store.writer import Writer

AT_ONCE: Final = 50  # rows deleted in one transaction, each with all that belongs to it
NEWEST: Final = 50  # responses that tell which ones are newer; one that is still there is enough


@dataclass(frozen=True, slots=True)
class _Found:
    """Numbers of what may go, oldest first, and ids of the newest responses that there were then."""

    conversations: list[int]
    responses: list[int]
    newest: list[str]


async def sweep(database: Database, writer: Writer, before: float) -> int:
    """See `Store.sweep`."""
    found = await database.read(lambda connection: _found(connection, before))
    deleted = 0
    for table, numbers in ((conversations, found.conversations), (responses, found.responses)):
        for start in range(0, len(numbers), AT_ONCE):
            some = numbers[start : start + AT_ONCE]
            deleted += await writer.run(_deletion(table, some, found.newest, before), scrub=True)
    return deleted


def _found(connection: sa.Connection, before: float) -> _Found:
    """What nothing in use needs now."""
    used = sa.func.coalesce(responses.c.completed, responses.c.created)
    fresh = sa.exists().where(conversations.c.id == responses.c.conversation, conversations.c.updated >= before)
    needed = _with_former(sa.or_(unfinished, used >= before, fresh))
    newest = sa.select(responses.c.id).order_by(responses.c.number.desc()).limit(NEWEST)
    return _Found(
        list(connection.scalars(_old_conversations(before, needed).order_by("number"))),
        list(connection.scalars(_old_responses(needed).order_by("number"))),
        list(connection.scalars(newest)),
    )


def _deletion(
    table: sa.Table, numbers: Sequence[int], newest: Sequence[str], before: float
) -> Callable[[sa.Connection], int]:
    """Deletes those rows that still nothing in use needs: what began since they were found may go on from them.

    Where none of the `newest` of then is left, all responses are looked at: SQLite gives a number that is free again,
    but never one below that of a response that is there.
    """

    def delete(connection: sa.Connection) -> int:
        last = connection.scalar(sa.select(sa.func.max(responses.c.number)).where(responses.c.id.in_(newest))) or 0
        needed = _with_former(sa.and_(responses.c.number > last, sa.or_(unfinished, responses.c.created >= before)))
        if table is conversations:
            still = _old_conversations(before, needed, conversations.c.number.in_(numbers))
        else:
            still = _old_responses(needed, responses.c.number.in_(numbers))
        # Asked first: SQLite does not count what a DELETE WITH takes.
        unused = list(connection.scalars(still))
        connection.execute(sa.delete(table).where(table.c.number.in_(unused)))
        return len(unused)

    return delete


# EXCEPT, and lookups of one row each, since PostgreSQL's plans for NOT IN and for a recursive join take time without
# bound once its estimates are large.


def _old_conversations(before: float, needed: sa.CTE, *among: sa.ColumnElement[bool]) -> sa.CompoundSelect[Any]:
    held = sa.select(conversations.c.number).join(needed, needed.c.conversation == conversations.c.id)
    return sa.select(conversations.c.number).where(conversations.c.updated < before, *among).except_(held)


def _old_responses(needed: sa.CTE, *among: sa.ColumnElement[bool]) -> sa.CompoundSelect[Any]:
    outside = sa.select(responses.c.number).where(responses.c.conversation.is_(None), *among)
    return outside.except_(sa.select(needed.c.number))


def _with_former(wanted: sa.ColumnElement[bool]) -> sa.CTE:
    """These responses and all that they go on from, as `number` and `conversation`."""
    start = sa.select(responses.c.previous.label("id"), responses.c.owner)
    former = start.where(wanted, responses.c.previous.is_not(None)).cte("former", recursive=True)
    link = responses.alias()
    previous = sa.select(link.c.previous).where(link.c.id == former.c.id, link.c.owner == former.c.owner)
    former = former.union(sa.select(previous.scalar_subquery(), former.c.owner).where(former.c.id.is_not(None)))
    found = sa.select(responses.c.number, responses.c.conversation)
    of_former = found.join(former, sa.and_(responses.c.id == former.c.id, responses.c.owner == former.c.owner))
    return found.where(wanted).union_all(of_former).cte("needed")
