"""Hand-offs: a visitor asks for a person, and the operator, whose key has the scope `admin`, answers them elsewhere.

Nothing is generated and nobody is called: the wish waits in a list that the operator reads. A conversation has at most
one that is open; only the operator closes it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.errors import NotFound
from frontdesk.server.body import ClientGone, read_json
from frontdesk.server.generate import CLIENT_CLOSED_REQUEST, json_response, principal_of
from frontdesk.server.pacing import Writes
from frontdesk.store.handoffs import Handoffs as Kept
from frontdesk.store.records import HandoffRecord
from frontdesk.wire._ids import is_conversation_id
from frontdesk.wire._lists import list_json
from frontdesk.wire._validation import validated
from frontdesk.wire.handoffs import (
    HandoffChange,
    HandoffRequest,
    handoff_json,
    is_handoff_id,
    parse_query,
)


class Handoffs:
    """`body_bytes` is the limit of a body."""

    def __init__(self, kept: Kept, body_bytes: int, writes: Writes) -> None:
        self._kept = kept
        self._body_bytes = body_bytes
        self._writes = writes

    @property
    def routes(self) -> Sequence[Route]:
        own, all = "/v1/conversations/{id}/handoff", "/v1/handoffs"
        return [
            Route(own, self.ask, methods=["POST"], name="ask_handoff"),
            Route(own, self.retrieve, methods=["GET"], name="retrieve_handoff"),
            Route(all, self.list, methods=["GET"], name="list_handoffs"),
            Route(all + "/{id}", self.settle, methods=["POST"], name="settle_handoff"),
        ]

    async def ask(self, request: Request) -> Response:
        owner, conversation = _conversation_named(request)
        self._writes.admit(principal_of(request))
        try:
            body = await read_json(request.scope, request.receive, self._body_bytes)
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        wanted = validated(HandoffRequest, body)
        id, now = f"hnd_{secrets.token_hex(16)}", int(time.time())
        record = HandoffRecord(id, conversation, "open", now, wanted.contact, wanted.message)
        return json_response(_shown(await self._kept.ask(owner, record)))

    async def retrieve(self, request: Request) -> Response:
        if (record := await self._kept.of_conversation(*_conversation_named(request))) is None:
            raise NotFound("nobody asked for a person in this conversation", param="conversation_id")
        return json_response(_shown(record))

    async def list(self, request: Request) -> Response:
        query = parse_query(request.query_params)
        page = await self._kept.newest(query.state, limit=query.limit, after=query.after)
        return json_response(list_json([_shown(record) for record in page.items], has_more=page.has_more))

    async def settle(self, request: Request) -> Response:
        try:
            body = await read_json(request.scope, request.receive, self._body_bytes)
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        state = validated(HandoffChange, body).state
        id = request.path_params["id"]
        record = await self._kept.settle(id, state) if is_handoff_id(id) else None
        if record is None:
            raise NotFound(f"hand-off '{id[:64]}' was not found", param="handoff_id")
        return json_response(_shown(record))


def _conversation_named(request: Request) -> tuple[str, str]:
    """Who asks, and about which conversation. Raises `NotFound` for one that is not theirs to see."""
    principal = principal_of(request)
    id: str = request.path_params["id"]
    if not is_conversation_id(id) or principal.conversation not in (None, id):
        raise NotFound(f"conversation '{id[:64]}' was not found", param="conversation_id")
    return principal.owner, id


def _shown(record: HandoffRecord) -> dict[str, Any]:
    return handoff_json(
        record.id,
        conversation=record.conversation,
        state=record.state,
        created=record.created,
        contact=record.contact,
        message=record.message,
    )
