"""The WebSocket protocol without a socket: turns, their lanes, their memory, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from typing import Any

from openai.types.responses import ResponsesServerEvent
from pydantic import TypeAdapter

from frontdesk.errors import BudgetExceeded, EngineDied, ModelNotFound
from frontdesk.generation import Delta, Event, Failed, Finished, Started, Turn, Usage
from frontdesk.messages import Item, Message
from frontdesk.wire import _socket_memory, responses_socket
from frontdesk.wire._format import Call, Identity
from frontdesk.wire.responses_socket import (
    Cancel,
    Command,
    Place,
    Received,
    Refuse,
    ResponsesSocket,
    Resume,
    Start,
    read,
)

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(ResponsesServerEvent)
STARTED = Started("m", 1)
CONVERSATION = f"conv_{'c' * 32}"
ids = count(1)


def create(**fields: Any) -> Received:
    """A turn that nobody keeps, unless told otherwise."""
    return read(json.dumps({"type": "response.create", "model": "m", "store": False, **fields}))


def cancel(**fields: Any) -> Received:
    return read(json.dumps({"type": "response.cancel", **fields}))


def one(commands: list[Command]) -> Command:
    (command,) = commands
    return command


def start(commands: list[Command]) -> Start:
    command = one(commands)
    assert isinstance(command, Start)
    return command


def error(commands: list[Command]) -> dict[str, Any]:
    command = one(commands)
    assert isinstance(command, Refuse)
    (frame,) = command.frames
    SERVER_EVENT.validate_json(frame)
    return json.loads(frame)


def begin(socket: ResponsesSocket, begun: Start | Resume, call: Call | None = None) -> str:
    """The service has started the turn; the response's id."""
    call = call or (begun.call if isinstance(begun, Start) else None)
    assert call is not None
    assert call.turn is not None
    who = Identity(f"{next(ids):032x}", "m", 1, store=call.turn.store)
    assert socket.started(begun.turn, call, who) == []
    return f"resp_{who.id}"


def play(socket: ResponsesSocket, turn: int, text: str = "yes", end: Event | None = None) -> list[dict[str, Any]]:
    """All events of the turn's reply, which is left to be cleared away."""
    frames = socket.events(turn, [STARTED, Delta(text, 1), end or Finished("stop", Usage(3, 1, 1))])
    for frame in frames:
        SERVER_EVENT.validate_json(frame)
    return [json.loads(frame) for frame in frames]


def finish(socket: ResponsesSocket, begun: Start, text: str = "yes") -> str:
    """A turn from its start to its last event."""
    id = begin(socket, begun)
    assert [frame["sequence_number"] for frame in play(socket, begun.turn, text)] == list(range(9))
    return id


def done(socket: ResponsesSocket, begun: Start, text: str = "yes") -> str:
    """Like `finish`, with the last frames sent and nobody waiting."""
    id = finish(socket, begun, text)
    assert socket.done(begun.turn) == []
    return id


def turn_of(begun: Start) -> Turn:
    assert begun.call.turn is not None
    return begun.call.turn


def said(begun: Start) -> list[tuple[str, str]]:
    return [(item.message.role, item.message.content) for item in turn_of(begun).input]


def test_second_turn_continues_the_first() -> None:
    """If this fails, the model forgets what was said one turn ago, or instructions leak into later turns."""
    socket = ResponsesSocket()
    begun = start(socket.receive(create(input="a", instructions="S1")))
    assert (turn_of(begun).instructions, said(begun)) == ("S1", [("user", "a")])
    first = done(socket, begun, "b")
    second = start(socket.receive(create(input="c", instructions="S2", previous_response_id=first)))
    assert said(second) == [("user", "a"), ("assistant", "b"), ("user", "c")]
    assert (turn_of(second).instructions, turn_of(second).previous) == ("S2", None)
    done(socket, second, "d")
    branch = start(socket.receive(create(input="e", previous_response_id=first)))
    assert (turn_of(branch).instructions, said(branch)) == (None, [("user", "a"), ("assistant", "b"), ("user", "e")])


