"""The bytes of an event stream and the life of a WebSocket, as far as the edge is responsible for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

if TYPE_CHECKING:
    from tests.conftest import Server

CHAT = "/v1/chat/completions"
LAST = ("response.completed", "response.incomplete", "response.failed", "error")
HELLO = {"messages": [{"role": "user", "content": "Hello!"}], "temperature": 0, "stream": True}


def stream(server: Server, body: dict[str, Any], path: str = CHAT) -> tuple[httpx2.Response, str]:
    with httpx2.stream("POST", server.url + path, json=body, timeout=60) as answer:
        text = "".join(answer.iter_text())
    return answer, text


def test_headers_of_a_stream(server: Server) -> None:
    """If this fails, a proxy buffers, caches or compresses the stream until it is over."""
    answer, _ = stream(server, HELLO)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses"])
def test_only_lines_that_every_client_understands(start_server: Callable[..., Server], path: str) -> None:
    """If this fails, OpenAI's Python client breaks: it cannot take `id:` or `retry:` together with comments."""
    server = start_server(ping_seconds="0.1")
    question = {CHAT: HELLO, "/v1/completions": {"prompt": "Hello"}, "/v1/responses": {"input": "Hello"}}[path]
    limit = {"max_output_tokens" if path == "/v1/responses" else "max_tokens": 900}
    _, text = stream(server, {**question, **limit, "stream": True, "ignore_eos": True}, path)
    lines = [line for line in text.split("\n") if line]
    assert all(line.startswith(("data: ", "event: ", ": ")) for line in lines)
    comments = {line for line in lines if line.startswith(": ")}
    assert comments, "a reply of a second or more had no keep-alive"
    assert all(line.split()[1] in ("ping", "prefill", "queued") for line in comments)


def test_the_place_in_the_line_is_told_at_once(start_server: Callable[..., Server]) -> None:
    """If this fails, a page that waits behind others says nothing before the first keep-alive, or old places."""
    server = start_server(slots="1", ping_seconds="3600")
    talk = {**HELLO, "ignore_eos": True}
    with ExitStack() as closing:
        first, second, third = (
            closing.enter_context(open_stream(server, talk | {"max_tokens": most})) for most in (3000, 3000, 300)
        )
        assert comment(third) == ": queued 2"
        assert comment(second) == ": queued 1"
        first.close()
        assert comment(third) == ": queued 1"
        second.close()
        rest = list(third.lines)
    assert [line for line in rest if line.startswith(":")] in ([], [": prefill"])
    assert rest[-2:] == ["data: [DONE]", ""]


def test_who_does_not_wait_is_told_nothing(start_server: Callable[..., Server]) -> None:
    """If this fails, every stream has something in it that only those who wait want to know."""
    _, text = stream(start_server(slots="1", ping_seconds="3600"), HELLO)
    assert not [line for line in text.split("\n") if line.startswith(":")]


class Listening:
    """A chat completion that is being streamed."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.lines = answer.iter_lines()
        self.close = answer.close


@contextmanager
def open_stream(server: Server, body: dict[str, Any]) -> Iterator[Listening]:
    with httpx2.stream("POST", server.url + CHAT, json=body, timeout=60) as answer:
        yield Listening(answer)


def comment(stream: Listening) -> str:
    """The next one."""
    return next(line for line in stream.lines if line.startswith(":"))


def test_several_choices_arrive_interleaved(server: Server) -> None:
    """If this fails, `n` replies come one after the other, or one of them is lost."""
    _, text = stream(server, {**HELLO, "n": 3, "temperature": 1, "seed": 7, "max_tokens": 30, "ignore_eos": True})
    chunks = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]
    order = [choice["index"] for chunk in chunks for choice in chunk["choices"]]
    assert set(order) == {0, 1, 2}
    assert order != sorted(order)
    assert text.rstrip().endswith("[DONE]")


def test_stream_and_whole_answer_agree(server: Server) -> None:
    """If this fails, streaming clients read other words than the rest."""
    _, text = stream(server, HELLO)
    chunks = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]
    streamed = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    whole = httpx2.post(server.url + CHAT, json={**HELLO, "stream": False}, timeout=60).json()
    assert streamed == whole["choices"][0]["message"]["content"] != ""


def test_a_full_line_is_refused_with_429(start_server: Callable[..., Server]) -> None:
    """If this fails, a crowd waits for minutes instead of being told to come back, or clients do not come back."""
    server = start_server(max_waiting="2")
    for wanted in (False, True):
        refused = httpx2.post(server.url + CHAT, json={**HELLO, "n": 3, "temperature": 1, "stream": wanted})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "x-should-retry" not in refused.headers
        assert refused.json()["error"]["code"] == "server_overloaded"
    with connect(server.ws_url + "/v1/responses", proxy=None) as socket:
        talk = {"type": "response.create", "input": "Talk.", "ignore_eos": True, "max_output_tokens": 3000}
        with connect(server.ws_url + "/v1/responses", proxy=None) as other:
            for busy in (socket, other):
                busy.send(json.dumps(talk))
                busy.recv(30)
            with connect(server.ws_url + "/v1/responses", proxy=None) as third:
                assert turn(third, input="Hi")[-1]["status"] == 429


def test_request_ids(server: Server) -> None:
    """If this fails, a user's report cannot be matched to a log line, or a client can write into the log."""
    assert httpx2.get(server.url + "/livez", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    for bad in ("a b", "x" * 200, "a\tb", "%0a<script>"):
        given = httpx2.get(server.url + "/livez", headers={"x-request-id": bad}).headers["x-request-id"]
        assert given.startswith("req_")


def test_nothing_that_was_said_is_logged(start_server: Callable[..., Server]) -> None:
    """If this fails, prompts, keys and queries lie around in log files."""
    server = start_server("--log-level", "debug")
    secret = "Xanadu-7731"
    headers = {"authorization": f"Bearer {secret}", "x-thing": secret}
    for role, status in (("user", 200), (secret, 400)):
        asked = {"messages": [{"role": role, "content": secret}], "max_tokens": 2}
        answer = httpx2.post(server.url + CHAT + f"?q={secret}", json=asked, headers=headers, timeout=60)
        assert answer.status_code == status
    with connect(f"{server.ws_url}/v1/responses?key={secret}", additional_headers=headers, proxy=None) as socket:
        assert turn(socket, input=secret, max_output_tokens=2)[-1]["type"] != "error"
    server.stop()
    logged = server.log.read_text(errors="replace")
    assert CHAT in logged
    assert secret not in logged


# --- the WebSocket ----------------------------------------------------------------------------------------------------


def turn(socket: ClientConnection, **fields: Any) -> list[dict[str, Any]]:
    """Send one `response.create` and read to its last event."""
    socket.send(json.dumps({"type": "response.create", **fields}))
    return read_turn(socket)


def read_turn(socket: ClientConnection) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] not in LAST:
        events.append(json.loads(socket.recv(20)))
    return events


