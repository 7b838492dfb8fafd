"""Deletes what nobody has used for long, a little at a time, so that replies are written in between.

A response outside of a conversation is in use as long as a newer one goes on from it, however long the chain. Inside
one it lives as long as the conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from frontdesk.store.database import Database
from frontdesk.store.records import UNFINISHED
from frontdesk.store.schema import conversations, responses
from frontdesk.store.writer import Writer

AT_ONCE: Final = 50  # rows deleted in one transaction, each with all that belongs to it

_OPEN: Final = responses.c.status.in_(UNFINISHED)


@dataclass(frozen=True, slots=True)
class _Unused:
    """Numbers of what may go, and of the newest response that stays."""

    conversations: list[int]
    responses: list[int]
    newest: int


async def sweep(database: Database, writer: Writer, before: float) -> int:
    """See `Store.sweep`."""
    found = await database.read(lambda connection: _found(connection, before))
    # What began since then may go on from what is old. Its number can be that of one that was deleted: SQLite counts on
    # from the newest that is left.
    recent = sa.or_(_OPEN, responses.c.created >= before)
    newer = _with_former(sa.and_(responses.c.number > found.newest, recent))
    unused = (conversations.c.updated < before, _no_conversation_of(newer))
    ended = (responses.c.number.not_in(sa.select(newer.c.number)), ~_OPEN)
    deleted = 0
    for numbers in _chunks(found.conversations):
        deleted += await writer.run(_deletion(conversations, numbers, *unused), scrub=True)
    for numbers in _chunks(found.responses):
        deleted += await writer.run(_deletion(responses, numbers, *ended), scrub=True)
    return deleted


def _found(connection: sa.Connection, before: float) -> _Unused:
    """What nothing in use needs now."""
    fresh = sa.select(conversations.c.id).where(conversations.c.updated >= before)
    used = sa.func.coalesce(responses.c.completed, responses.c.created)
    needed = _with_former(sa.or_(_OPEN, used >= before, responses.c.conversation.in_(fresh)))
    old_conversations = sa.select(conversations.c.number).where(
        conversations.c.updated < before, _no_conversation_of(needed)
    )
    old_responses = sa.select(responses.c.number).where(
        responses.c.conversation.is_(None), responses.c.number.not_in(sa.select(needed.c.number))
    )
    return _Unused(
        list(connection.scalars(old_conversations)),
        list(connection.scalars(old_responses)),
        connection.scalar(sa.select(sa.func.max(needed.c.number))) or 0,
    )


def _with_former(wanted: sa.ColumnElement[bool]) -> sa.CTE:
    """These responses and all that they go on from, as `number` and `conversation` (and what links them)."""
    link = sa.select(responses.c.number, responses.c.previous, responses.c.owner, responses.c.conversation)
    needed = link.where(wanted).cte("needed", recursive=True)
    former = link.join(needed, sa.and_(responses.c.id == needed.c.previous, responses.c.owner == needed.c.owner))
    return needed.union(former)


def _no_conversation_of(needed: sa.CTE) -> sa.ColumnElement[bool]:
    held = sa.select(needed.c.conversation).where(needed.c.conversation.is_not(None))
    return conversations.c.id.not_in(held)


def _deletion(
    table: sa.Table, numbers: Sequence[int], *still: sa.ColumnElement[bool]
) -> Callable[[sa.Connection], int]:
    """Deletes those rows of which all this still holds. Asked first: SQLite does not count what a DELETE WITH takes."""

    def delete(connection: sa.Connection) -> int:
        found = list(connection.scalars(sa.select(table.c.number).where(table.c.number.in_(numbers), *still)))
        connection.execute(sa.delete(table).where(table.c.number.in_(found)))
        return len(found)

    return delete


def _chunks(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[start : start + AT_ONCE] for start in range(0, len(numbers), AT_ONCE)]
