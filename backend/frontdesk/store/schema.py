"""The tables, once for SQLite and PostgreSQL, and the few statements whose spelling differs between the two.

`migrations/` makes exactly these tables; a test compares them. Every text that a person may have written is inside
JSON, which is kept as bytes: no database then has an opinion on its characters. Large columns stand last, so that a
scan of the small ones does not read them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


class Name(sa.types.TypeDecorator[str]):
    """Text that names something. Characters that one of the databases refuses (NUL, half a surrogate pair) are written
    as escapes, so that an impossible id in a request is an id that does not exist, not an error."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # only INTEGER counts up by itself in SQLite
Seconds = sa.BigInteger
Json = sa.LargeBinary

metadata = sa.MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s"}
)

conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("number", Serial, primary_key=True, autoincrement=True),  # the order of creation
    sa.Column("id", Name, nullable=False, unique=True),
    sa.Column("owner", Name, nullable=False),
    sa.Column("created", Seconds, nullable=False),
    sa.Column("updated", Seconds, nullable=False),
    sa.Column("metadata", Json, nullable=False),
    sa.Column("options", Json, nullable=False),
    sa.Index(None, "owner", "number"),
)

items = sa.Table(
    "items",
    metadata,
    sa.Column("conversation", Name, sa.ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),  # from 1 on; 0 is the summary
    sa.Column("id", Name, nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("created", Seconds, nullable=False),
    sa.Column("covers", Json, nullable=False),
    sa.Column("message", Json, nullable=False),
    sa.Index(None, "conversation", "id", unique=True),
)

responses = sa.Table(
    "responses",
    metadata,
    sa.Column("number", Serial, primary_key=True, autoincrement=True),
    sa.Column("id", Name, nullable=False, unique=True),
    sa.Column("owner", Name, nullable=False),
    sa.Column("conversation", Name, sa.ForeignKey("conversations.id", ondelete="CASCADE"), index=True),
    sa.Column("previous", Name),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("created", Seconds, nullable=False),
    sa.Column("completed", Seconds),
    sa.Column("model", Name, nullable=False),
    sa.Column("background", sa.Boolean, nullable=False),
    sa.Column("key", Name),
    sa.Column("visitor", Name),
    sa.Column("usage_prompt", sa.Integer),
    sa.Column("usage_cached", sa.Integer),
    sa.Column("usage_completion", sa.Integer),
    sa.Column("error", Json),
    sa.Column("context", Json, nullable=False),
    sa.Column("parameters", Json, nullable=False),
    sa.Column("request", Json, nullable=False),
    sa.Column("input", Json, nullable=False),
    sa.Column("output", Json, nullable=False),
    sa.Column("prompt", sa.LargeBinary, nullable=False),
)
# No reply is ever "queued", but the index says so in every database, and SQLite takes it for the same words only.
unfinished = responses.c.status.in_([sa.literal_column("'queued'"), sa.literal_column("'in_progress'")])
sa.Index("ix_responses_unfinished", responses.c.number, sqlite_where=unfinished, postgresql_where=unfinished)

journal = sa.Table(
    "journal",
    metadata,
    sa.Column("response", Name, sa.ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("tokens", sa.LargeBinary, nullable=False),
    sa.Column("finish", sa.Text, nullable=False),
    sa.Column("cached", sa.Integer, nullable=False),
    sa.Column("logprobs", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("reply", Name, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("day", sa.Integer, nullable=False),  # days since 1970 in UTC
    sa.Column("owner", Name, nullable=False),
    sa.Column("key", Name),
    sa.Column("visitor", Name),
    sa.Column("conversation", Name),
    sa.Column("model", Name, nullable=False),
    sa.Column("prompt", sa.BigInteger, nullable=False),
    sa.Column("cached", sa.BigInteger, nullable=False),
    sa.Column("completion", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Index(None, "key", "at", "prompt", "completion"),  # sums need no row then
    sa.Index(None, "visitor", "at"),
    sa.Index(None, "conversation", "at"),
    sa.Index(None, "owner", "at"),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", Name, primary_key=True),
    sa.Column("name", Name, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("scopes", Json, nullable=False),
    sa.Column("limits", Json, nullable=False),
    sa.Column("created", Seconds, nullable=False),
    sa.Column("expires", Seconds),
    sa.Column("revoked", Seconds),
    sa.Column("last_used", Seconds),
)

widgets = sa.Table(
    "widgets",
    metadata,
    sa.Column("id", Name, primary_key=True),
    sa.Column("key", Name, sa.ForeignKey("keys.id", ondelete="CASCADE"), nullable=False, unique=True),
    sa.Column("persona", Name),
    sa.Column("identified_only", sa.Boolean, nullable=False),
    sa.Column("origins", Json, nullable=False),
    sa.Column("visitor_limits", Json, nullable=False),
)

handoffs = sa.Table(
    "handoffs",
    metadata,
    sa.Column("number", Serial, primary_key=True, autoincrement=True),
    sa.Column("id", Name, nullable=False, unique=True),
    sa.Column(
        "conversation", Name, sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created", Seconds, nullable=False),
    sa.Column("said", Json, nullable=False),
    sa.Index(None, "state", "number"),
)

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("number", Serial, primary_key=True, autoincrement=True),  # the order of what was said last
    sa.Column("id", Name, nullable=False, unique=True),
    sa.Column("conversation", Name, nullable=False),
    sa.Column("item", Name, nullable=False),
    sa.Column("rating", sa.Text, nullable=False),
    sa.Column("created", Seconds, nullable=False),
    sa.Column("comment", Json, nullable=False),
    sa.ForeignKeyConstraint(["conversation", "item"], ["items.conversation", "items.id"], ondelete="CASCADE"),
    sa.Index(None, "conversation", "item", unique=True),
    sa.Index(None, "rating", "number"),
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("owner", Name, primary_key=True),
    sa.Column("key", Name, primary_key=True),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("expires", sa.Double, nullable=False, index=True),
    sa.Column(
        "response", Name, sa.ForeignKey("responses.id", ondelete="CASCADE"), nullable=False, index=True
    ),
)

secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)


@cache
def insert_new(table: sa.Table, dialect: str) -> Any:
    """An INSERT that leaves a row alone that is there already."""
    return _insert(table, dialect).on_conflict_do_nothing()


@cache
def insert_or_replace(table: sa.Table, dialect: str) -> Any:
    """An INSERT that overwrites the row with the same primary key."""
    statement = _insert(table, dialect)
    changed = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)


def _insert(table: sa.Table, dialect: str) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
