"""Responses: what was asked, how it is to be continued, what came of it. All queries but `unfinished` name the owner.

Their beginning is here, their tokens and their end are in `journal`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import sqlalchemy as sa

from frontdesk.errors import Conflict
from frontdesk.store.conversations import hold, touch
from frontdesk.store.database import Database
from frontdesk.store.records import Answer, Idempotency, ResponseRecord
from frontdesk.store.rows import RESPONSE_COLUMNS, item_tuple, response_record, response_row
from frontdesk.store.schema import idempotency, responses, unfinished
from frontdesk.store.writer import Writer

LONGEST_CHAIN: Final = 10_000  # responses
FORGOTTEN_AT_ONCE: Final = 50  # names in one transaction: replies are written in between

_LINKS: Final = [column for column in RESPONSE_COLUMNS if column.name != "prompt"]


class Responses:
    """All methods raise `StorageFailed` when the database does not answer."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def begin(self, record: ResponseRecord, *, idempotency: Idempotency | None = None) -> str | None:
        """Write a new response; `None` when that is done.

        With `idempotency`, the id of the response that the same owner began under the same key, if it has not expired:
        then nothing was written. Raises `Conflict` when that one answers another request, `NotFound` when the
        conversation is gone.
        """

        def begin(connection: sa.Connection) -> str | None:
            if idempotency and (found := _find(connection, record.owner, idempotency)):
                return found
            if record.conversation is not None:
                hold(connection, record.owner, record.conversation)
                touch(connection, record.conversation, record.created)
            connection.execute(sa.insert(responses), response_row(record))
            if idempotency:
                _remember(connection, record, idempotency)
            return None

        return await self._writer.run(begin)

    async def get(self, owner: str, id: str) -> ResponseRecord | None:
        def get(connection: sa.Connection) -> ResponseRecord | None:
            row = connection.execute(sa.select(*RESPONSE_COLUMNS).where(*_mine(owner, id))).mappings().one_or_none()
            return response_record(row) if row else None

        return await self._database.read(get)

    async def answers(self, owner: str, ids: Sequence[str], *, conversation: str | None = None) -> list[Answer]:
        """What came of those of these responses that there are: all, or a conversation's. In no order."""
        found = sa.select(responses.c.id, responses.c.status, responses.c.output)
        found = found.where(responses.c.owner == owner, responses.c.id.in_(ids))
        if conversation is not None:
            found = found.where(responses.c.conversation == conversation)

        def read(connection: sa.Connection) -> list[Answer]:
            return [Answer(row.id, row.status, item_tuple(row.output)) for row in connection.execute(found)]

        return await self._database.read(read)

    async def unfinished(self, conversation: str | None = None) -> list[ResponseRecord]:
        """Those of every owner that have not ended, oldest first: all, or a conversation's."""
        mine = [] if conversation is None else [responses.c.conversation == conversation]

        def read(connection: sa.Connection) -> list[ResponseRecord]:
            found = sa.select(*RESPONSE_COLUMNS).where(unfinished, *mine).order_by(responses.c.number)
            return [response_record(row) for row in connection.execute(found).mappings()]

        return await self._database.read(read)

    async def chain(self, owner: str, id: str) -> list[ResponseRecord]:
        """The response and all that came before it by `previous`, oldest first, without their `prompt`.

        Ends at one that was deleted or is another owner's; empty when the response itself is.
        """
        start = sa.select(responses.c.number, responses.c.previous, sa.literal(0).label("depth"))
        steps = start.where(*_mine(owner, id)).cte("steps", recursive=True)
        former = sa.select(responses.c.number, responses.c.previous, steps.c.depth + 1).join(
            steps, responses.c.id == steps.c.previous
        )
        steps = steps.union_all(former.where(responses.c.owner == owner, steps.c.depth < LONGEST_CHAIN))
        found = sa.select(*_LINKS).join(steps, responses.c.number == steps.c.number).order_by(steps.c.depth.desc())

        def read(connection: sa.Connection) -> list[ResponseRecord]:
            return [response_record(row) for row in connection.execute(found).mappings()]

        return await self._database.read(read)

    async def delete(self, owner: str, id: str) -> bool:
        """Delete it with its journal; whether it was there. What it added to a conversation stays in it."""

        def delete(connection: sa.Connection) -> bool:
            return bool(connection.execute(sa.delete(responses).where(*_mine(owner, id))).rowcount)

        return await self._writer.run(delete, scrub=True)


class Idempotencies:
    """Which response answered a request that a client gave a name to."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def find(self, owner: str, wanted: Idempotency) -> str | None:
        """Id of the response that was begun under this key and has not expired. Raises `Conflict` when it answers
        another request."""
        return await self._database.read(lambda connection: _find(connection, owner, wanted))

    async def forget(self, alone: Callable[[bytes], bool]) -> int:
        """Take away the names that have expired, of every owner, and each response that was kept for its name alone:
        `alone` tells by its `parameters`. Returns how many responses. A name whose response has not ended stays.
        """
        named = sa.select(idempotency.c.response, responses.c.parameters).join(responses)
        expired = named.where(idempotency.c.expires <= time.time(), ~unfinished).limit(FORGOTTEN_AT_ONCE)

        def forget(connection: sa.Connection) -> int:
            rows = connection.execute(expired).all()
            names = [row.response for row in rows]
            kept_alone = [row.response for row in rows if alone(row.parameters)]
            connection.execute(sa.delete(idempotency).where(idempotency.c.response.in_(names)))
            connection.execute(sa.delete(responses).where(responses.c.id.in_(kept_alone)))
            return len(kept_alone)

        forgotten = 0
        while await self._database.read(lambda connection: connection.execute(expired).first()) is not None:
            forgotten += await self._writer.run(forget, scrub=True)
        return forgotten


def _find(connection: sa.Connection, owner: str, wanted: Idempotency) -> str | None:
    found = sa.select(idempotency.c.fingerprint, idempotency.c.response).where(
        idempotency.c.owner == owner, idempotency.c.key == wanted.key, idempotency.c.expires > time.time()
    )
    row = connection.execute(found).one_or_none()
    if row is None:
        return None
    if row.fingerprint != wanted.fingerprint:
        raise Conflict(
            "this Idempotency-Key was used for another request; send the same request again, or take another key",
            code="idempotency_key_reused",
        )
    return row.response


def _remember(connection: sa.Connection, record: ResponseRecord, name: Idempotency) -> None:
    """In place of one that has expired. That one gets a name that no request can have, so that `forget` still finds
    its response."""
    expired = sa.update(idempotency).where(idempotency.c.owner == record.owner, idempotency.c.key == name.key)
    unused = idempotency.c.key.concat(" ").concat(idempotency.c.response)
    connection.execute(expired.values(key=unused))
    row = {
        "owner": record.owner, "key": name.key, "fingerprint": name.fingerprint, "expires": name.expires,
        "response": record.id,
    }  # fmt: skip
    connection.execute(sa.insert(idempotency), row)


def _mine(owner: str, id: str) -> Sequence[sa.ColumnElement[bool]]:
    return responses.c.owner == owner, responses.c.id == id
