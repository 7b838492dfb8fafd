"""The WebSocket `/v1/responses` as a pure protocol: client text in, commands and frames out. The shell owns the socket.

Laws: each lane (`stream_id`; none is a lane too) has one turn at a time and at most `MAX_QUEUED` waiting, in order;
lanes run beside each other, at most `MAX_IN_FLIGHT` turns at once, and who came first goes first. A bad message costs
an error event, never the connection. A turn that follows a reply which nobody keeps gets what was said put in front of
its input; any other `previous_response_id` is for the service to find. Knows no I/O, no clock, no engine, no store.

    receive(text) ──► Start  ──► the shell starts a reply ──► started(turn, …) ──► events(turn, batch) … ──► done(turn)
                  ├─► Resume ──► the shell opens a reply  ──┘└► refused(turn, error) ──────────────────────► done(turn)
                  ├─► Cancel(turn)
                  ├─► Place(turn) ──► the shell looks how long the line is ──► placed(turn, place)
                  └─► Refuse(frames)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from frontdesk.errors import FrontdeskError, InvalidRequest
from frontdesk.generation import Event, Failed, Finished, Turn
from frontdesk.messages import Item, Message
from frontdesk.wire._format import Call, Identity
from frontdesk.wire._ids import response_id
from frontdesk.wire._responses_body import responses_call
from frontdesk.wire._responses_events import ResponseEvents
from frontdesk.wire._socket_memory import Memory, Remembered
from frontdesk.wire._socket_messages import (
    TYPES,
    CancelEvent,
    LaneField,
    PlaceEvent,
    ResumeEvent,
    SteerEvent,
    decoded,
    error_frame,
    event_frame,
    place_frame,
    steer_failed,
)
from frontdesk.wire._validation import validated

MAX_LANES = 32
MAX_IN_FLIGHT = 16
MAX_QUEUED = 8  # turns of one lane
MAX_QUEUED_CHARACTERS = 16_000_000  # of all lanes
MAX_ENDED = 64  # responses, and lanes, that a late cancel is still known to have meant


@dataclass(frozen=True, slots=True)
class Start:
    """Start a reply to `call`, then call `started` or `refused`. `turn` names the turn in every later call."""

    turn: int
    call: Call


@dataclass(frozen=True, slots=True)
class Resume:
    """Open the kept reply `response_id` (without prefix), then call `started` or `refused`. `anew`: the client has none
    of its events."""

    turn: int
    response_id: str
    anew: bool


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the reply of this turn; its events still go through `events`."""

    turn: int


@dataclass(frozen=True, slots=True)
class Place:
    """Look where the reply of this turn stands, then call `placed`."""

    turn: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Send these frames; nothing is started."""

    frames: list[str]


Command = Start | Resume | Cancel | Place | Refuse


@dataclass(slots=True)
class _Turn:
    number: int
    lane: str | None
    size: int  # characters of the message
    call: Call | None = None  # to start
    resumes: str | None = None  # or the response to open
    after: int = -1
    said: Turn | None = None  # what the started call says, memory and what it refers to included
    reply: ResponseEvents | None = None
    kept: bool = True
    cancelled: bool = False  # before its id was known
    ended: bool = False  # but its last frames may still be on their way: `done` clears it away


@dataclass(slots=True)
class _Lane:
    running: _Turn | None = None
    waiting: deque[_Turn] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Received:
    """What a client's message says, or what is wrong with it. `size` is in characters."""

    lane: str | None
    size: int
    event: Call | ResumeEvent | CancelEvent | PlaceEvent | SteerEvent | InvalidRequest


def read(text: str | bytes) -> Received:
    """Understand one message. Pure, so that a long one can be read in a thread."""
    lane = None
    try:
        event = decoded(text)
        lane = event["stream_id"] if isinstance(event.get("stream_id"), str) else None
        return Received(lane, len(text), _understood(event))
    except InvalidRequest as error:
        return Received(lane, len(text), error)


def _understood(event: dict[str, Any]) -> Call | ResumeEvent | CancelEvent | PlaceEvent | SteerEvent:
    match event.get("type"):
        case "response.create":
            validated(LaneField, {"stream_id": event.get("stream_id")})
            return responses_call(event)
        case "response.resume":
            return validated(ResumeEvent, event)
        case "response.cancel":
            return validated(CancelEvent, event)
        case "response.place":
            return validated(PlaceEvent, event)
        case "response.steer":
            return validated(SteerEvent, event)
    raise InvalidRequest(f"'type' should be one of {', '.join(TYPES)}", param="type")