def test_kept_turns_are_the_service_s_to_remember() -> None:
    """If this fails, what was said reaches the model twice: from the store and from the connection."""
    socket = ResponsesSocket()
    kept = done(socket, start(socket.receive(create(input="a", store=True))))
    following = start(socket.receive(create(input="b", store=True, previous_response_id=kept)))
    assert (turn_of(following).previous, said(following)) == (kept.removeprefix("resp_"), [("user", "b")])


def test_what_is_kept_and_what_is_not_may_follow_each_other() -> None:
    """If this fails, half of a conversation is lost where one turn asked not to be kept."""
    socket = ResponsesSocket()
    kept = done(socket, start(socket.receive(create(input="a", store=True))))
    passing = done(socket, start(socket.receive(create(input="b", previous_response_id=kept))), "B")
    following = start(socket.receive(create(input="c", store=True, previous_response_id=passing)))
    assert turn_of(following).previous == kept.removeprefix("resp_")
    assert said(following) == [("user", "b"), ("assistant", "B"), ("user", "c")]


def test_what_was_named_is_remembered_as_what_it_says() -> None:
    """If this fails, a turn that follows an unkept one lacks what that one named, or has it at another place."""
    socket = ResponsesSocket()
    first = done(socket, start(socket.receive(create(input="a"))), "b")
    named = [{"type": "item_reference", "id": f"msg_{'d' * 32}"}, {"role": "user", "content": "d"}]
    begun = start(socket.receive(create(input=named, previous_response_id=first)))
    assert said(begun) == [("user", "a"), ("assistant", "b"), ("user", "d")]
    assert (turn_of(begun).remembered, turn_of(begun).references[0].place) == (2, 0)
    input = (*turn_of(begun).input[:2], Item("", "message", Message("assistant", "c")), turn_of(begun).input[2])
    id = begin(socket, begun, replace(begun.call, turn=replace(turn_of(begun), input=input, references=())))
    play(socket, begun.turn, "e")
    assert socket.done(begun.turn) == []
    third = start(socket.receive(create(input="f", previous_response_id=id)))
    assert "".join(text for _, text in said(third)) == "abcdef"


def test_an_unkept_turn_of_a_conversation_is_not_remembered() -> None:
    """If this fails, a turn that follows it is answered without the conversation, or is added to it unasked."""
    socket = ResponsesSocket()
    passing = done(socket, start(socket.receive(create(input="a", conversation=CONVERSATION))))
    following = start(socket.receive(create(input="b", previous_response_id=passing)))
    assert (turn_of(following).previous, said(following)) == (passing.removeprefix("resp_"), [("user", "b")])


def test_warm_up_is_remembered_without_an_answer() -> None:
    """If this fails, `generate: false` cannot prepare the prompt of the turn that follows it."""
    socket = ResponsesSocket()
    warm = start(socket.receive(create(input="a", generate=False)))
    assert not warm.call.generation.generate
    id = begin(socket, warm)
    frames = socket.events(warm.turn, [STARTED, Finished("length", Usage(3, 0, 0))])
    assert [json.loads(f)["type"] for f in frames] == ["response.created", "response.in_progress", "response.completed"]
    assert socket.done(warm.turn) == []
    following = start(socket.receive(create(input="b", previous_response_id=id)))
    assert said(following) == [("user", "a"), ("user", "b")]


def test_turns_of_a_lane_wait_in_order_and_may_follow_the_running_one() -> None:
    """If this fails, answers come in another order than the questions, or a pipelined follow-up is refused."""
    socket = ResponsesSocket()
    first = start(socket.receive(create(input="a", stream_id="L")))
    id = begin(socket, first)
    assert socket.receive(create(input="b", previous_response_id=id, stream_id="L")) == []
    assert socket.receive(create(input="c", stream_id="L")) == []
    play(socket, first.turn, "A")
    second = start(socket.done(first.turn))
    assert said(second) == [("user", "a"), ("assistant", "A"), ("user", "b")]
    finish(socket, second)
    third = start(socket.done(second.turn))
    assert said(third) == [("user", "c")]
    done(socket, third)
    assert socket.idle