def test_many_turns_on_one_socket(server: Server) -> None:
    """If this fails, a conversation needs a new connection for every question."""
    with connect(server.ws_url + "/v1/responses", proxy=None) as socket:
        first = turn(socket, input="Hello!", max_output_tokens=20)
        second = turn(socket, input="And you?", max_output_tokens=20, previous_response_id=first[-1]["response"]["id"])
        assert first[-1]["type"] in ("response.completed", "response.incomplete")
        used = [events[-1]["response"]["usage"]["input_tokens"] for events in (first, second)]
        assert used[1] > used[0]


def test_cancel_while_it_streams(server: Server) -> None:
    """If this fails, the stop button does nothing until the answer is over."""
    with connect(server.ws_url + "/v1/responses", proxy=None) as socket:
        socket.send(json.dumps({"type": "response.create", "input": "Talk.", "ignore_eos": True}))
        for _ in range(6):
            socket.recv(10)
        socket.send('{"type": "response.cancel"}')
        last = read_turn(socket)[-1]
        assert last["type"] == "response.incomplete"
        assert last["response"]["status"] == "cancelled"
        assert turn(socket, input="Hi", max_output_tokens=2)[0]["type"] == "response.created"
    server.wait_idle()


def test_turns_wait_in_line(server: Server) -> None:
    """If this fails, a client that sends two questions at once gets mixed or missing answers."""
    with connect(server.ws_url + "/v1/responses", proxy=None) as socket:
        for length in (3, 4, 5):
            socket.send(json.dumps({"type": "response.create", "input": "Hi", "max_output_tokens": length}))
        for length in (3, 4, 5):
            assert read_turn(socket)[-1]["response"]["max_output_tokens"] == length


def test_warm_up(server: Server) -> None:
    """If this fails, a widget cannot prepare the prompt while the visitor is still typing."""
    with connect(server.ws_url + "/v1/responses", proxy=None) as socket:
        events = turn(socket, input="Hello there, warm up please.", generate=False)
        assert events[-1]["type"] == "response.completed"
        assert events[-1]["response"]["usage"]["output_tokens"] == 0


@pytest.mark.parametrize(("message", "code"), [(b"binary", 1003), ("x" * 1_100_000, 1009)])
def test_close_codes(server: Server, message: str | bytes, code: int) -> None:
    """If this fails, a client does not learn what it did wrong, or a message of any size is taken."""
    with connect(server.ws_url + "/v1/responses", proxy=None) as socket:
        socket.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code


def test_a_flood_of_turns_is_refused(server: Server) -> None:
    """If this fails, one connection can queue work without end."""
    with connect(server.ws_url + "/v1/responses", proxy=None) as socket, server.held():
        for _ in range(12):
            event = {"type": "response.create", "input": "Talk.", "ignore_eos": True, "max_output_tokens": 300}
            socket.send(json.dumps(event))
        while (event := json.loads(socket.recv(20)))["type"] != "error":
            pass
        assert event["error"]["code"] == "too_many_queued"
    server.wait_idle()
