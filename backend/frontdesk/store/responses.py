"""Responses: what was asked, how it is to be continued, what came of it. All queries but `unfinished` name the owner.

Their beginning is here, their tokens and their end are in `journal`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from frontdesk.errors import Conflict
from frontdesk.store.conversations import hold, touch
from frontdesk.store.database import Database
from frontdesk.store.records import UNFINISHED, Idempotency, ResponseRecord
from frontdesk.store.rows import RESPONSE_COLUMNS, response_record, response_row
from frontdesk.store.schema import idempotency, responses
from frontdesk.store.writer import Writer

LONGEST_CHAIN: Final = 10_000  # responses

_LINKS: Final = [column for column in RESPONSE_COLUMNS if column.name != "prompt"]
_OPEN: Final = responses.c.status.in_([sa.literal_column(f"'{status}'") for status in UNFINISHED])


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

    async def unfinished(self) -> list[ResponseRecord]:
        """Those of every owner that have not ended, oldest first."""

        def read(connection: sa.Connection) -> list[ResponseRecord]:
            found = sa.select(*RESPONSE_COLUMNS).where(_OPEN).order_by(responses.c.number)
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

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, owner: str, wanted: Idempotency) -> str | None:
        """Id of the response that was begun under this key and has not expired. Raises `Conflict` when it answers
        another request."""
        return await self._database.read(lambda connection: _find(connection, owner, wanted))


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
    """Every new one takes those away that have expired, so nobody has to."""
    connection.execute(sa.delete(idempotency).where(idempotency.c.expires <= time.time()))
    row = {
        "owner": record.owner, "key": name.key, "fingerprint": name.fingerprint, "expires": name.expires,
        "response": record.id,
    }  # fmt: skip
    connection.execute(sa.insert(idempotency), row)


def _mine(owner: str, id: str) -> Sequence[sa.ColumnElement[bool]]:
    return responses.c.owner == owner, responses.c.id == id