def test_lanes_run_beside_each_other() -> None:
    """If this fails, one long answer holds up every other conversation of a page, or its words land in another one."""
    socket = ResponsesSocket()
    lanes = {lane: start(socket.receive(create(input=str(lane), stream_id=lane))) for lane in ("A", "B", None)}
    for begun in lanes.values():
        begin(socket, begun)
    for lane, begun in reversed(lanes.items()):
        assert {frame.get("stream_id") for frame in play(socket, begun.turn, str(lane))} == {lane}
    for begun in lanes.values():
        assert socket.done(begun.turn) == []
    assert socket.idle


def test_new_turn_waits_for_the_last_frames_of_the_old_one() -> None:
    """If this fails, a message that comes while the last frames are being sent mixes two turns on the wire."""
    socket = ResponsesSocket()
    begun = start(socket.receive(create(input="a")))
    id = finish(socket, begun, "b")
    assert socket.receive(create(input="c", previous_response_id=id)) == []
    assert socket.receive(cancel(response_id=id)) == []
    assert said(start(socket.done(begun.turn))) == [("user", "a"), ("assistant", "b"), ("user", "c")]


def test_ninth_waiting_turn_of_a_lane_is_refused() -> None:
    """If this fails, one connection can pile up work and memory without end."""
    socket = ResponsesSocket()
    begun = start(socket.receive(create(input="run", stream_id="L")))
    assert [socket.receive(create(input=str(i), stream_id="L")) for i in range(8)] == [[]] * 8
    refused = error(socket.receive(create(input="9", stream_id="L")))
    assert (refused["error"]["code"], refused["stream_id"], refused["status"]) == ("too_many_queued", "L", 429)
    start(socket.receive(create(input="elsewhere")))
    finish(socket, begun)
    assert said(start(socket.done(begun.turn))) == [("user", "0")]


def test_waiting_text_is_bounded(monkeypatch: Any) -> None:
    """If this fails, a few hundred large waiting turns fill the memory."""
    monkeypatch.setattr(responses_socket, "MAX_QUEUED_CHARACTERS", 300)
    socket = ResponsesSocket()
    begun = start(socket.receive(create(input="x" * 1000)))
    assert socket.receive(create(input="x" * 1000)) == []
    assert error(socket.receive(create(input="y")))["error"]["code"] == "too_many_queued"
    finish(socket, begun)
    start(socket.done(begun.turn))
    assert socket.receive(create(input="y")) == []


def test_more_turns_than_may_run_wait_and_the_first_to_come_goes_first() -> None:
    """If this fails, one connection takes every slot of the engine, or a lane starves."""
    socket = ResponsesSocket()
    running = [start(socket.receive(create(input="x", stream_id=str(i)))) for i in range(16)]
    assert [socket.receive(create(input=str(i), stream_id=f"w{i}")) for i in range(16)] == [[]] * 16
    assert socket.receive(create(input="again", stream_id="0")) == []
    refused = error(socket.receive(create(input="x", stream_id="33rd")))
    assert (refused["error"]["code"], refused["status"]) == ("websocket_stream_limit_reached", 429)
    finish(socket, running[0])
    assert said(start(socket.done(running[0].turn))) == [("user", "0")]
    finish(socket, running[5])
    assert said(start(socket.done(running[5].turn))) == [("user", "1")]
    assert socket.receive(create(input="x", stream_id="5 is gone, so there is room")) == []


def test_memory_is_bounded(monkeypatch: Any) -> None:
    """If this fails, a connection that stays open for a day keeps every word ever said on it."""
    socket = ResponsesSocket()
    known = [done(socket, start(socket.receive(create(input=str(i))))) for i in range(66)]

    def follows(id: str) -> int:
        begun = start(socket.receive(create(input="x", previous_response_id=id)))
        socket.refused(begun.turn, ModelNotFound("no"))
        socket.done(begun.turn)
        return len(said(begun))

    assert [follows(id) for id in known[:4]] == [1, 1, 3, 3]
    monkeypatch.setattr(_socket_memory, "MAX_REMEMBERED_CHARACTERS", 10)
    last = done(socket, start(socket.receive(create(input="y"))), "y" * 50)
    assert (follows(known[-1]), follows(last)) == (1, 3)


