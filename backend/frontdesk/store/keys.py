"""API keys, without their secrets, and the server's own secrets."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from frontdesk.errors import Conflict
from frontdesk.store.database import Database
from frontdesk.store.records import KeyRecord
from frontdesk.store.rows import key_record, key_row
from frontdesk.store.schema import insert_new, insert_or_replace, keys, secrets
from frontdesk.store.writer import Writer


class Keys:
    """All methods raise `StorageFailed` when the database does not answer."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def add(self, record: KeyRecord) -> None:
        """Raises `Conflict` when the id is taken."""

        def add(connection: sa.Connection) -> None:
            if not connection.execute(insert_new(keys, connection.dialect.name), key_row(record)).rowcount:
                raise Conflict(f"there already is a key {record.id!r}")

        await self._writer.run(add)

    async def by_id(self, id: str) -> KeyRecord | None:
        """The key, also one that is revoked or expired."""

        def read(connection: sa.Connection) -> KeyRecord | None:
            row = connection.execute(sa.select(keys).where(keys.c.id == id)).mappings().one_or_none()
            return key_record(row) if row else None

        return await self._database.read(read)

    async def list(self) -> list[KeyRecord]:
        """All keys, oldest first."""

        def read(connection: sa.Connection) -> list[KeyRecord]:
            found = sa.select(keys).order_by(keys.c.created, keys.c.id)
            return [key_record(row) for row in connection.execute(found).mappings()]

        return await self._database.read(read)

    async def change(self, id: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord | None:
        """The key as `change` makes it from what it is, without another change in between. `None` when there is no such
        key that is not revoked. `change` may be called twice."""

        def write(connection: sa.Connection) -> KeyRecord | None:
            record = hold(connection, id)
            if record is None:
                return None
            changed = change(record)
            connection.execute(insert_or_replace(keys, connection.dialect.name), key_row(changed))
            return changed

        return await self._writer.run(write)

    async def revoke(self, id: str, at: int) -> bool:
        """Whether there was such a key, not yet revoked."""

        def revoke(connection: sa.Connection) -> bool:
            valid = sa.update(keys).where(keys.c.id == id, keys.c.revoked.is_(None))
            return bool(connection.execute(valid.values(revoked=at)).rowcount)

        return await self._writer.run(revoke)

    async def touch(self, id: str, at: int) -> None:
        """Say that the key was used; never earlier than it was already."""

        def touch(connection: sa.Connection) -> None:
            earlier = sa.or_(keys.c.last_used.is_(None), keys.c.last_used < at)
            connection.execute(sa.update(keys).where(keys.c.id == id, earlier).values(last_used=at))

        await self._writer.run(touch)


def hold(connection: sa.Connection, id: str) -> KeyRecord | None:
    """The key if it is not revoked. Nobody else changes it before the transaction ends."""
    found = sa.select(keys).where(keys.c.id == id, keys.c.revoked.is_(None)).with_for_update()
    row = connection.execute(found).mappings().one_or_none()
    return key_record(row) if row else None


def probe(connection: sa.Connection) -> None:
    """A write that changes nothing: tells whether the database takes any."""
    connection.execute(insert_new(secrets, connection.dialect.name), {"name": "probe", "value": b""})
    connection.execute(sa.delete(secrets).where(secrets.c.name == "probe"))


class Secrets:
    """Random bytes that the server made for itself, by name."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def get_or_create(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The secret of that name; the first to ask makes it, also among several processes."""
        made = make()

        def read(connection: sa.Connection) -> bytes:
            connection.execute(insert_new(secrets, connection.dialect.name), {"name": name, "value": made})
            return connection.execute(sa.select(secrets.c.value).where(secrets.c.name == name)).scalar_one()

        return await self._writer.run(read)
