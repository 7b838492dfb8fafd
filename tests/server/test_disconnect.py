"""A client that leaves stops its work at once: seen through the count of open requests in /readyz."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx2
import pytest
from websockets.sync.client import connect

if TYPE_CHECKING:
    from tests.conftest import Server

TALK = "conv_" + "0" * 32
LONG = {"messages": [{"role": "user", "content": "Tell me all you know."}], "max_tokens": 3000, "ignore_eos": True}


def raw_request(
    server: Server, body: Mapping[str, object], path: str = "/v1/chat/completions", more: bytes = b"", head: str = ""
) -> socket.socket:
    """A connection on which this was sent; `head` has further headers, and `more` goes in the same packet."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(data)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(head.encode() + data + more)
    return connection


def wait_open(server: Server) -> None:
    deadline = time.monotonic() + 30
    while not server.ready()["open"]:
        assert time.monotonic() < deadline, "the request never started"


def assert_only_left(server: Server, id: str) -> None:
    """The request of this id got the status 499, which the access log alone has."""
    deadline = time.monotonic() + 20
    while not (lines := [line for line in server.log.read_text().splitlines() if id in line]):
        assert time.monotonic() < deadline, "the server did not notice that its client has left"
        time.sleep(0.02)
    assert [json.loads(line).get("status") for line in lines] == [499]
    problems = httpx2.get(f"{server.url}/v1/errors/recent").json()["data"]
    assert id not in [problem["request_id"] for problem in problems]


@pytest.fixture(autouse=True)
def _nobody_before(server: Server) -> None:
    """Replies of tests before, which would not end while the engine is held."""
    server.wait_idle()


def reset(connection: socket.socket) -> None:
    """Close with RST, as a crashed client does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("more", [{}, {"n": 3, "temperature": 1}], ids=["one", "several choices"])
def test_leaving_a_stream(server: Server, more: dict[str, int]) -> None:
    """If this fails, every closed browser tab goes on costing compute until its answer's end, or only the first of `n`
    replies is cancelled."""
    body = {**LONG, "stream": True, **more}
    with ExitStack() as stack:
        with httpx2.stream("POST", server.url + "/v1/chat/completions", json=body, timeout=30) as answer:
            chunks = answer.iter_raw()
            next(chunks)
            stack.enter_context(server.held())
            wait_open(server)
        server.wait_idle()


def test_leaving_while_waiting_for_the_whole_answer(server: Server) -> None:
    """If this fails, clients with a short timeout and retries pile up work that nobody reads."""
    with server.held():
        connection = raw_request(server, LONG)
        wait_open(server)
        connection.close()
        server.wait_idle()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/responses/input_tokens",
        "/v1/responses/compact",
        "/v1/conversations",
        f"/v1/conversations/{TALK}",
        f"/v1/conversations/{TALK}/items",
        f"/v1/conversations/{TALK}/items/msg_{'0' * 32}/feedback",
        f"/v1/conversations/{TALK}/handoff",
        f"/v1/handoffs/hnd_{'0' * 32}",
        "/v1/visitors",
        "/v1/widget/sessions",
    ],
)
def test_leaving_before_all_is_sent(server: Server, path: str) -> None:
    """If this fails, every broken connection is an error of the server's in its log and on the operator's page."""
    id = f"half-sent{path.replace('/', '-')}"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {id}\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + b'{"input": ')
    assert_only_left(server, id)


def test_leaving_before_the_answer_is_no_error(server: Server) -> None:
    """If this fails, every impatient client is an error of the server's in its log and on the operator's page."""
    for path, body in (("/v1/chat/completions", LONG), ("/v1/responses/compact", {"input": "Where is it? " * 20})):
        id = f"left{path.replace('/', '-')}"
        with server.held():
            connection = raw_request(server, body, path, head=f"X-Request-Id: {id}\r\n")
            wait_open(server)
            connection.close()
            server.wait_idle()
        assert_only_left(server, id)


@pytest.mark.parametrize("stream", [False, True])
def test_reset_right_after_the_request(server: Server, stream: bool) -> None:
    """If this fails, a client that leaves before the stream's first frame leaves its reply running."""
    with server.held():
        for pause in (0, 0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05):
            for connection in [raw_request(server, {**LONG, "stream": stream}) for _ in range(4)]:
                time.sleep(pause)
                reset(connection)
        server.wait_idle()


