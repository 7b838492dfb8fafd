"""What replies used, in tokens. Append-only: an entry is never changed and never deleted; it holds no text.

Every budget is a sum over it, so what is in memory can always be made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

import sqlalchemy as sa

from frontdesk.store.database import Database, Operation
from frontdesk.store.records import BudgetKind, Grouping, LedgerEntry
from frontdesk.store.rows import SECONDS_A_DAY, ledger_row
from frontdesk.store.schema import insert_new, ledger

_ACCOUNTS: Final[Mapping[BudgetKind, sa.Column[Any]]] = {
    "key": ledger.c.key,
    "visitor": ledger.c.visitor,
    "conversation": ledger.c.conversation,
}
_EPOCH: Final = date(1970, 1, 1)


class Ledger:
    """Methods only read; `add_entry` is for the transaction that ends a reply. All raise `StorageFailed`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def used(self, kind: BudgetKind, id: str, since: float, until: float | None = None) -> tuple[int, int]:
        """Tokens (prompt and completion) and requests of one account from `since` on and before `until`, in seconds
        since 1970. A clock that was ahead for a while has left entries in the future."""
        found = sa.select(_sum(ledger.c.prompt + ledger.c.completion), sa.func.count()).where(
            _ACCOUNTS[kind] == id, ledger.c.at >= since
        )
        if until is not None:
            found = found.where(ledger.c.at < until)

        def read(connection: sa.Connection) -> tuple[int, int]:
            tokens, requests = connection.execute(found).one()
            return int(tokens), int(requests)

        return await self._database.read(read)

    async def sums(
        self,
        *,
        owner: str | None = None,
        key: str | None = None,
        since: float | None = None,
        until: float | None = None,
        by: Sequence[Grouping] = (),
        limit: int | None = None,
        after: Mapping[str, str | None] | None = None,
    ) -> list[dict[str, Any]]:
        """`prompt`, `cached` and `completion` tokens and `requests`, of all owners and keys unless one is named (a key
        pays for its visitors too), from `since` on and before `until`, for each combination of `by`, whose values are
        in the same dict (`day` as "2026-11-24", in UTC) and give the order: upwards as the database sorts, `None`
        first. At most `limit` of them, from behind the combination `after` on, whether there is such a one or not.
        """
        groups = [ledger.c[name] for name in by]
        sums = [_sum(ledger.c[name]).label(name) for name in ("prompt", "cached", "completion")]
        found = sa.select(*groups, *sums, sa.func.count().label("requests")).group_by(*groups)
        found = found.order_by(*(group.nulls_first() for group in groups))
        if owner is not None:
            found = found.where(ledger.c.owner == owner)
        if key is not None:
            found = found.where(ledger.c.key == key)
        if since is not None:
            found = found.where(ledger.c.at >= since)
        if until is not None:
            found = found.where(ledger.c.at < until)
        if after is not None:
            found = found.where(_behind(by, after))
        if limit is not None:
            found = found.limit(limit)
        return await self._database.read(_reading(found))

    async def used_by_keys(self, minute: float, day: float) -> dict[str, tuple[int, int, int]]:
        """Tokens of every key that has used any: in the minute and in the day that begin then, and in total. Reads the
        whole ledger."""
        tokens = ledger.c.prompt + ledger.c.completion
        windows = {"minute": (minute, minute + 60), "day": (day, day + SECONDS_A_DAY)}
        parts = [
            _sum(sa.case((sa.and_(ledger.c.at >= begin, ledger.c.at < end), tokens), else_=0)).label(name)
            for name, (begin, end) in windows.items()
        ]
        found = sa.select(ledger.c.key, *parts, _sum(tokens).label("total"))
        found = found.where(ledger.c.key.is_not(None)).group_by(ledger.c.key)

        def read(connection: sa.Connection) -> dict[str, tuple[int, int, int]]:
            return {row.key: (row.minute, row.day, row.total) for row in connection.execute(found)}

        return await self._database.read(read)


def add_entry(connection: sa.Connection, entry: LedgerEntry) -> None:
    """One whose reply has an entry already is left out."""
    connection.execute(insert_new(ledger, connection.dialect.name), ledger_row(entry))


def _behind(by: Sequence[Grouping], place: Mapping[str, str | None]) -> sa.ColumnElement[bool]:
    """What comes after `place` where all columns go upwards and NULL first."""
    behind: sa.ColumnElement[bool] = sa.false()
    for name in reversed(by):
        column, value = ledger.c[name], place[name]
        if value is None:
            further, level = column.is_not(None), column.is_(None)
        else:
            key = (date.fromisoformat(value) - _EPOCH).days if name == "day" else value
            further, level = column > key, column == key
        behind = sa.or_(further, sa.and_(level, behind))
    return behind


def _reading(found: sa.Select[Any]) -> Operation[list[dict[str, Any]]]:
    def read(connection: sa.Connection) -> list[dict[str, Any]]:
        rows = [dict(row) for row in connection.execute(found).mappings() if row["requests"]]
        for row in rows:
            if "day" in row:
                row["day"] = datetime.fromtimestamp(row["day"] * SECONDS_A_DAY, UTC).date().isoformat()
        return rows

    return read


def _sum(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """PostgreSQL adds big integers up to a decimal; this is a whole number everywhere."""
    return sa.cast(sa.func.coalesce(sa.func.sum(column), 0), sa.BigInteger)
