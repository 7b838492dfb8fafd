"""What came over the wire, read as a reply: cut anywhere, told or not told, whole or broken off."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.replies import chat_lines

from frontdesk.bench.reply import NO_END, NO_TEXT, Reply, read_chat, read_responses
from frontdesk.bench.sse import DataLines

Events = list[tuple[float, bytes]]


def timed(lines: list[bytes]) -> Events:
    return [(float(i), line) for i, line in enumerate(lines)]


@given(st.lists(st.text(max_size=8).map(lambda text: json.dumps(text).encode()), max_size=8), st.data())
def test_lines_do_not_depend_on_how_bytes_are_cut(payloads: list[bytes], data: st.DataObject) -> None:
    """A server behind another proxy would be measured as broken, or as slower."""
    ends = data.draw(st.lists(st.sampled_from([b"\n\n", b"\r\n\r\n"]), min_size=len(payloads), max_size=len(payloads)))
    body = b": comment\n\n" + b"".join(b"data: " + p + end for p, end in zip(payloads, ends, strict=True))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    lines, found = DataLines(), list[bytes]()
    for begin, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += lines.feed(body[begin:end])
    assert found + lines.end() == payloads


def test_a_last_line_without_its_end_is_a_line() -> None:
    """The usage of servers that end so would be lost."""
    lines = DataLines()
    assert lines.feed(b"event: x\ndata:1\ndata: 2") == [b"1"]
    assert lines.end() == [b"2"]
    assert lines.end() == []


def test_chat_is_read_as_it_was_told() -> None:
    """Tokens, cached tokens and the moments of text would be guesses."""
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    reply = Reply(asked=8, sent=-1.0, frames=timed(chat_lines(["", "Hel", "lo"], "stop", usage)))
    read_chat(reply)
    assert (reply.text, reply.error, reply.good) == ("Hello", "", True)
    assert (reply.prompt_tokens, reply.cached_tokens, reply.tokens) == (9, 4, 5)
    assert (reply.arrivals, reply.ttft, reply.gaps, reply.pace) == ([1.0, 2.0], 2.0, [1.0], 0.25)


@pytest.mark.parametrize(("finish", "tokens"), [("length", 8), ("stop", 2)])
def test_a_server_without_usage_is_counted(finish: str, tokens: int) -> None:
    """A server that puts two tokens in a frame would seem half as fast."""
    reply = Reply(asked=8, frames=timed(chat_lines(["a", "b"], finish)))
    read_chat(reply)
    assert (reply.tokens, reply.error) == (tokens, "")


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (chat_lines(["a"], None), NO_END),
        (chat_lines([]), NO_TEXT),
        ([], NO_END),
        ([*chat_lines(["a"], None), b'{"error": {"message": "the engine died"}}'], "the engine died"),
        ([b"<html>"], "not a JSON object: b'<html>'"),
        ([b"[1]"], "not a JSON object: b'[1]'"),
    ],
)
def test_a_broken_chat_is_an_error(lines: list[bytes], error: str) -> None:
    """A reply that was cut off would count as a fast one."""
    reply = Reply(frames=timed(lines))
    read_chat(reply)
    assert (reply.error, reply.good) == (error, False)


def test_a_reply_that_was_left_is_no_error() -> None:
    """Every stream beside a long prompt would be told as failed."""
    reply = Reply(frames=timed(chat_lines(["a", "b"], None)), stopped=True)
    read_chat(reply)
    assert (reply.error, reply.good, reply.gaps) == ("", True, [1.0])


def test_responses_are_read_as_they_were_told() -> None:
    """The WebSocket's figures would not be those of SSE."""
    usage = {"input_tokens": 9, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}
    events = [
        {"type": "response.created", "response": {"id": "resp_1", "usage": None}},
        {"type": "response.output_text.delta", "delta": "Hel"},
        {"type": "response.output_text.delta", "delta": "lo"},
        {"type": "response.incomplete", "response": {"id": "resp_1", "usage": usage}},
    ]
    reply = Reply(frames=timed([*(json.dumps(event).encode() for event in events), b"[DONE]"]))
    read_responses(reply)
    assert (reply.text, reply.error, reply.id, reply.arrivals) == ("Hello", "", "resp_1", [1.0, 2.0])
    assert (reply.prompt_tokens, reply.cached_tokens, reply.tokens) == (9, 4, 5)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.failed", "response": {"error": {"message": "it broke"}}},
        {"type": "error", "status": 400, "error": {"message": "it broke"}},
        {"type": "error", "message": "it broke"},
    ],
)
def test_a_failed_response_is_an_error(event: dict[str, object]) -> None:
    """A refusal would count as a reply without text."""
    reply = Reply(frames=timed([json.dumps(event).encode()]))
    read_responses(reply)
    assert reply.error == "it broke"
