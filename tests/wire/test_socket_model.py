"""The WebSocket protocol against a model of it, in any order of what clients, engines and the network do.

The model: every lane is a queue; a turn runs when it is at the head of its lane and fewer than the limit run; who came
first goes first. Whatever happens, each lane's frames are those of its turns, one whole reply after the other.
"""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from frontdesk.errors import EngineDied, ModelNotFound
from frontdesk.generation import Delta, Event, Failed, Finished, Started, Usage
from frontdesk.wire import responses_socket
from frontdesk.wire._format import Call, Identity
from frontdesk.wire.openai_responses import OpenAIResponses
from frontdesk.wire.responses_socket import Cancel, Command, Refuse, ResponsesSocket, Resume, Start, read

LANES = (None, "a", "b", "c")
MAX_LANES, MAX_IN_FLIGHT, MAX_QUEUED = 3, 2, 2
KEPT = OpenAIResponses().parse({"input": "kept"})
ENDS = st.sampled_from([Finished("stop", Usage()), Finished("cancelled", Usage()), Failed(EngineDied("dead"), Usage())])


class Turn:
    """What the shell knows of a turn, and what the model expects of it."""

    def __init__(self, number: int, lane: str | None, text: str) -> None:
        self.number = number  # in the order of sending
        self.lane = lane
        self.text = text
        self.key = 0  # the protocol's name for it
        self.call: Call | None = None
        self.id: str | None = None
        self.ended = False
        self.frames: list[dict[str, Any]] = []


