"""Items are found by their id alone: a request may refer to one without naming its conversation."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index("ix_items_id", "items", ["id"])
