"""What a key has used is summed up from an index alone: its total and the list of keys read every row of the ledger."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_index("ix_ledger_key_at_prompt_completion", "ledger", ["key", "at", "prompt", "completion"])
    op.drop_index("ix_ledger_key_at", "ledger")
