"""Hand-offs to a person: bodies and queries to values, records to JSON. Knows no HTTP and no store.

All of it is our own: OpenAI has nothing like it. So unknown fields are refused: a misspelt one must not pass unseen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field

from frontdesk.errors import InvalidRequest
from frontdesk.wire._fields import StrictModel

State = Literal["open", "done"]

MAX_PAGE = 100
DEFAULT_PAGE = 20
PARAMETERS = ("state", "limit", "after")
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


@dataclass(frozen=True, slots=True)
class HandoffQuery:
    """Which stretch of the list. `after` is an id."""

    limit: int
    after: str | None
    state: State | None


def parse_query(query: Mapping[str, str]) -> HandoffQuery:
    """Raises `InvalidRequest`."""
    for name in query:
        if name not in PARAMETERS:
            raise InvalidRequest(f"'{name[:40]}' is unknown here; there are {', '.join(PARAMETERS)}", param=name[:40])
    limit = query.get("limit", str(DEFAULT_PAGE))
    if not re.fullmatch(r"[0-9]{1,3}", limit) or not 1 <= int(limit) <= MAX_PAGE:
        raise InvalidRequest(f"'limit' should be a number from 1 to {MAX_PAGE}", param="limit")
    after = query.get("after")
    if after is not None and not is_handoff_id(after):
        raise InvalidRequest("'after' should be the id of a hand-off, 'hnd_' and 32 hex digits", param="after")
    wanted = query.get("state")
    state: State | None = next((known for known in get_args(State) if known == wanted), None)
    if wanted is not None and state is None:
        raise InvalidRequest("'state' should be 'open' or 'done'", param="state")
    return HandoffQuery(int(limit), after, state)


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
