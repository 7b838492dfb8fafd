"""The WebSocket `/v1/responses` as a pure protocol: client text in, commands and frames out. The shell owns the socket.

Laws: one turn at a time, `MAX_QUEUED` more wait in order, whatever their `stream_id` (which is only echoed); a bad
message costs an error event, never the connection; finished turns are remembered for `previous_response_id`, bounded in
number and size. `response.cancel` is our extension. Knows no I/O, no clock, no engine.

    receive(text) ──► Start ──► the shell starts a reply ──► started(identity) ──► events(batch) … ──► next()
                  ├─► Cancel                            └──► refused(error) ─────────────────────────► next()
                  └─► Refuse(frames)
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from frontdesk.errors import FrontdeskError, InvalidRequest
from frontdesk.generation import Event, Failed, Finished
from frontdesk.messages import Message
from frontdesk.wire._errors import error_body
from frontdesk.wire._fields import Name, StrictModel
from frontdesk.wire._format import Call, Identity
from frontdesk.wire._frames import json_bytes
from frontdesk.wire._responses_body import (
    Input,
    ResponsesRequest,
    input_messages,
    responses_call,
    responses_request,
)
from frontdesk.wire._responses_events import ResponseEvents
from frontdesk.wire._validation import validated

MAX_QUEUED = 8
MAX_REMEMBERED = 64  # responses
MAX_REMEMBERED_CHARACTERS = 16_000_000


@dataclass(frozen=True, slots=True)
class Start:
    """Start this reply, then call `started` or `refused`. `lane` is the client's `stream_id`, for logs."""

    call: Call
    lane: str | None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the running reply; its events still go through `events`."""

    response_id: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Send these frames; nothing is started."""

    frames: list[str]


Command = Start | Cancel | Refuse


class CreateFields(StrictModel):
    """What the envelope of `response.create` adds to the body of `POST /v1/responses`."""

    stream_id: Annotated[str, Field(max_length=256)] | None = Field(None, description="Echoed on every event.")


class CancelEvent(StrictModel):
    """Client event `response.cancel`; without an id: the running response."""

    response_id: Name | None = Field(None, description="The response to stop.")


class SteerEvent(StrictModel):
    """Client event `response.steer`, which is answered but not supported."""

    type: Literal["response.steer"]
    previous_response_id: Name
    input: Input


@dataclass(slots=True)
class _Turn:
    request: ResponsesRequest
    lane: str | None
    context: tuple[Message, ...] = ()
    call: Call | None = None
    reply: ResponseEvents | None = None
    cancelled: bool = False  # before its id was known
    ended: bool = False  # but its last frames may still be on their way: `next` clears it away


@dataclass(slots=True)
class _Memory:
    """Conversations by the id of their last response, without instructions. The oldest are dropped first."""

    contexts: OrderedDict[str, tuple[Message, ...]] = field(default_factory=OrderedDict)
    _characters: int = 0

    def add(self, id: str, context: tuple[Message, ...]) -> None:
        self.contexts[id] = context
        self._characters += _size(context)
        while len(self.contexts) > 1 and self._is_full():
            _, dropped = self.contexts.popitem(last=False)
            self._characters -= _size(dropped)

    def _is_full(self) -> bool:
        return len(self.contexts) > MAX_REMEMBERED or self._characters > MAX_REMEMBERED_CHARACTERS


