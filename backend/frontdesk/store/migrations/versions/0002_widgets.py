"""Widgets, each with the key that pays for it, and the requests of visitors to be answered by a person.

A widget's name, limits, age and revocation are its key's. What a visitor wrote for a person goes with the conversation.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "widgets",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("persona", sa.Text),
        sa.Column("identified_only", sa.Boolean, nullable=False),
        sa.Column("origins", sa.LargeBinary, nullable=False),
        sa.Column("visitor_limits", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["key"], ["keys.id"], name="fk_widgets_key", ondelete="CASCADE"),
    )
    op.create_table(
        "handoffs",
        sa.Column("number", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("conversation", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("said", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation"], ["conversations.id"], name="fk_handoffs_conversation", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_handoffs_conversation", "handoffs", ["conversation"])
    op.create_index("ix_handoffs_state_number", "handoffs", ["state", "number"])