class ResponsesSocket:
    """One connection."""

    def __init__(self) -> None:
        self._lanes: dict[str | None, _Lane] = {}
        self._running: dict[int, _Turn] = {}
        self._numbers = count(1)
        self._queued_characters = 0
        self._memory = Memory()
        self._ended: deque[str] = deque(maxlen=MAX_ENDED)  # ids with prefix
        self._gone: deque[str | None] = deque(maxlen=MAX_ENDED)  # lanes whose last turn has ended

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self._lanes

    def receive(self, message: Received) -> list[Command]:
        """One message of the client, as `read` understands it."""
        try:
            match message.event:
                case Call():
                    return self._create(message.event, message.lane, message.size)
                case ResumeEvent():
                    return self._resume(message.event, message.size)
                case CancelEvent():
                    return self._cancel(message.event)
                case PlaceEvent():
                    return self._place(message.event)
                case SteerEvent():
                    return [Refuse([steer_failed(message.event)])]
                case InvalidRequest():
                    raise message.event
        except InvalidRequest as error:
            return [Refuse([error_frame(error, lane=message.lane)])]

    def started(self, turn: int, call: Call, identity: Identity) -> list[Command]:
        """The turn's reply exists. A cancel that came before it did is passed on now."""
        running = self._running[turn]
        running.reply = ResponseEvents(call, identity)
        running.kept = identity.store
        if running.said is not None:
            running.said = call.turn
        return [Cancel(turn)] if running.cancelled else []

    def refused(
        self, turn: int, error: FrontdeskError, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> list[str]:
        """The turn could not be started; `status` and `headers` are what HTTP would have answered."""
        running = self._running[turn]
        running.ended = True
        return [error_frame(error, status=status, headers=headers, lane=running.lane)]

    def events(self, turn: int, events: Sequence[Event]) -> list[str]:
        """Frames for the next events of the turn's reply, which begin with its first. After the last: call `done`."""
        running = self._running[turn]
        assert running.reply is not None
        frames: list[str] = []
        for event in events:
            for data in running.reply.feed(event):
                if data["sequence_number"] > running.after:
                    frames.append(event_frame(data, event, running.lane))
            if isinstance(event, Finished | Failed):
                self._end(running, running.reply, event)
        return frames

    def placed(self, turn: int, place: int) -> list[str]:
        """The frame that tells where the turn's reply stands: 1 is next, 0 is being worked on."""
        running = self._running[turn]
        assert running.reply is not None
        return [place_frame(running.reply.id, place, running.lane)]

    def done(self, turn: int) -> list[Command]:
        """The turn's last frame is sent. Begins who waited for it."""
        running = self._running.pop(turn)
        lane = self._lanes[running.lane]
        lane.running = None
        if not lane.waiting:
            del self._lanes[running.lane]
            self._gone.append(running.lane)
        return self._begin()

    def _create(self, call: Call, lane: str | None, size: int) -> list[Command]:
        return self._enqueue(_Turn(next(self._numbers), lane, size, call=call))

    def _resume(self, event: ResumeEvent, size: int) -> list[Command]:
        after = -1 if event.starting_after is None else event.starting_after
        return self._enqueue(_Turn(next(self._numbers), event.stream_id, size, resumes=event.id(), after=after))

    def _enqueue(self, turn: _Turn) -> list[Command]:
        lane = self._lanes.get(turn.lane)
        if lane is None and len(self._lanes) >= MAX_LANES:
            raise InvalidRequest(
                f"this connection has {MAX_LANES} streams already: let one finish, or open another connection",
                code="websocket_stream_limit_reached",
            )
        if lane is not None and len(lane.waiting) >= MAX_QUEUED:
            raise InvalidRequest(
                f"{MAX_QUEUED} responses are waiting on this stream already: let one finish first",
                code="too_many_queued",
            )
        if self._queued_characters and self._queued_characters + turn.size > MAX_QUEUED_CHARACTERS:
            raise InvalidRequest(
                f"{MAX_QUEUED_CHARACTERS} characters are waiting on this connection already: let a response finish",
                code="too_many_queued",
            )
        self._lanes.setdefault(turn.lane, _Lane()).waiting.append(turn)
        self._queued_characters += turn.size
        return self._begin()

    def _begin(self) -> list[Command]:
        """Begin every turn that may begin, the earliest first."""
        commands: list[Command] = []
        ready = [lane for lane in self._lanes.values() if lane.running is None]
        for lane in sorted(ready, key=lambda lane: lane.waiting[0].number):
            if len(self._running) >= MAX_IN_FLIGHT:
                break
            turn = lane.running = lane.waiting.popleft()
            self._running[turn.number] = turn
            self._queued_characters -= turn.size
            commands.append(self._command(turn))
        return commands

    def _command(self, turn: _Turn) -> Command:
        if turn.resumes is not None:
            return Resume(turn.number, turn.resumes, anew=turn.after < 0)
        assert turn.call is not None
        assert turn.call.turn is not None
        # Looked up only now: a waiting turn may follow the one that was running when it came.
        turn.said = self._memory.recall(turn.call.turn)
        return Start(turn.number, replace(turn.call, turn=turn.said))

    def _cancel(self, event: CancelEvent) -> list[Command]:
        if event.response_id is None:
            if (lane := self._lanes.get(event.stream_id)) is None:
                if event.stream_id in self._gone:
                    return []
                raise _not_active()
            turn = lane.running or lane.waiting[0]
            if turn.ended:
                return []
            turn.cancelled = True
            return [Cancel(turn.number)] if turn.reply else []
        turn = self._of(event.response_id)
        return [Cancel(turn.number)] if turn else []

    def _place(self, event: PlaceEvent) -> list[Command]:
        turn = self._of(event.response_id)
        return [Place(turn.number)] if turn else []

    def _of(self, response: str) -> _Turn | None:
        """The running turn of a response. None when it ended while the message was on its way: the end wins, and has
        been sent. Raises `InvalidRequest`."""
        if (id := response_id(response)) is not None:
            for turn in self._running.values():
                if turn.reply is not None and turn.reply.id == f"resp_{id}" and not turn.ended:
                    return turn
            if f"resp_{id}" in self._ended:
                return None
        raise _not_active()

    def _end(self, turn: _Turn, reply: ResponseEvents, event: Finished | Failed) -> None:
        turn.ended = True
        self._ended.append(reply.id)
        # What was said in a kept conversation but not kept itself cannot be told again by what follows it.
        if turn.said is None or turn.kept or turn.said.conversation is not None or isinstance(event, Failed):
            return
        id = reply.id.removeprefix("resp_")
        answer = (Item(f"msg_{id}", "message", Message("assistant", reply.text)),) if reply.text else ()
        self._memory.add(id, Remembered(turn.said.input + answer, turn.said.previous))


def _not_active() -> InvalidRequest:
    return InvalidRequest(
        "there is no such response running on this connection", param="response_id", code="response_not_active"
    )
