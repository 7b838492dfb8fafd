"""Which conversation and which item a path names, and who asks for it.

What cannot be an id is answered like what does not exist, and so is every conversation but the one that a token is good
for. Whether there is such a one, and of this owner, is for the store to say.
"""

from __future__ import annotations

from starlette.requests import Request

from frontdesk.errors import NotFound
from frontdesk.principal import Principal
from frontdesk.server.generate import principal_of
from frontdesk.wire._ids import is_conversation_id, is_item_id


def conversation_named(request: Request) -> tuple[Principal, str]:
    """Who asks, and for which conversation. Raises `NotFound` for an id that none can have, or that is not for them."""
    principal = principal_of(request)
    id: str = request.path_params["id"]
    if not is_conversation_id(id) or principal.conversation not in (None, id):
        raise no_conversation(id)
    return principal, id


def item_named(request: Request) -> str:
    """Raises `NotFound` for an id that no item can have."""
    if not is_item_id(id := request.path_params["item"]):
        raise no_item(id)
    return id


def no_conversation(id: str) -> NotFound:
    return NotFound(f"conversation '{id[:64]}' was not found", param="conversation_id")


def no_item(id: str) -> NotFound:
    return NotFound(f"item '{id[:64]}' was not found in this conversation", param="item_id")
