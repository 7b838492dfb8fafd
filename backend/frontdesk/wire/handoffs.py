"""Hand-offs to a person: bodies to values, records to JSON. Knows no HTTP and no store.

All of it is our own: OpenAI has nothing like it. So unknown fields are refused: a misspelt one must not pass unseen.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from frontdesk.wire._fields import StrictModel

State = Literal["open", "done"]

HANDOFF_ID = re.compile(r"hnd_[0-9a-f]{32}")


class HandoffRequest(StrictModel):
    """Body of `POST /v1/conversations/{id}/handoff`; all of it may be left out."""

    model_config = ConfigDict(extra="forbid")

    contact: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="How to reach the visitor, such as an e-mail address. Absent: as before."
    )
    message: Annotated[str, Field(min_length=1, max_length=2000)] | None = Field(
        None, description="What the visitor wants to say to a person. Absent: as before."
    )


class HandoffChange(StrictModel):
    """Body of `POST /v1/handoffs/{id}`."""

    model_config = ConfigDict(extra="forbid")

    state: State = Field(description="`done` closes it, `open` opens it again.")


def is_handoff_id(text: str) -> bool:
    return HANDOFF_ID.fullmatch(text) is not None


def handoff_json(
    id: str, *, conversation: str, state: str, created: int, contact: str | None, message: str | None
) -> dict[str, Any]:
    """A hand-off. `contact` and `message` are null where nothing was said."""
    return {
        "object": "handoff",
        "id": id,
        "conversation": conversation,
        "state": state,
        "created_at": created,
        "contact": contact,
        "message": message,
    }
