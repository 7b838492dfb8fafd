"""Deletes what nobody has used for long, a little at a time, so that replies are written in between.

A response outside of a conversation is in use as long as a newer one goes on from it, however long the chain. Inside
one it lives as long as the conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import sqlalchemy as sa

from frontdesk.store.database import Database
from frontdesk.store.records import UNFINISHED
from frontdesk.store.schema import conversations, responses
from frontdesk.store.writer import Writer

AT_ONCE: Final = 50  # rows deleted in one transaction, each with all that belongs to it

_OPEN: Final = responses.c.status.in_(UNFINISHED)


async def sweep(database: Database, writer: Writer, before: float) -> int:
    """See `Store.sweep`."""
    old_conversations, old_responses = await database.read(lambda connection: _found(connection, before))
    unused = sa.delete(conversations).where(conversations.c.updated < before)
    deleted = 0
    for numbers in _chunks(old_conversations):
        deleted += await writer.run(_deletion(unused.where(conversations.c.number.in_(numbers))), scrub=True)
    for numbers in _chunks(old_responses):
        ended = sa.delete(responses).where(responses.c.number.in_(numbers), ~_OPEN)
        deleted += await writer.run(_deletion(ended), scrub=True)
    return deleted


def _found(connection: sa.Connection, before: float) -> tuple[list[int], list[int]]:
    """Numbers of the conversations and of the responses outside of them that nothing in use needs."""
    fresh = sa.select(conversations.c.id).where(conversations.c.updated >= before)
    link = sa.select(responses.c.number, responses.c.previous, responses.c.owner, responses.c.conversation)
    used = sa.func.coalesce(responses.c.completed, responses.c.created)
    in_use = sa.or_(_OPEN, used >= before, responses.c.conversation.in_(fresh))
    needed = link.where(in_use).cte("needed", recursive=True)
    former = link.join(needed, sa.and_(responses.c.id == needed.c.previous, responses.c.owner == needed.c.owner))
    needed = needed.union(former)
    old_conversations = sa.select(conversations.c.number).where(
        conversations.c.updated < before,
        conversations.c.id.not_in(sa.select(needed.c.conversation).where(needed.c.conversation.is_not(None))),
    )
    old_responses = sa.select(responses.c.number).where(
        responses.c.conversation.is_(None), responses.c.number.not_in(sa.select(needed.c.number))
    )
    return list(connection.scalars(old_conversations)), list(connection.scalars(old_responses))


def _deletion(statement: sa.Delete) -> Callable[[sa.Connection], int]:
    return lambda connection: connection.execute(statement).rowcount


def _chunks(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[start : start + AT_ONCE] for start in range(0, len(numbers), AT_ONCE)]