def test_leaving_with_another_request_behind(server: Server) -> None:
    """If this fails, the reply of a client that sends its next request early goes on when that client leaves."""
    with server.held():
        connection = raw_request(server, LONG, more=b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n")
        wait_open(server)
        connection.close()
        server.wait_idle()


def test_leaving_a_compaction(server: Server) -> None:
    """If this fails, a client that asks for a summary and leaves, again and again, keeps the engine busy."""
    with server.held():
        connection = raw_request(server, {"input": "Where is my parcel? " * 20}, "/v1/responses/compact")
        wait_open(server)
        connection.close()
        server.wait_idle()


def test_leaving_a_socket(server: Server) -> None:
    """If this fails, a closed WebSocket's reply runs to its end though nobody can ever read it."""
    with ExitStack() as stack:
        with connect(server.ws_url + "/v1/responses", proxy=None) as client:
            client.send(json.dumps({"type": "response.create", "input": "Talk.", "ignore_eos": True, "store": False}))
            client.recv(30)
            stack.enter_context(server.held())
            wait_open(server)
        server.wait_idle()


@pytest.mark.parametrize("abandon", ["at_once", "grace"])
def test_leaving_a_stored_reply(start_server: Callable[..., Server], abandon: str) -> None:
    """If this fails, the operator's word on replies that nobody reads any more does not count."""
    server = start_server(abandon=abandon, abandon_seconds="3600" if abandon == "at_once" else "3")
    body = {"input": "Talk.", "ignore_eos": True, "stream": True}
    with ExitStack() as stack:
        with httpx2.stream("POST", server.url + "/v1/responses", json=body, timeout=20) as answer:
            lines = answer.iter_lines()
            next(lines)
            created = json.loads(next(lines).removeprefix("data: "))["response"]["id"]
            stack.enter_context(server.held())
            wait_open(server)
        if abandon == "grace":
            time.sleep(0.3)
            assert server.ready()["open"] == 1
        server.wait_idle()
    deadline = time.monotonic() + 20
    while (status := httpx2.get(f"{server.url}/v1/responses/{created}").json()["status"]) == "in_progress":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert status == "cancelled"


def deaf(server: Server) -> socket.socket:
    """A connection whose buffers are full after a few kilobytes."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    return connection


def wait_until_dropped(server: Server) -> None:
    wait_open(server)
    server.wait_idle(20)
    deadline = time.monotonic() + 20
    while "reader stalled" not in server.log.read_text():
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.1)
    assert "Traceback" not in server.log.read_text()


def test_a_reader_that_stops_reading_is_dropped(start_server: Callable[..., Server]) -> None:
    """If this fails, stalled readers hold sockets and memory for ever."""
    server = start_server(send_timeout="0.5", ping_seconds="0.1")
    body = {**LONG, "stream": True, "logprobs": True, "top_logprobs": 20}  # about 4 kB a token
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    with deaf(server) as connection:
        connection.sendall(head.encode() + data)
        wait_until_dropped(server)


def test_a_socket_that_stops_reading_is_dropped(start_server: Callable[..., Server]) -> None:
    """If this fails, stalled readers of the WebSocket hold sockets and memory for ever."""
    server = start_server(send_timeout="0.5", abandon="at_once")
    body = {
        "type": "response.create", "input": "Tell me everything.", "max_output_tokens": 2000, "store": False,
        "top_logprobs": 20, "include": ["message.output_text.logprobs"], "ignore_eos": True,
    }  # fmt: skip
    data = json.dumps(body).encode()
    head = "GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    keys = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    with deaf(server) as connection:
        connection.sendall((head + keys).encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 101")
        connection.sendall(b"\x81\xfe" + len(data).to_bytes(2, "big") + b"\0\0\0\0" + data)  # RFC 6455, 5.2
        wait_until_dropped(server)
