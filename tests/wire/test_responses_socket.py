"""The WebSocket protocol without a socket: turns, their order, their memory, and what is refused."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from openai.types.responses import ResponsesServerEvent
from pydantic import TypeAdapter

from frontdesk.errors import EngineDied, ModelNotFound
from frontdesk.generation import Delta, Event, Failed, Finished, Started, Usage
from frontdesk.messages import Message
from frontdesk.wire import responses_socket
from frontdesk.wire._format import Identity
from frontdesk.wire.responses_socket import Cancel, Command, Refuse, ResponsesSocket, Start

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(ResponsesServerEvent)
STARTED = Started("m", 1)
ids = count(1)


def create(**fields: Any) -> str:
    return json.dumps({"type": "response.create", "model": "m", **fields})


def identity() -> Identity:
    return Identity(f"{next(ids):032x}", "m", 1)


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


def finish(socket: ResponsesSocket, text: str = "yes", end: Event | None = None) -> str:
    """Play the running turn to its end; the response's id."""
    who = identity()
    assert socket.started(who) == []
    frames = socket.events([STARTED, Delta(text, 1), end or Finished("stop", Usage(3, 1, 1))])
    for frame in frames:
        SERVER_EVENT.validate_json(frame)
    assert [json.loads(frame)["sequence_number"] for frame in frames] == list(range(len(frames)))
    return f"resp_{who.id}"


def done(socket: ResponsesSocket, text: str = "yes") -> str:
    """Like `finish`, with the last frames sent and nobody waiting."""
    id = finish(socket, text)
    assert socket.next() == []
    return id


def messages(command: Start) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in command.call.generation.messages or ()]


def test_second_turn_continues_the_first() -> None:
    """If this fails, the model forgets what was said one turn ago, or instructions leak into later turns."""
    socket = ResponsesSocket()
    assert messages(start(socket.receive(create(input="a", instructions="S1")))) == [("system", "S1"), ("user", "a")]
    first = done(socket, "b")
    second = start(socket.receive(create(input="c", instructions="S2", previous_response_id=first)))
    assert messages(second) == [("system", "S2"), ("user", "a"), ("assistant", "b"), ("user", "c")]
    done(socket, "d")
    branch = start(socket.receive(create(input="e", previous_response_id=first)))
    assert messages(branch) == [("user", "a"), ("assistant", "b"), ("user", "e")]


def test_warm_up_is_remembered_without_an_answer() -> None:
    """If this fails, `generate: false` cannot prepare the prompt of the turn that follows it."""
    socket = ResponsesSocket()
    assert not start(socket.receive(create(input="a", generate=False))).call.generation.generate
    who = identity()
    socket.started(who)
    frames = socket.events([STARTED, Finished("length", Usage(3, 0, 0))])
    assert [json.loads(f)["type"] for f in frames] == ["response.created", "response.in_progress", "response.completed"]
    assert socket.next() == []
    following = start(socket.receive(create(input="b", previous_response_id=f"resp_{who.id}")))
    assert messages(following) == [("user", "a"), ("user", "b")]


def test_turns_wait_in_order_and_a_queued_turn_may_follow_the_running_one() -> None:
    """If this fails, answers come in another order than the questions, or a pipelined follow-up is refused."""
    socket = ResponsesSocket()
    start(socket.receive(create(input="a")))
    who = identity()
    socket.started(who)
    assert socket.receive(create(input="b", previous_response_id=f"resp_{who.id}")) == []
    assert socket.receive(create(input="c")) == []
    assert socket.next() == []
    socket.events([STARTED, Delta("A", 1), Finished("stop", Usage())])
    assert messages(start(socket.next())) == [("user", "a"), ("assistant", "A"), ("user", "b")]
    finish(socket)
    assert messages(start(socket.next())) == [("user", "c")]
    done(socket)
    assert socket.idle


def test_new_turn_waits_for_the_last_frames_of_the_old_one() -> None:
    """If this fails, a message that comes while the last frames are being sent mixes two turns on the wire."""
    socket = ResponsesSocket()
    start(socket.receive(create(input="a")))
    id = finish(socket, "b")
    assert socket.receive(create(input="c", previous_response_id=id)) == []
    assert socket.receive(json.dumps({"type": "response.cancel", "response_id": id})) == []
    assert messages(start(socket.next())) == [("user", "a"), ("assistant", "b"), ("user", "c")]


def test_ninth_waiting_turn_is_refused() -> None:
    """If this fails, one connection can pile up work and memory without end."""
    socket = ResponsesSocket()
    start(socket.receive(create(input="run")))
    assert [socket.receive(create(input=str(i))) for i in range(8)] == [[]] * 8
    refused = error(socket.receive(create(input="9", stream_id="L")))
    assert (refused["error"]["code"], refused["stream_id"], refused["status"]) == ("too_many_queued", "L", 429)
    finish(socket)
    assert messages(start(socket.next())) == [("user", "0")]


def test_unknown_previous_response() -> None:
    """If this fails, a conversation goes on as if it had just begun, or blocks those waiting behind it."""
    socket = ResponsesSocket()
    refused = error(socket.receive(create(input="x", previous_response_id="resp_nope")))
    assert (refused["error"]["code"], refused["error"]["param"]) == (
        "previous_response_not_found",
        "previous_response_id",
    )
    start(socket.receive(create(input="a")))
    socket.receive(create(input="x", previous_response_id="resp_nope"))
    socket.receive(create(input="b"))
    finish(socket)
    refusal, then = socket.next()
    assert isinstance(refusal, Refuse)
    assert isinstance(then, Start)


