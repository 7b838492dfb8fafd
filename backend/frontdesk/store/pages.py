"""Long lists are read a page at a time, in the order of the number that every entry has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from frontdesk.errors import NotFound
from frontdesk.store.records import Page, Value


def page(
    connection: sa.Connection,
    found: sa.Select[Any],
    number: sa.Column[int],
    record: Callable[[sa.RowMapping], Value],
    *,
    limit: int,
    after: str | None,
    only: Sequence[sa.ColumnElement[bool]] = (),
    descending: bool = True,
) -> Page[Value]:
    """At most `limit` entries of the list `found`, from behind its entry `after` on. Raises `NotFound` when there is no
    such entry. It need not meet the conditions `only`: it may have changed since it was on a page."""
    if after is not None:
        place = connection.scalar(found.with_only_columns(number).where(number.table.c.id == after))
        if place is None:
            raise NotFound(f"there is no {after!r} to list from", param="after")
        found = found.where(number < place if descending else number > place)
    ordered = found.where(*only).order_by(number.desc() if descending else number)
    rows = connection.execute(ordered.limit(limit + 1)).mappings().all()  # one more tells whether there are more
    return Page([record(row) for row in rows[:limit]], has_more=len(rows) > limit)
