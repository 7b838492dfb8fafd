"""The routes of kept responses: read again, watch from any event on, stop, delete, count, compact.

`POST /v1/responses` itself is `server/generate`'s. A resumed stream is the same encoder fed with the same events, which
sends only what comes behind the number that the reader has. `…/events` is for browsers' `EventSource`, which sends that
number by itself. Every route answers 404 for what belongs to somebody else.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.chat.reply import Reply
from frontdesk.chat.service import ChatService
from frontdesk.errors import InvalidRequest, NotFound
from frontdesk.server.body import ClientGone, read_json
from frontdesk.server.generate import (
    RequestLimits,
    before_client_leaves,
    event_stream,
    json_response,
    principal_of,
)
from frontdesk.server.naming import conversation_named
from frontdesk.server.query import page_query
from frontdesk.wire._context import context_json
from frontdesk.wire._ids import is_item_id, response_id
from frontdesk.wire._items import item_list
from frontdesk.wire.openai_responses import OpenAIResponses, compaction_object, last_number, response_object_of

FORMAT = OpenAIResponses()


class Responses:
    def __init__(self, service: ChatService, limits: RequestLimits) -> None:
        self._service = service
        self._limits = limits

    @property
    def routes(self) -> list[Route]:
        one = "/v1/responses/{id}"
        return [
            Route("/v1/responses/input_tokens", self.count, methods=["POST"], name="count_input_tokens"),
            Route("/v1/responses/compact", self.compact, methods=["POST"], name="compact_response"),
            Route(one, self.retrieve, methods=["GET"], name="retrieve_response"),
            Route(one, self.delete, methods=["DELETE"], name="delete_response"),
            Route(f"{one}/cancel", self.cancel, methods=["POST"], name="cancel_response"),
            Route(f"{one}/input_items", self.input_items, methods=["GET"], name="response_input_items"),
            Route(f"{one}/events", self.events, methods=["GET"], name="response_events"),
            Route("/v1/conversations/{id}/context", self.preview, methods=["GET"], name="preview_context"),
        ]

    async def retrieve(self, request: Request) -> Response:
        after = _number(request, "starting_after")
        stream = _flag(request, "stream")
        if after is not None and not stream:
            raise InvalidRequest("'starting_after' needs 'stream=true'", param="starting_after")
        reply = await self._service.open(principal_of(request), _id(request), anew=after is None)
        if not stream:
            return json_response(_object(reply))
        encoder = FORMAT.encoder(reply.call, reply.identity, -1 if after is None else after)
        return event_stream([reply], encoder, self._limits)

    async def events(self, request: Request) -> Response:
        """204 tells `EventSource` that there is nothing left, so that it stops connecting again."""
        after = _last_event_id(request)
        reply = await self._service.open(principal_of(request), _id(request), anew=after < 0)
        if reply.log.ended and after >= last_number(reply.call, reply.identity, reply.log.events):
            return Response(status_code=204)
        return event_stream([reply], FORMAT.events_encoder(reply.call, reply.identity, after), self._limits)

    async def cancel(self, request: Request) -> Response:
        return json_response(_object(await self._service.cancel(principal_of(request), _id(request))))

    async def delete(self, request: Request) -> Response:
        id = _id(request)
        await self._service.delete(principal_of(request), id)
        return json_response({"id": f"resp_{id}", "object": "response", "deleted": True})

    async def input_items(self, request: Request) -> Response:
        query = page_query(request, is_item_id)
        items = list(await self._service.input_of(principal_of(request), _id(request)))
        if query.descending:
            items.reverse()
        if query.after is not None:
            ids = [item.id for item in items]
            if query.after not in ids:
                raise NotFound(f"there is no {query.after!r} to list from", param="after")
            items = items[ids.index(query.after) + 1 :]
        return json_response(item_list(items[: query.limit], has_more=len(items) > query.limit))

    async def count(self, request: Request) -> Response:
        body = await read_json(request.scope, request.receive, self._limits.body_bytes)
        report = await self._service.count(FORMAT.parse(body), principal_of(request))
        return json_response({"object": "response.input_tokens", "input_tokens": report.prompt_tokens})

    async def compact(self, request: Request) -> Response:
        body = await read_json(request.scope, request.receive, self._limits.body_bytes)
        compacting = self._service.compact(FORMAT.parse(body), principal_of(request))
        if (compaction := await before_client_leaves(request.receive, compacting)) is None:
            raise ClientGone
        return json_response(compaction_object(compaction.id, compaction.created, compaction.items, compaction.usage))

    async def preview(self, request: Request) -> Response:
        report, headers = await self._service.preview(*conversation_named(request))
        return json_response({"object": "conversation.context", **context_json(report)}, headers)


def _object(reply: Reply) -> dict[str, object]:
    return response_object_of(reply.call, reply.identity, reply.log.events)


def _id(request: Request) -> str:
    """The 32 hex digits of the path. Raises `NotFound` for what cannot be a response's id."""
    given = request.path_params["id"]
    if (id := response_id(given)) is None:
        raise NotFound(f"response {given[:100]!r} was not found", param="response_id")
    return id


def _last_event_id(request: Request) -> int:
    """The header that `EventSource` sends when it connects again, or the query's `last_event_id`; -1 for neither."""
    given = request.headers.get("last-event-id") or request.query_params.get("last_event_id") or "-1"
    try:
        number = int(given)
    except ValueError:
        number = -2
    if not -1 <= number < 2**53:
        raise InvalidRequest("'Last-Event-ID' should be a sequence_number of this response", param="Last-Event-ID")
    return number


def _number(request: Request, name: str) -> int | None:
    if (given := request.query_params.get(name)) is None:
        return None
    if not given.isascii() or not given.isdecimal() or len(given) > 15:
        raise InvalidRequest(f"'{name}' should be a whole number from 0", param=name)
    return int(given)


def _flag(request: Request, name: str) -> bool:
    given = request.query_params.get(name, "false").lower()
    if given not in ("true", "false"):
        raise InvalidRequest(f"'{name}' should be true or false", param=name)
    return given == "true"
