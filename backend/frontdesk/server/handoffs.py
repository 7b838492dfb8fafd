"""Hand-offs: a visitor asks for a person, and the operator, whose key has the scope `admin`, answers them elsewhere.

Nothing is generated and nobody is called: the wish waits in a list that the operator reads. A conversation has at most
one that is open; only the operator closes it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.errors import NotFound
from frontdesk.server.body import read_json
from frontdesk.server.generate import json_response
from frontdesk.server.naming import conversation_named
from frontdesk.server.pacing import Writes
from frontdesk.server.query import check_names, choice, page_query
from frontdesk.store.handoffs import Handoffs as Kept
from frontdesk.store.records import HandoffRecord, HandoffState
from frontdesk.wire._lists import list_json
from frontdesk.wire._validation import validated
from frontdesk.wire.handoffs import HandoffChange, HandoffRequest, handoff_json, is_handoff_id


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
        principal, conversation = conversation_named(request)
        self._writes.admit(principal)
        wanted = validated(HandoffRequest, await read_json(request.scope, request.receive, self._body_bytes))
        id, now = f"hnd_{secrets.token_hex(16)}", int(time.time())
        record = HandoffRecord(id, conversation, "open", now, wanted.contact, wanted.message)
        return json_response(_shown(await self._kept.ask(principal.owner, record)))

    async def retrieve(self, request: Request) -> Response:
        principal, conversation = conversation_named(request)
        if (record := await self._kept.of_conversation(principal.owner, conversation)) is None:
            raise NotFound("nobody asked for a person in this conversation", param="conversation_id")
        return json_response(_shown(record))

    async def list(self, request: Request) -> Response:
        check_names(request, "state", "limit", "after")
        state = cast("HandoffState | None", choice(request, "state", "open", "done"))
        query = page_query(request, is_handoff_id)
        page = await self._kept.newest(state, limit=query.limit, after=query.after)
        return json_response(list_json([_shown(record) for record in page.items], has_more=page.has_more))

    async def settle(self, request: Request) -> Response:
        state = validated(HandoffChange, await read_json(request.scope, request.receive, self._body_bytes)).state
        id = request.path_params["id"]
        record = await self._kept.settle(id, state) if is_handoff_id(id) else None
        if record is None:
            raise NotFound(f"hand-off '{id[:64]}' was not found", param="handoff_id")
        return json_response(_shown(record))


def _shown(record: HandoffRecord) -> dict[str, Any]:
    return handoff_json(
        record.id,
        conversation=record.conversation,
        state=record.state,
        created=record.created,
        contact=record.contact,
        message=record.message,
    )
