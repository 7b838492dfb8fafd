"""Widgets, each with the key that pays for it: made together, looked up together, ended by ending the key."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from frontdesk.errors import Conflict
from frontdesk.store.database import Database
from frontdesk.store.keys import hold
from frontdesk.store.records import WidgetRecord
from frontdesk.store.rows import key_record, key_row, widget_record, widget_row
from frontdesk.store.schema import insert_new, insert_or_replace, keys, widgets
from frontdesk.store.writer import Writer


class Widgets:
    """All methods raise `StorageFailed` when the database does not answer."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def add(self, record: WidgetRecord) -> None:
        """With its key, or not at all. Raises `Conflict` when the id of either is taken."""

        def add(connection: sa.Connection) -> None:
            rows = ((keys, key_row(record.key)), (widgets, widget_row(record)))
            for table, row in rows:
                if not connection.execute(insert_new(table, connection.dialect.name), row).rowcount:
                    raise Conflict(f"there already is a widget {record.id!r}")

        await self._writer.run(add)

    async def by_id(self, id: str) -> WidgetRecord | None:
        """The widget, also one that is revoked."""
        found = await self._found(widgets.c.id == id)
        return found[0] if found else None

    async def list(self) -> Sequence[WidgetRecord]:
        """All widgets, oldest first."""
        return await self._found()

    async def change(self, id: str, change: Callable[[WidgetRecord], WidgetRecord]) -> WidgetRecord | None:
        """The widget and its key as `change` makes them from what they are, without another change in between. `None`
        when there is no such widget that is not revoked. `change` may be called twice."""

        def write(connection: sa.Connection) -> WidgetRecord | None:
            found = sa.select(widgets).where(widgets.c.id == id).with_for_update()
            row = connection.execute(found).mappings().one_or_none()
            key = hold(connection, row["key"]) if row else None
            if row is None or key is None:
                return None
            changed = change(widget_record(row, key))
            for table, values in ((keys, key_row(changed.key)), (widgets, widget_row(changed))):
                connection.execute(insert_or_replace(table, connection.dialect.name), values)
            return changed

        return await self._writer.run(write)

    async def revoke(self, id: str, at: int) -> bool:
        """Whether there was such a widget, not yet revoked. Its key ends, and all that hangs on it."""

        def revoke(connection: sa.Connection) -> bool:
            own = keys.c.id == sa.select(widgets.c.key).where(widgets.c.id == id).scalar_subquery()
            ended = sa.update(keys).where(own, keys.c.revoked.is_(None)).values(revoked=at)
            return bool(connection.execute(ended).rowcount)

        return await self._writer.run(revoke)

    async def origins(self, now: float) -> frozenset[str]:
        """Origins of all widgets whose key is good at this time, in seconds since 1970."""
        good = sa.and_(keys.c.revoked.is_(None), sa.or_(keys.c.expires.is_(None), keys.c.expires > now))
        return frozenset(origin for record in await self._found(good) for origin in record.origins)

    async def _found(self, *conditions: sa.ColumnElement[bool]) -> Sequence[WidgetRecord]:
        def read(connection: sa.Connection) -> Sequence[WidgetRecord]:
            paid = {row["id"]: key_record(row) for row in connection.execute(of_keys).mappings()}
            rows = connection.execute(of_widgets).mappings()
            found = [widget_record(row, paid[row["key"]]) for row in rows]
            return sorted(found, key=lambda record: (record.key.created, record.id))

        together = widgets.c.key == keys.c.id
        of_keys = sa.select(keys).join(widgets, together).where(*conditions)
        of_widgets = sa.select(widgets).join(keys, together).where(*conditions)
        return await self._database.read(read)