class Socket(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.limits = [(name, getattr(responses_socket, name)) for name in ("MAX_LANES", "MAX_IN_FLIGHT", "MAX_QUEUED")]
        for (name, _), value in zip(self.limits, (MAX_LANES, MAX_IN_FLIGHT, MAX_QUEUED), strict=True):
            setattr(responses_socket, name, value)
        self.socket = ResponsesSocket()
        self.waiting: dict[str | None, list[Turn]] = {}
        self.running: list[Turn] = []
        self.numbers = count(1)
        self.finished: list[str] = []
        self.used: set[str | None] = set()  # lanes on which a turn has ended

    def teardown(self) -> None:
        for name, value in self.limits:
            setattr(responses_socket, name, value)

    def expect(self, commands: list[Command]) -> None:
        """The commands begin exactly the turns that the model begins, in the model's order."""
        for command in commands:
            ready = [
                turns[0]
                for lane, turns in self.waiting.items()
                if turns and all(turn.lane != lane for turn in self.running)
            ]
            assert len(self.running) < MAX_IN_FLIGHT
            turn = min(ready, key=lambda turn: turn.number)
            self.waiting[turn.lane].pop(0)
            assert isinstance(command, Start | Resume)
            turn.key = command.turn
            if isinstance(command, Start):
                assert command.call.turn is not None
                assert command.call.turn.input[-1].message.content == turn.text
                turn.call = command.call
            else:
                assert command.response_id == turn.text
                turn.call = KEPT
            self.running.append(turn)

    @rule(lane=st.sampled_from(LANES), kept=st.booleans(), resume=st.booleans(), follows=st.booleans())
    def send(self, lane: str | None, kept: bool, resume: bool, follows: bool) -> None:
        number = next(self.numbers)
        turn = Turn(number, lane, f"{number:032x}")
        message: dict[str, Any] = {"type": "response.create", "input": turn.text, "store": kept}
        if resume:
            message = {"type": "response.resume", "response_id": f"resp_{turn.text}"}
        elif follows and self.finished:
            message["previous_response_id"] = self.finished[-1]
        if lane is not None:
            message["stream_id"] = lane
        busy = {turn.lane for turn in self.running} | {lane for lane, turns in self.waiting.items() if turns}
        commands = self.socket.receive(read(json.dumps(message)))
        if (lane not in busy and len(busy) >= MAX_LANES) or len(self.waiting.get(lane, [])) >= MAX_QUEUED:
            (refusal,) = commands
            assert isinstance(refusal, Refuse)
            (frame,) = map(json.loads, refusal.frames)
            assert (frame["type"], frame["status"], frame.get("stream_id")) == ("error", 429, lane)
            return
        self.waiting.setdefault(lane, []).append(turn)
        self.expect(commands)

    @precondition(lambda self: any(turn.id is None for turn in self.running))
    @rule(data=st.data(), refused=st.booleans())
    def start(self, data: st.DataObject, refused: bool) -> None:
        turn = data.draw(st.sampled_from([turn for turn in self.running if turn.id is None]))
        turn.id = f"{turn.number:032x}"
        if refused:
            (frame,) = self.socket.refused(turn.key, ModelNotFound("no"), 404)
            assert json.loads(frame).get("stream_id") == turn.lane
            self.clear_away(turn)
            return
        assert turn.call is not None
        assert turn.call.turn is not None
        identity = Identity(turn.id, "m", 1, store=turn.call.turn.store)
        assert self.socket.started(turn.key, turn.call, identity) == []
        self.receive(turn, [Started("m", 1)])

    @precondition(lambda self: any(turn.id and not turn.ended for turn in self.running))
    @rule(data=st.data(), texts=st.lists(st.text(max_size=3), max_size=3), end=st.none() | ENDS)
    def write(self, data: st.DataObject, texts: list[str], end: Finished | Failed | None) -> None:
        turn = data.draw(st.sampled_from([turn for turn in self.running if turn.id and not turn.ended]))
        events: list[Event] = [Delta(text, 1) for text in texts]
        self.receive(turn, [*events, *([end] if end else [])])
        if end:
            turn.ended = True
            self.finished.append(f"resp_{turn.id}")

    @precondition(lambda self: any(turn.ended for turn in self.running))
    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from([turn for turn in self.running if turn.ended]))
        last = turn.frames[-1]["type"]
        assert last in ("response.completed", "response.incomplete", "response.failed")
        self.clear_away(turn)

    def clear_away(self, turn: Turn) -> None:
        self.running.remove(turn)
        self.used.add(turn.lane)
        self.expect(self.socket.done(turn.key))

    @precondition(lambda self: any(turn.id for turn in self.running))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from([turn for turn in self.running if turn.id]))
        commands = self.socket.receive(read(json.dumps({"type": "response.cancel", "response_id": f"resp_{turn.id}"})))
        assert commands == ([] if turn.ended else [Cancel(turn.key)])

    @rule(lane=st.sampled_from(LANES))
    def cancel_lane(self, lane: str | None) -> None:
        """Not before the lane's turn has its id: the rule `start` knows no turns that were cancelled before."""
        if any(turn.lane == lane and turn.id is None for turn in self.running) or self.waiting.get(lane):
            return
        running = [turn for turn in self.running if turn.lane == lane]
        commands = self.socket.receive(read(json.dumps({"type": "response.cancel", "stream_id": lane})))
        if running:
            assert commands == [Cancel(turn.key) for turn in running if not turn.ended]
        else:
            assert [isinstance(command, Refuse) for command in commands] == ([] if lane in self.used else [True])

    def receive(self, turn: Turn, events: list[Event]) -> None:
        for frame in map(json.loads, self.socket.events(turn.key, events)):
            assert frame.get("stream_id") == turn.lane
            assert frame["sequence_number"] == len(turn.frames)
            for where in (frame.get("response", {}).get("id"), frame.get("item_id")):
                assert where is None or where.partition("_")[2] == turn.id, "a frame of another reply"
            turn.frames.append(frame)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """A lane whose turn could run does run it."""
        assert self.socket.idle == (not self.running and not any(self.waiting.values()))
        if len(self.running) < MAX_IN_FLIGHT:
            running = {turn.lane for turn in self.running}
            assert all(lane in running for lane, turns in self.waiting.items() if turns)


TestSocket = Socket.TestCase
TestSocket.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