def test_cancel() -> None:
    """If this fails, the stop button stops nothing, or the wrong reply."""
    socket = ResponsesSocket()
    begun, other = (start(socket.receive(create(input="a", **lane))) for lane in ({}, {"stream_id": "L"}))
    id, id_of_other = begin(socket, begun), begin(socket, other)
    assert socket.receive(cancel()) == [Cancel(begun.turn)]
    assert socket.receive(cancel(stream_id="L")) == [Cancel(other.turn)]
    assert socket.receive(cancel(response_id=id)) == [Cancel(begun.turn)]
    assert socket.receive(cancel(response_id=id_of_other)) == [Cancel(other.turn)]
    for unknown in ("resp_x", f"resp_{'f' * 32}"):
        assert error(socket.receive(cancel(response_id=unknown)))["error"]["param"] == "response_id"
    last = play(socket, begun.turn, end=Finished("cancelled", Usage()))[-1]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "cancelled")
    assert socket.receive(cancel(response_id=id)) == []
    assert socket.done(begun.turn) == []
    assert socket.receive(cancel(response_id=id)) == []


def test_a_cancel_that_came_too_late_is_no_mistake() -> None:
    """If this fails, a stop pressed as the answer ends is an error that the page shows, or stops the next answer."""
    socket = ResponsesSocket()
    for lane in ({}, {"stream_id": "L"}):
        assert error(socket.receive(cancel(**lane)))["error"]["code"] == "response_not_active"
        begun = start(socket.receive(create(input="a", **lane)))
        finish(socket, begun)
        assert socket.receive(create(input="b", **lane)) == []
        assert socket.receive(cancel(**lane)) == []
        following = start(socket.done(begun.turn))
        done(socket, following)
        assert socket.receive(cancel(**lane)) == []


def test_cancel_before_the_reply_has_an_id() -> None:
    """If this fails, a stop pressed while the prompt is still being prepared is lost."""
    socket = ResponsesSocket()
    begun = start(socket.receive(create(input="a")))
    assert socket.receive(cancel()) == []
    assert socket.started(begun.turn, begun.call, Identity("0" * 32, "m", 1)) == [Cancel(begun.turn)]


def test_resume_sends_the_rest() -> None:
    """If this fails, a client that comes back gets events twice, or not at all, or under another stream."""
    socket = ResponsesSocket()
    kept = start(socket.receive(create(input="a", store=True)))
    id = begin(socket, kept)
    whole = play(socket, kept.turn)
    for after in (-1, 0, 4, 6, 7, 100):
        again = ResponsesSocket()
        asked = {"response_id": id, "stream_id": "R", **({} if after < 0 else {"starting_after": after})}
        command = one(again.receive(read(json.dumps({"type": "response.resume", **asked}))))
        assert isinstance(command, Resume)
        assert command.response_id == id.removeprefix("resp_")
        assert command.anew == (after < 0)
        assert again.started(command.turn, kept.call, Identity(command.response_id, "m", 1, store=True)) == []
        rest = play(again, command.turn)
        assert rest == [{**frame, "stream_id": "R"} for frame in whole[after + 1 :]]
        assert again.done(command.turn) == []
        assert again.idle


def test_resume_of_what_cannot_be() -> None:
    """If this fails, a client's typing error looks like a response that is gone, or ends the connection."""
    socket = ResponsesSocket()
    for fields, param in (
        ({}, "response_id"), ({"response_id": "x"}, "response_id"), ({"response_id": 5}, "response_id"),
        ({"response_id": "0" * 32, "starting_after": -2}, "starting_after"),
        ({"response_id": "0" * 32, "starting_after": "1"}, "starting_after"),
    ):  # fmt: skip
        assert error(socket.receive(read(json.dumps({"type": "response.resume", **fields}))))["error"]["param"] == param
    assert socket.idle


def test_place_in_the_line() -> None:
    """If this fails, a client on a socket cannot say how long the line is, or asking costs it the stream."""
    socket = ResponsesSocket()
    begun = start(socket.receive(create(input="a", stream_id="L")))
    assert error(socket.receive(place(id="resp_" + "0" * 32)))["error"]["code"] == "response_not_active"
    assert error(socket.receive(place()))["error"]["param"] == "response_id"
    id = begin(socket, begun)
    assert socket.receive(place(id=id)) == [Place(begun.turn)]
    (frame,) = socket.placed(begun.turn, 3)
    assert json.loads(frame) == {"type": "response.place", "response_id": id, "place": 3, "stream_id": "L"}
    play(socket, begun.turn)
    assert socket.receive(place(id=id)) == []
    assert socket.done(begun.turn) == []
    assert socket.receive(place(id=id)) == []


