"""The first tables: conversations with their items, responses with their journals, the ledger, keys, and the names
that clients gave to requests.

They are spelt out here and not taken from `schema.py`: a step must make the same tables for ever.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UNFINISHED = sa.text("status IN ('queued', 'in_progress')")


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("number", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
        sa.Column("metadata", sa.LargeBinary, nullable=False),
        sa.Column("options", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_conversations_owner_number", "conversations", ["owner", "number"])
    op.create_table(
        "items",
        sa.Column("conversation", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("covers", sa.LargeBinary, nullable=False),
        sa.Column("message", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation"], ["conversations.id"], name="fk_items_conversation", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_items_conversation_id", "items", ["conversation", "id"], unique=True)
    op.create_table(
        "responses",
        sa.Column("number", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("conversation", sa.Text),
        sa.Column("previous", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("completed", sa.BigInteger),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("background", sa.Boolean, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("visitor", sa.Text),
        sa.Column("usage_prompt", sa.Integer),
        sa.Column("usage_cached", sa.Integer),
        sa.Column("usage_completion", sa.Integer),
        sa.Column("error", sa.LargeBinary),
        sa.Column("context", sa.LargeBinary, nullable=False),
        sa.Column("parameters", sa.LargeBinary, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("input", sa.LargeBinary, nullable=False),
        sa.Column("output", sa.LargeBinary, nullable=False),
        sa.Column("prompt", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation"], ["conversations.id"], name="fk_responses_conversation", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_responses_conversation", "responses", ["conversation"])
    op.create_index(
        "ix_responses_unfinished", "responses", ["number"], sqlite_where=UNFINISHED, postgresql_where=UNFINISHED
    )
    op.create_table(
        "journal",
        sa.Column("response", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("tokens", sa.LargeBinary, nullable=False),
        sa.Column("finish", sa.Text, nullable=False),
        sa.Column("cached", sa.Integer, nullable=False),
        sa.Column("logprobs", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["response"], ["responses.id"], name="fk_journal_response", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger",
        sa.Column("reply", sa.Text, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("visitor", sa.Text),
        sa.Column("conversation", sa.Text),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("prompt", sa.BigInteger, nullable=False),
        sa.Column("cached", sa.BigInteger, nullable=False),
        sa.Column("completion", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
    )
    for column in ("key", "visitor", "conversation", "owner"):
        op.create_index(f"ix_ledger_{column}_at", "ledger", [column, "at"])
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("scopes", sa.LargeBinary, nullable=False),
        sa.Column("limits", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger),
        sa.Column("revoked", sa.BigInteger),
        sa.Column("last_used", sa.BigInteger),
    )
    op.create_table(
        "idempotency",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("response", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["response"], ["responses.id"], name="fk_idempotency_response", ondelete="CASCADE"),
    )
    op.create_index("ix_idempotency_expires", "idempotency", ["expires"])
    op.create_index("ix_idempotency_response", "idempotency", ["response"])
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
