"""The messages of the WebSocket `/v1/responses`: what clients may send, and how frames look. Knows no lanes.

`response.create`, `response.steer` and `stream_id` are OpenAI's; `response.cancel`, `response.resume` and
`response.place` are ours. The last is answered by an event that OpenAI's packages do not know: only who asks
gets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from frontdesk.errors import FrontdeskError, InvalidRequest
from frontdesk.generation import Event, Failed
from frontdesk.wire._errors import error_body
from frontdesk.wire._fields import Name, StrictModel
from frontdesk.wire._frames import json_bytes
from frontdesk.wire._ids import response_id
from frontdesk.wire._items import Input
from frontdesk.wire._validation import too_deep

JSON = dict[str, Any]
TYPES = ("response.create", "response.cancel", "response.resume", "response.place", "response.steer")
# What they are over HTTP; a refusal that depends on the connection's state is told apart from a wrong message.
_TOO_MANY = ("too_many_queued", "websocket_stream_limit_reached")


class LaneField(StrictModel):
    """What every client event may carry."""

    stream_id: Annotated[str, Field(max_length=256)] | None = Field(
        None, description="The lane of this event; echoed on every frame of it."
    )


class CancelEvent(LaneField):
    """Client event `response.cancel`; without an id: the running response of the lane."""

    response_id: Name | None = Field(None, description="The response to stop.")


class ResumeEvent(LaneField):
    """Client event `response.resume`: the rest of a kept response, running or over."""

    response_id: Name = Field(description="The response to read.")
    starting_after: Annotated[int, Field(ge=-1, le=2**53)] | None = Field(
        None, description="`sequence_number` of the last event that is there already; absent: from the beginning."
    )

    def id(self) -> str:
        """The id without its prefix. Raises `InvalidRequest`."""
        if (id := response_id(self.response_id)) is None:
            raise InvalidRequest(
                "'response_id' should be the id of a response, 'resp_' and 32 hex digits", param="response_id"
            )
        return id


class PlaceEvent(LaneField):
    """Client event `response.place`: where a running response stands in the waiting line."""

    response_id: Name = Field(description="The response that is asked about.")


class SteerEvent(LaneField):
    """Client event `response.steer`, which is answered but not supported."""

    type: Literal["response.steer"]
    previous_response_id: Name
    input: Input


def decoded(text: str | bytes) -> JSON:
    """A client's message as an object. Raises `InvalidRequest`."""
    try:
        event = msgspec.json.decode(text)
    except RecursionError:
        raise too_deep() from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidRequest(f"the message is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(event, dict):
        raise InvalidRequest("the message must be a JSON object", code="invalid_type")
    return event


def frame(data: JSON, lane: str | None) -> str:
    if lane is not None:
        data = {**data, "stream_id": lane}
    return json_bytes(data).decode()


def event_frame(data: JSON, event: Event, lane: str | None) -> str:
    """A frame of a reply. An error is flat over HTTP and nested here."""
    if isinstance(event, Failed) and data["type"] == "error":
        data = {"type": "error", "sequence_number": data["sequence_number"], **error_body(event.error)}
    return frame(data, lane)


def error_frame(
    error: FrontdeskError,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    lane: str | None = None,
) -> str:
    """An error event in the WebSocket's nested shape; 429 for too many of anything, else 400, unless told otherwise.
    `headers` are those that HTTP would have sent, such as when to come back."""
    fallback = 429 if error.code in _TOO_MANY else 400
    body = error_body(error)
    if headers:
        body["error"]["headers"] = dict(headers)
    return frame({"type": "error", "status": status or fallback, **body}, lane)


def place_frame(response: str, place: int, lane: str | None) -> str:
    """The answer to `response.place`. `place`: 1 is next, 0 is being worked on. It is no event of the reply and has no
    number."""
    return frame({"type": "response.place", "response_id": response, "place": place}, lane)


def steer_failed(event: SteerEvent) -> str:
    """The answer to a client that wants to steer; it gets back what it wanted to say."""
    error = {
        "type": "invalid_request_error",
        "code": "steering_not_supported",
        "message": "steering is not supported: cancel the response and send a new one",
    }
    steer = event.model_dump(mode="json", exclude_unset=True, include={"previous_response_id", "input"})
    return frame(
        {"type": "response.steer.failed", "sequence_number": 0, "error": error, "steer": steer}, event.stream_id
    )
