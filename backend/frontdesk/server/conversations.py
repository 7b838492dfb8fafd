"""The Conversations routes: what is kept of a conversation, read and changed by its owner.

Nothing is generated here. What belongs to somebody else is answered like what does not exist; a visitor whose token is
good for one conversation sees that one only, and no visitor sets budgets. What a widget's visitor says is said by
asking alone: that is paid from budgets, and items would not be. Deleting stops what is being said first.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.chat.asking import check_change, check_roles
from frontdesk.errors import Forbidden, InvalidRequest
from frontdesk.principal import Principal
from frontdesk.server.body import read_json
from frontdesk.server.generate import json_response, principal_of
from frontdesk.server.naming import conversation_named, item_named, no_conversation, no_item
from frontdesk.server.pacing import Writes
from frontdesk.server.query import choice, page_query
from frontdesk.store.records import ConversationRecord
from frontdesk.store.store import Store
from frontdesk.wire._frames import json_bytes
from frontdesk.wire._ids import is_conversation_id, is_item_id
from frontdesk.wire._items import item_json, item_list
from frontdesk.wire._lists import list_json
from frontdesk.wire.conversations import (
    Change,
    conversation_json,
    deleted_json,
    parse_create,
    parse_new_items,
    parse_update,
)
from frontdesk.wire.export import export_json, export_markdown

PATH = "/v1/conversations"
StopReplies = Callable[[Principal, str], Awaitable[None]]
Endpoint = Callable[[Request], Awaitable[Response]]
Posted = Callable[[Request, object], Awaitable[Response]]


class Conversations:
    """`stop_replies` stops what is being said in a conversation, and waits for its end; `body_bytes` is the limit."""

    def __init__(self, store: Store, stop_replies: StopReplies, body_bytes: int, writes: Writes) -> None:
        self._kept = store.conversations
        self._stop_replies = stop_replies
        self._body_bytes = body_bytes
        self._writes = writes

    @property
    def routes(self) -> Sequence[Route]:
        return [
            Route(PATH, self._posted(self.create), methods=["POST"], name="create_conversation"),
            Route(PATH, self.list, methods=["GET"], name="list_conversations"),
            Route(PATH + "/{id}", self.retrieve, methods=["GET"], name="retrieve_conversation"),
            Route(PATH + "/{id}", self._posted(self.update), methods=["POST"], name="update_conversation"),
            Route(PATH + "/{id}", self.delete, methods=["DELETE"], name="delete_conversation"),
            Route(PATH + "/{id}/export", self.export, methods=["GET"], name="export_conversation"),
            Route(PATH + "/{id}/items", self._posted(self.create_items), methods=["POST"], name="create_items"),
            Route(PATH + "/{id}/items", self.list_items, methods=["GET"], name="list_items"),
            Route(PATH + "/{id}/items/{item}", self.retrieve_item, methods=["GET"], name="retrieve_item"),
            Route(PATH + "/{id}/items/{item}", self.delete_item, methods=["DELETE"], name="delete_item"),
        ]

    async def create(self, request: Request, body: object) -> Response:
        principal = _unbound(request)
        self._writes.admit(principal)
        now = int(time.time())
        change, items = parse_create(body, created=now)
        check_change(change.fields, principal)
        check_roles((item.message.role for item in items), principal, "items")
        if change.pinned:  # its items get ids of their own only now
            raise _not_to_pin(change.pinned[0])
        record = ConversationRecord(
            id=f"conv_{secrets.token_hex(16)}",
            owner=principal.owner,
            created=now,
            updated=now,
            metadata=change.metadata or {},
            options=change.applied_to({}),
        )
        await self._kept.create(record, items)
        return json_response(_shown(record))

    async def list(self, request: Request) -> Response:
        principal = _unbound(request)
        query = page_query(request, is_conversation_id)
        page = await self._kept.list(principal.owner, limit=query.limit, after=query.after, descending=query.descending)
        return json_response(list_json([_shown(record) for record in page.items], has_more=page.has_more))

    async def retrieve(self, request: Request) -> Response:
        return json_response(_shown(await self._record(request)))

    async def update(self, request: Request, body: object) -> Response:
        principal, id = conversation_named(request)
        self._writes.admit(principal)
        change = parse_update(body)
        check_change(change.fields, principal)
        await self._check_pins(await self._record(request), change)
        options = change.applied_to if change.options else None
        record = await self._kept.update(principal.owner, id, metadata=change.metadata, options=options)
        return json_response(_shown(_found(record, id)))

    async def delete(self, request: Request) -> Response:
        principal, id = conversation_named(request)
        self._writes.admit(principal)
        await self._record(request)
        await self._stop_replies(principal, id)
        if not await self._kept.delete(principal.owner, id):
            raise no_conversation(id)
        return json_response(deleted_json(id))

    async def export(self, request: Request) -> Response:
        format = choice(request, "format", "json", "markdown") or "json"
        record = await self._record(request)
        items = await self._kept.all_items(record.owner, record.id)
        if format == "markdown":
            text = await asyncio.to_thread(export_markdown, _shown(record), items)
            return _file(text.encode(), f"{record.id}.md", "text/markdown")
        data = await asyncio.to_thread(export_json, _shown(record), items)
        return _file(json_bytes(data), f"{record.id}.json", "application/json")

    async def create_items(self, request: Request, body: object) -> Response:
        principal, id = conversation_named(request)
        if principal.persona is not None:
            message = "a widget's visitor adds to a conversation by asking: POST /v1/responses with 'conversation'"
            raise Forbidden(message, param="items", code="not_for_visitors")
        self._writes.admit(principal)
        items = parse_new_items(body, created=int(time.time()))
        check_roles((item.message.role for item in items), principal, "items")
        await self._kept.add_items(principal.owner, id, items)
        return json_response(item_list(items))

    async def list_items(self, request: Request) -> Response:
        principal, id = conversation_named(request)
        query = page_query(request, is_item_id)
        page = await self._kept.items(
            principal.owner, id, limit=query.limit, after=query.after, descending=query.descending
        )
        return json_response(item_list(page.items, has_more=page.has_more))

    async def retrieve_item(self, request: Request) -> Response:
        principal, id = conversation_named(request)
        item_id = item_named(request)
        item = await self._kept.item(principal.owner, id, item_id)
        if item is None:
            raise no_item(item_id)
        return json_response(item_json(item))

    async def delete_item(self, request: Request) -> Response:
        principal, id = conversation_named(request)
        self._writes.admit(principal)
        item_id = item_named(request)
        if not await self._kept.delete_item(principal.owner, id, item_id):
            raise no_item(item_id)
        return await self.retrieve(request)

    async def _check_pins(self, record: ConversationRecord, change: Change) -> None:
        """Raises `InvalidRequest` for what is not there. What is pinned already may have been deleted since."""
        before = Change(None, dict(record.options)).pinned
        for id in change.pinned:
            if id not in before and await self._kept.item(record.owner, record.id, id) is None:
                raise _not_to_pin(id)

    async def _record(self, request: Request) -> ConversationRecord:
        principal, id = conversation_named(request)
        return _found(await self._kept.get(principal.owner, id), id)

    def _posted(self, handler: Posted) -> Endpoint:
        """An endpoint that reads the body first. A request without one says nothing, as `{}` does."""

        async def endpoint(request: Request) -> Response:
            body = await read_json(request.scope, request.receive, self._body_bytes) if _has_body(request) else {}
            return await handler(request, body)

        return endpoint


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _unbound(request: Request) -> Principal:
    principal = principal_of(request)
    if principal.conversation is not None:
        raise Forbidden(f"this token is good for conversation '{principal.conversation}' only")
    return principal


def _found(record: ConversationRecord | None, id: str) -> ConversationRecord:
    if record is None:
        raise no_conversation(id)
    return record


def _not_to_pin(item: str) -> InvalidRequest:
    return InvalidRequest(f"there is no item '{item}' in this conversation to be pinned", param="context.pinned")


def _shown(record: ConversationRecord) -> dict[str, Any]:
    return conversation_json(
        record.id,
        created=record.created,
        updated=record.updated,
        metadata=record.metadata,
        options=record.options,
    )


def _file(body: bytes, name: str, kind: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(body, media_type=kind, headers=headers)
