"""OpenAI Responses over HTTP, `POST /v1/responses`: typed events with sequence numbers, or one Response object.

Stateless for now: nothing is stored, so `store` is answered with false and everything that refers to a kept response is
refused. Ignored without a word: `reasoning`, `stream_options`, `service_tier`, `text.verbosity` and unknown fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from frontdesk.generation import Event
from frontdesk.wire._format import Call, Identity
from frontdesk.wire._frames import DONE, sse_named
from frontdesk.wire._responses_body import (
    ResponsesRequest,
    input_messages,
    refuse_previous,
    responses_call,
    responses_request,
)
from frontdesk.wire._responses_events import ResponseEvents
from frontdesk.wire._values import finished


class OpenAIResponses:
    """The format. Holds no state."""

    name = "openai_responses"
    path = "/v1/responses"
    request: type[BaseModel] = ResponsesRequest

    def parse(self, body: object) -> Call:
        request = responses_request(body)
        refuse_previous(request)
        return responses_call(request, input_messages(request))

    def encoder(self, call: Call, identity: Identity) -> ResponsesEncoder:
        return ResponsesEncoder(call, identity)

    def collect(self, call: Call, identity: Identity, replies: Sequence[Sequence[Event]]) -> dict[str, Any]:
        (reply,) = replies
        finished(reply)
        events = ResponseEvents(call, identity)
        for event in reply:
            events.feed(event)
        return events.response


class ResponsesEncoder:
    """SSE frames of one reply. `n` is always 1 here."""

    def __init__(self, call: Call, identity: Identity) -> None:
        self._events = ResponseEvents(call, identity)

    def start(self) -> bytes:
        return b""

    def encode(self, choice: int, events: Sequence[Event]) -> bytes:
        frames = [sse_named(data["type"], data) for event in events for data in self._events.feed(event)]
        return b"".join(frames)

    def end(self) -> bytes:
        return b"" if self._events.failed else DONE