def test_memory_is_bounded(monkeypatch: Any) -> None:
    """If this fails, a connection that stays open for a day keeps every word ever said on it."""
    socket = ResponsesSocket()
    known = []
    for i in range(66):
        start(socket.receive(create(input=str(i))))
        known.append(done(socket))
    assert error(socket.receive(create(input="x", previous_response_id=known[1])))["status"] == 400
    start(socket.receive(create(input="x", previous_response_id=known[2])))
    monkeypatch.setattr(responses_socket, "MAX_REMEMBERED_CHARACTERS", 10)
    last = done(socket, "y" * 50)
    assert error(socket.receive(create(input="x", previous_response_id=known[-1])))["status"] == 400
    start(socket.receive(create(input="x", previous_response_id=last)))


def test_cancel() -> None:
    """If this fails, the stop button stops nothing, or the wrong reply."""
    socket = ResponsesSocket()
    start(socket.receive(create(input="a")))
    who = identity()
    socket.started(who)
    assert socket.receive('{"type":"response.cancel"}') == [Cancel(f"resp_{who.id}")]
    assert socket.receive(json.dumps({"type": "response.cancel", "response_id": f"resp_{who.id}"})) == [
        Cancel(f"resp_{who.id}")
    ]
    assert error(socket.receive('{"type":"response.cancel","response_id":"resp_x"}'))["error"]["param"] == "response_id"
    last = json.loads(socket.events([STARTED, Delta("A", 1), Finished("cancelled", Usage())])[-1])
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "cancelled")
    assert socket.receive(json.dumps({"type": "response.cancel", "response_id": f"resp_{who.id}"})) == []
    assert error(socket.receive('{"type":"response.cancel"}'))["error"]["code"] == "response_not_active"


def test_cancel_before_the_reply_has_an_id() -> None:
    """If this fails, a stop pressed while the prompt is still being prepared is lost."""
    socket = ResponsesSocket()
    start(socket.receive(create(input="a")))
    assert socket.receive('{"type":"response.cancel"}') == []
    who = identity()
    assert socket.started(who) == [Cancel(f"resp_{who.id}")]


def test_failed_turn_is_nested_and_forgotten() -> None:
    """If this fails, the `openai` client cannot read the error, or a broken answer becomes history."""
    socket = ResponsesSocket()
    start(socket.receive(create(input="a", stream_id="L")))
    who = identity()
    socket.started(who)
    frames = [json.loads(f) for f in socket.events([STARTED, Failed(EngineDied("dead"), Usage())])]
    assert frames[-2]["error"] == {"message": "dead", "type": "server_error", "param": None, "code": "engine_died"}
    assert frames[-1]["type"] == "response.failed"
    assert {frame["stream_id"] for frame in frames} == {"L"}
    for frame in frames:
        SERVER_EVENT.validate_python(frame)
    assert socket.next() == []
    assert error(socket.receive(create(input="x", previous_response_id=f"resp_{who.id}")))


def test_turn_that_could_not_start() -> None:
    """If this fails, one unknown model blocks every turn behind it."""
    socket = ResponsesSocket()
    start(socket.receive(create(input="a", stream_id="L")))
    socket.receive(create(input="b"))
    (frame,) = socket.refused(ModelNotFound("no model 'm'", param="model"), 404)
    assert json.loads(frame)["error"]["type"] == "not_found_error"
    assert (json.loads(frame)["status"], json.loads(frame)["stream_id"]) == (404, "L")
    start(socket.next())


def test_bad_messages_cost_an_error_event() -> None:
    """If this fails, a client's typing error closes the connection or goes unnoticed."""
    socket = ResponsesSocket()
    for text, param in (
        ("{", None), ("[]", None), ("5", None), ("{}", "type"), ('{"type":"response.destroy"}', "type"),
        (create(input="x", temperature=5, stream_id="L"), "temperature"), (create(input="x", stream_id=5), "stream_id"),
        (create(input="x", background=True), "background"), (create(), "input"), ("\udcff", None),
    ):  # fmt: skip
        refused = error(socket.receive(text))
        assert refused["error"]["param"] == param
        assert refused["status"] == 400
        assert refused.get("stream_id") == ("L" if '"L"' in text else None)
    assert socket.idle


def test_steering_is_declined_with_its_input() -> None:
    """If this fails, a client that steers loses the words that it wanted to add."""
    items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "stop"}]}]
    for given in ("stop", items):
        text = json.dumps({"type": "response.steer", "previous_response_id": "resp_1", "input": given})
        event = error(ResponsesSocket().receive(text))
        assert event["error"]["code"] == "steering_not_supported"
        assert event["steer"] == {"previous_response_id": "resp_1", "input": given}


def test_tool_output_continues_a_call_from_history() -> None:
    """If this fails, a tool loop over the socket loses the call that its output answers."""
    items = [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "7"},
    ]
    call = start(ResponsesSocket().receive(create(input=items))).call
    first, second = list(call.generation.messages or ())
    assert first.tool_calls[0].name == "f"
    assert second == Message("tool", "7", tool_call_id="c")
