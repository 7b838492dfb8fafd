"""OpenAI Responses over HTTP: typed events with sequence numbers, or one Response object.

`POST /v1/responses` and the routes that read a kept response speak through here. Any reader may begin behind event
number `after`: its bytes are the rest of what the first reader got. Ignored without a word: `reasoning`,
`stream_options`, `service_tier`, `text.verbosity` and unknown fields. Knows no store and no socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from pydantic import BaseModel

from frontdesk.generation import Event, Usage
from frontdesk.messages import Item
from frontdesk.wire._format import Call, Identity
from frontdesk.wire._frames import DONE, sse_named, sse_numbered
from frontdesk.wire._items import item_json
from frontdesk.wire._responses_body import ResponsesRequest, responses_call
from frontdesk.wire._responses_events import ResponseEvents, response_usage


class OpenAIResponses:
    """The format. Holds no state."""

    name = "openai_responses"
    path = "/v1/responses"
    request: type[BaseModel] = ResponsesRequest
    has_turns = True

    def parse(self, body: object) -> Call:
        return responses_call(body)

    def request_json(self, call: Call) -> bytes:
        return request_json(call)

    def encoder(self, call: Call, identity: Identity, after: int = -1) -> ResponsesEncoder:
        """Sends only events with a `sequence_number` over `after`; it must be fed all of them."""
        return ResponsesEncoder(call, identity, after)

    def events_encoder(self, call: Call, identity: Identity, after: int = -1) -> EventSourceEncoder:
        """The same for `GET /v1/responses/{id}/events`."""
        return EventSourceEncoder(call, identity, after)

    def collect(self, call: Call, identity: Identity, replies: Sequence[Sequence[Event]]) -> dict[str, Any]:
        (reply,) = replies
        return response_object_of(call, identity, reply)


class ResponsesEncoder:
    """SSE frames of one reply. `n` is always 1 here."""

    def __init__(self, call: Call, identity: Identity, after: int = -1) -> None:
        self._events = ResponseEvents(call, identity)
        self._after = after

    def start(self) -> bytes:
        return b""

    def encode(self, choice: int, events: Sequence[Event]) -> bytes:
        return b"".join(
            [
                self._frame(data)
                for event in events
                for data in self._events.feed(event)
                if data["sequence_number"] > self._after
            ]
        )

    def end(self) -> bytes:
        return b"" if self._events.failed else DONE

    def _frame(self, data: dict[str, Any]) -> bytes:
        return sse_named(data["type"], data)


class EventSourceEncoder(ResponsesEncoder):
    """Frames for a browser's `EventSource`: each has its `sequence_number` as `id:`, which the browser sends back as
    `Last-Event-ID` when it reconnects. Without `[DONE]`, which it would hand to the page as an event."""

    def end(self) -> bytes:
        return b""

    def _frame(self, data: dict[str, Any]) -> bytes:
        return sse_numbered(data["sequence_number"], data["type"], data)


def response_object_of(call: Call, identity: Identity, events: Iterable[Event]) -> dict[str, Any]:
    """The Response object as of the last of `events`, which begin with the reply's first; there may be none yet."""
    reply = ResponseEvents(call, identity)
    for event in events:
        reply.feed(event)
    return reply.current()


def last_number(call: Call, identity: Identity, events: Iterable[Event]) -> int:
    """`sequence_number` of the last frame that `events` give; -1 for none. A reader that has it has everything."""
    reply = ResponseEvents(call, identity)
    for event in events:
        reply.feed(event)
    return reply.last_number


def request_json(call: Call) -> bytes:
    """The request as JSON, which `parse` makes the same call of again, but for the ids of the turn's items."""
    assert isinstance(call.body, ResponsesRequest)
    # Neither tools nor how to choose one has an effect yet, and both may hold anything.
    kept = call.body.model_dump(mode="json", exclude_unset=True, exclude={"tools"})
    if not isinstance(kept.get("tool_choice"), str):
        kept.pop("tool_choice", None)
    return msgspec.json.encode(kept)


def compaction_object(id: str, created: int, items: Sequence[Item], usage: Usage) -> dict[str, Any]:
    """The answer of `POST /v1/responses/compact`: its `output` is the input of a request that goes on from there."""
    return {
        "id": f"resp_{id}",
        "object": "response.compaction",
        "created_at": created,
        "output": [item_json(item) for item in items],
        "usage": response_usage(usage),
    }