def place(id: str | None = None) -> Received:
    return read(json.dumps({"type": "response.place", **({} if id is None else {"response_id": id})}))


def test_failed_turn_is_nested_and_forgotten() -> None:
    """If this fails, the `openai` client cannot read the error, or a broken answer becomes history."""
    socket = ResponsesSocket()
    begun = start(socket.receive(create(input="a", stream_id="L")))
    id = begin(socket, begun)
    frames = [json.loads(f) for f in socket.events(begun.turn, [STARTED, Failed(EngineDied("dead"), Usage())])]
    assert frames[-2]["error"] == {"message": "dead", "type": "server_error", "param": None, "code": "engine_died"}
    assert frames[-1]["type"] == "response.failed"
    assert {frame["stream_id"] for frame in frames} == {"L"}
    for frame in frames:
        SERVER_EVENT.validate_python(frame)
    assert socket.done(begun.turn) == []
    assert said(start(socket.receive(create(input="x", previous_response_id=id)))) == [("user", "x")]


def test_turn_that_could_not_start() -> None:
    """If this fails, one unknown model blocks every turn behind it."""
    socket = ResponsesSocket()
    begun = start(socket.receive(create(input="a", stream_id="L")))
    socket.receive(create(input="b", stream_id="L"))
    (frame,) = socket.refused(begun.turn, ModelNotFound("no model 'm'", param="model"), 404)
    assert json.loads(frame)["error"]["type"] == "not_found_error"
    assert (json.loads(frame)["status"], json.loads(frame)["stream_id"]) == (404, "L")
    start(socket.done(begun.turn))


def test_a_refusal_says_when_to_come_back() -> None:
    """If this fails, a client on the WebSocket cannot know when its budget refills, as one over HTTP does."""
    socket = ResponsesSocket()
    begun = start(socket.receive(create(input="a")))
    refusal = BudgetExceeded("no tokens left", retry_after=7.0, budget="tokens per minute", limit=5, remaining=0)
    (frame,) = socket.refused(begun.turn, refusal, 429, {"retry-after": "7", "x-ratelimit-remaining-tokens": "0"})
    event = SERVER_EVENT.validate_python(json.loads(frame))
    assert event.status == 429
    assert event.error.headers == {"retry-after": "7", "x-ratelimit-remaining-tokens": "0"}
    assert json.loads(frame)["error"]["remaining"] == 0


def test_bad_messages_cost_an_error_event() -> None:
    """If this fails, a client's typing error closes the connection or goes unnoticed."""
    socket = ResponsesSocket()
    for message, param in (
        (read("{"), None), (read("[]"), None), (read("5"), None), (read("{}"), "type"), (read("\udcff"), None),
        (read('{"type":"response.destroy"}'), "type"), (create(input="x", stream_id=5), "stream_id"),
        (create(input="x", temperature=5, stream_id="L"), "temperature"), (create(), "input"),
        (create(input="x", background=True), "background"),
        (create(input="x", previous_response_id="resp_nope"), "previous_response_id"),
    ):  # fmt: skip
        refused = error(socket.receive(message))
        assert refused["error"]["param"] == param
        assert refused["status"] == 400
        assert refused.get("stream_id") == message.lane
    assert socket.idle


def test_steering_is_declined_with_its_input() -> None:
    """If this fails, a client that steers loses the words that it wanted to add."""
    items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "stop"}]}]
    for given in ("stop", items):
        text = json.dumps({"type": "response.steer", "previous_response_id": "resp_1", "input": given})
        event = error(ResponsesSocket().receive(read(text)))
        assert event["error"]["code"] == "steering_not_supported"
        assert event["steer"] == {"previous_response_id": "resp_1", "input": given}


def test_tool_output_continues_a_call_from_history() -> None:
    """If this fails, a tool loop over the socket loses the call that its output answers."""
    items = [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "7"},
    ]
    first, second = [item.message for item in turn_of(start(ResponsesSocket().receive(create(input=items)))).input]
    assert first.tool_calls[0].name == "f"
    assert second == Message("tool", "7", tool_call_id="c")
