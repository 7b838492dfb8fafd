"""Any JSON value in any place gives a Call or an `InvalidRequest`, and whatever was accepted can be answered."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.values import IDENTITY, MINIMAL, WORDS, strings, values

from frontdesk.errors import InvalidRequest
from frontdesk.generation import Delta, Finished, Started, Usage
from frontdesk.wire import HTTP_FORMATS, conversations
from frontdesk.wire._errors import error_body
from frontdesk.wire._format import Call, HttpFormat
from frontdesk.wire._items import item_json
from frontdesk.wire.responses_socket import Refuse, ResponsesSocket, Start, read

FORMATS = {format.name: format for format in HTTP_FORMATS}
REPLY = [Started("m", 1), Delta("y", 1), Finished("stop", Usage(1, 0, 1))]
each_format = pytest.mark.parametrize("format", HTTP_FORMATS, ids=lambda f: f.name)


def refusal_or_call(format: HttpFormat, body: object) -> InvalidRequest | Call:
    try:
        return format.parse(body)
    except InvalidRequest as error:
        return error


def answer(format: HttpFormat, body: object) -> None:
    call = refusal_or_call(format, body)
    if isinstance(call, InvalidRequest):
        msgspec.json.encode(error_body(call))
        known = {*format.request.model_fields, *(body if isinstance(body, dict) else ())}
        assert call.param is None or any(call.param.startswith(str(name)) for name in known)
        return
    assert call.n in range(1, 17)
    encoder = format.encoder(call, IDENTITY)
    for choice in range(call.n):
        encoder.encode(choice, REPLY)
    encoder.end()
    json.dumps(format.collect(call, IDENTITY, [REPLY] * call.n), allow_nan=False).encode()


@each_format
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_value_in_any_field(format: HttpFormat, data: st.DataObject) -> None:
    """If this fails, some body ends in a 500 or kills the reply that it began."""
    names = st.sampled_from(sorted(format.request.model_fields))
    fields = data.draw(st.dictionaries(names, values, min_size=1, max_size=3))
    answer(format, {**MINIMAL[format.name], **fields})


@each_format
@given(body=values)
@settings(max_examples=100, deadline=None)
def test_any_body(format: HttpFormat, body: object) -> None:
    """If this fails, some body that is not even an object ends in a 500."""
    answer(format, body)


@given(role=values, content=values, rest=st.dictionaries(strings, values, max_size=3))
@settings(max_examples=300, deadline=None)
def test_any_message(role: object, content: object, rest: dict[str, Any]) -> None:
    """If this fails, some message or item ends in a 500."""
    for role_ in (role, "user", "assistant", "tool"):
        message = {**rest, "role": role_, "content": content}
        answer(FORMATS["openai_chat"], {"messages": [message]})
        answer(FORMATS["openai_responses"], {"input": [message]})
    for kind in ("function_call", "function_call_output", "message"):
        answer(FORMATS["openai_responses"], {"input": [{**rest, "type": kind, "output": content}]})


@given(
    kind=st.sampled_from(
        ["response.create", "response.cancel", "response.resume", "response.place", "response.steer", "x", None]
    ),
    fields=st.dictionaries(
        st.sampled_from(
            ["input", "stream_id", "response_id", "previous_response_id", "instructions", "seed", "starting_after"]
        ),
        values,
    ),
)
@settings(max_examples=300, deadline=None)
def test_any_socket_event(kind: str | None, fields: dict[str, Any]) -> None:
    """If this fails, one message takes a whole connection down, with every turn that it remembers."""
    socket = ResponsesSocket()
    check_commands(socket, json.dumps({**fields, "type": kind}))


@given(text=st.text() | st.binary() | st.sampled_from(["[" * 100_000, "NaN", '"\\ud800"', "1" * 6000, "null", ""]))
def test_any_socket_text(text: str | bytes) -> None:
    """If this fails, a message that is not JSON takes the connection down."""
    check_commands(ResponsesSocket(), text)


@given(
    body=values
    | st.dictionaries(st.sampled_from(["items", "metadata", "context", "budget"]), values)
    | st.fixed_dictionaries({"items": st.lists(st.dictionaries(st.sampled_from(WORDS), values), max_size=3)})
    | st.fixed_dictionaries({"context": st.dictionaries(st.sampled_from(["policy", "keep_last", "pinned"]), values)})
)
@settings(max_examples=300, deadline=None)
def test_any_conversation(body: object) -> None:
    """If this fails, some body ends in a 500, or something is kept that cannot be shown again."""
    try:
        change, items = conversations.parse_create(body, created=1)
    except InvalidRequest as error:
        msgspec.json.encode(error_body(error))
    else:
        assert len(items) <= 20
        json.dumps([item_json(item) for item in items], allow_nan=False).encode()
        json.dumps([change.metadata, change.applied_to({})], allow_nan=False).encode()
    for parse in (conversations.parse_update, lambda body: conversations.parse_new_items(body, created=1)):
        try:
            parse(body)
        except InvalidRequest as error:
            msgspec.json.encode(error_body(error))


def check_commands(socket: ResponsesSocket, text: str | bytes) -> None:
    for command in socket.receive(read(text)):
        if isinstance(command, Refuse):
            assert all(json.loads(frame)["type"] in ("error", "response.steer.failed") for frame in command.frames)
        if isinstance(command, Start):
            socket.started(command.turn, command.call, IDENTITY)
            assert json.loads(socket.events(command.turn, REPLY)[-1])["type"] == "response.completed"
            assert socket.done(command.turn) == []
