"""What people said of single answers. It goes with the answer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "feedback",
        sa.Column("number", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("conversation", sa.Text, nullable=False),
        sa.Column("item", sa.Text, nullable=False),
        sa.Column("rating", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("comment", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation", "item"],
            ["items.conversation", "items.id"],
            name="fk_feedback_conversation",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_feedback_conversation_item", "feedback", ["conversation", "item"], unique=True)
    op.create_index("ix_feedback_rating_number", "feedback", ["rating", "number"])