class ResponsesSocket:
    """One connection."""

    def __init__(self) -> None:
        self._running: _Turn | None = None
        self._queued: deque[_Turn] = deque()
        self._memory = _Memory()

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return self._running is None and not self._queued

    def receive(self, text: str | bytes) -> list[Command]:
        """One message of the client."""
        lane = None
        try:
            event = _decoded(text)
            lane = event["stream_id"] if isinstance(event.get("stream_id"), str) else None
            match event.get("type"):
                case "response.create":
                    return self._create(event)
                case "response.cancel":
                    return self._cancel(validated(CancelEvent, event).response_id)
                case "response.steer":
                    return [Refuse([_steer_failed(validated(SteerEvent, event), lane)])]
            raise InvalidRequest(
                "'type' should be 'response.create', 'response.cancel' or 'response.steer'", param="type"
            )
        except InvalidRequest as error:
            return [Refuse([error_frame(error, lane=lane)])]

    def started(self, identity: Identity) -> list[Command]:
        """The running turn's reply exists. A cancel that came before it did is passed on now."""
        turn = self._running
        assert turn is not None
        assert turn.call is not None
        turn.reply = ResponseEvents(turn.call, identity)
        return [Cancel(turn.reply.id)] if turn.cancelled else []

    def refused(self, error: FrontdeskError, status: int = 400) -> list[str]:
        """The running turn could not be started; `status` is what HTTP would have answered."""
        turn = self._running
        assert turn is not None
        turn.ended = True
        return [error_frame(error, status=status, lane=turn.lane)]

    def events(self, events: Sequence[Event]) -> list[str]:
        """Frames for the next events of the running turn. After those of its last event are sent: call `next`."""
        turn = self._running
        assert turn is not None
        assert turn.reply is not None
        frames: list[str] = []
        for event in events:
            frames += [_frame(_nested(data, event), turn.lane) for data in turn.reply.feed(event)]
            if isinstance(event, Finished | Failed):
                self._end(turn, turn.reply, event)
        return frames

    def next(self) -> list[Command]:
        """Begin the next waiting turn, unless one runs. A turn whose predecessor is unknown is refused on the way."""
        commands: list[Command] = []
        if self._running and self._running.ended:
            self._running = None
        while self._running is None and self._queued:
            turn = self._queued.popleft()
            try:
                commands.append(self._begin(turn))
            except InvalidRequest as error:
                commands.append(Refuse([error_frame(error, lane=turn.lane)]))
        return commands

    def _create(self, event: dict[str, Any]) -> list[Command]:
        lane = validated(CreateFields, event).stream_id
        request = responses_request(event)
        if len(self._queued) >= MAX_QUEUED:
            raise InvalidRequest(
                f"{MAX_QUEUED} responses are waiting on this connection already: let one finish first",
                code="too_many_queued",
            )
        # Contexts are looked up when the turn begins: a queued turn may follow the one that still runs.
        self._queued.append(_Turn(request, lane))
        # A turn that has ended still blocks the line until the shell has sent its last frames and says so.
        return [] if self._running else self.next()

    def _begin(self, turn: _Turn) -> Start:
        turn.context = self._context(turn.request.previous_response_id) + input_messages(turn.request)
        turn.call = responses_call(turn.request, turn.context)
        self._running = turn
        return Start(turn.call, turn.lane)

    def _context(self, previous: str | None) -> tuple[Message, ...]:
        if previous is None:
            return ()
        if (context := self._memory.contexts.get(previous)) is None:
            raise InvalidRequest(
                f"response '{previous}' is not known on this connection, which keeps its last {MAX_REMEMBERED}",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return context

    def _cancel(self, id: str | None) -> list[Command]:
        turn = self._running if self._running and not self._running.ended else None
        if turn and turn.reply and id in (None, turn.reply.id):
            return [Cancel(turn.reply.id)]
        if turn and id is None:
            turn.cancelled = True
            return []
        if id in self._memory.contexts:
            return []  # it ended while the cancel was on its way: the end wins, and has been sent
        raise InvalidRequest("there is no such running response", param="response_id", code="response_not_active")

    def _end(self, turn: _Turn, reply: ResponseEvents, event: Finished | Failed) -> None:
        turn.ended = True
        if isinstance(event, Finished):
            answer = (Message("assistant", reply.text),) if reply.text else ()
            self._memory.add(reply.id, turn.context + answer)


def error_frame(error: FrontdeskError, *, status: int | None = None, lane: str | None = None) -> str:
    """An error event in the WebSocket's nested shape; 429 for a full queue, else 400, unless told otherwise."""
    fallback = 429 if error.code == "too_many_queued" else 400
    return _frame({"type": "error", "status": status or fallback, **error_body(error)}, lane)


def _nested(data: dict[str, Any], event: Event) -> dict[str, Any]:
    """An error of the stream is flat over HTTP and nested here."""
    if isinstance(event, Failed) and data["type"] == "error":
        return {"type": "error", "sequence_number": data["sequence_number"], **error_body(event.error)}
    return data


def _frame(data: dict[str, Any], lane: str | None) -> str:
    if lane is not None:
        data = {**data, "stream_id": lane}
    return json_bytes(data).decode()


def _steer_failed(event: SteerEvent, lane: str | None) -> str:
    error = {
        "type": "invalid_request_error",
        "code": "steering_not_supported",
        "message": "steering is not supported: cancel the response and send a new one",
    }
    return _frame(
        {"type": "response.steer.failed", "sequence_number": 0, "error": error, "steer": _steer_echo(event)}, lane
    )


def _steer_echo(event: SteerEvent) -> dict[str, Any]:
    return event.model_dump(mode="json", exclude_unset=True, include={"previous_response_id", "input"})


def _decoded(text: str | bytes) -> dict[str, Any]:
    try:
        event = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidRequest(f"the message is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(event, dict):
        raise InvalidRequest("the message must be a JSON object", code="invalid_type")
    return event


def _size(context: tuple[Message, ...]) -> int:
    return sum(len(message.content) for message in context)
