"""How ids look on the wire. What cannot be an id is refused here and never reaches the database. Knows no object."""

from __future__ import annotations

import re

from frontdesk.messages import ITEM_PREFIXES

ITEM_ID = rf"(?:{'|'.join(ITEM_PREFIXES.values())})_[0-9a-f]{{32}}"

_ITEM_ID = re.compile(ITEM_ID)
_CONVERSATION_ID = re.compile(r"conv_[0-9a-f]{32}")
_RESPONSE_ID = re.compile(r"(?:resp_)?([0-9a-f]{32})")


def response_id(text: str) -> str | None:
    """The 32 hex digits of a response's id, or None when it cannot be one. The prefix may be left out."""
    match = _RESPONSE_ID.fullmatch(text)
    return match[1] if match else None


def is_conversation_id(text: str) -> bool:
    return _CONVERSATION_ID.fullmatch(text) is not None


def is_item_id(text: str) -> bool:
    return _ITEM_ID.fullmatch(text) is not None
