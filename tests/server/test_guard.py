"""Clients that are slow, silent, large or many: what the protocol guard does before there is a request.

Raw sockets, since no well-behaved client can do this. The server runs with short deadlines.
"""

from __future__ import annotations

import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from frontdesk.fleet.tokenizer import open_tokenizer

if TYPE_CHECKING:
    from tests.conftest import Server

SHIPPED = Path(__file__).parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
SOON = 8.0  # seconds: long for a busy machine, shorter than the deadlines that hold unless they are set
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


CHUNKED = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
HANDSHAKE = (
    b"GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
STREAM = b'{"stream": true, "ignore_eos": true, "max_tokens": 400, "n": 2, "prompt": "Once", "temperature": 1}'
TINY = b'{"prompt": "Hi", "max_tokens": 1}'


@pytest.fixture(scope="module")
def strict(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Server]:
    with launch(header_timeout="0.4", body_timeout="0.7", max_connections="20") as server:
        yield server


@pytest.fixture
def connection(strict: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", strict.port), timeout=30) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """Everything up to the end of the connection; a reset is an end."""
    data = b""
    try:
        while part := connection.recv(65_536):
            data += part
    except ConnectionResetError:
        pass
    return data


def post(body: bytes, more: bytes = b"") -> bytes:
    """A request to `/v1/completions`; `more` are headers."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(body)
    return head + more + b"\r\n" + body


@contextmanager
def streaming(server: Server, more: bytes = b"") -> Iterator[socket.socket]:
    """A connection on which the answer to `STREAM` has begun; `more` was sent together with it."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(post(STREAM) + more)
        data = b""
        while b"data: {" not in data:
            data += (part := connection.recv(4096))
            assert part
        assert data.startswith(b"HTTP/1.1 200")
        yield connection


def seconds_to_end(connection: socket.socket) -> tuple[float, bytes]:
    began = time.monotonic()
    data = read_all(connection)
    return time.monotonic() - began, data


def test_a_silent_connection_is_closed(connection: socket.socket) -> None:
    """If this fails, connections that say nothing use up all file descriptors."""
    seconds, data = seconds_to_end(connection)
    assert seconds < SOON
    assert data == b""


def test_half_a_head_is_answered_with_408(connection: socket.socket) -> None:
    """If this fails, slowloris works: one byte now and then holds a connection for ever."""
    began = time.monotonic()
    connection.sendall(HEAD)
    with suppress(BrokenPipeError, ConnectionResetError):
        while not select.select([connection], [], [], 0.05)[0]:
            assert time.monotonic() - began < SOON
            connection.sendall(b"X-A: b\r\n")
    data = read_all(connection)
    assert data.startswith(b"HTTP/1.1 408")
    assert b'"request_timeout"' in data


def test_the_operator_sees_what_never_became_a_request(strict: Server, connection: socket.socket) -> None:
    """If this fails, clients behind a bad line are cut off and nobody finds out why."""
    connection.sendall(HEAD)
    assert read_all(connection).startswith(b"HTTP/1.1 408")
    error = httpx2.get(strict.url + "/v1/errors/recent?limit=1").json()["data"][0]
    assert (error["status"], error["code"], error["request_id"]) == (408, "request_timeout", None)


def test_half_a_body_is_answered_with_408(connection: socket.socket) -> None:
    """If this fails, slow POSTs hold a connection and a task for ever."""
    connection.sendall(HEAD + b'Content-Length: 500\r\n\r\n{"messages"')
    seconds, data = seconds_to_end(connection)
    assert seconds < SOON
    assert data.startswith(b"HTTP/1.1 408")


def test_the_second_request_has_deadlines_too(connection: socket.socket) -> None:
    """If this fails, one good request buys a connection without limits."""
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200")
    time.sleep(1.0)  # an idle connection may stay
    connection.sendall(b"GET /livez HTT")
    seconds, data = seconds_to_end(connection)
    assert seconds < SOON
    assert data.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("line", [b"X-A: " + b"x" * 65_536, b"X-A: b\r\n" * 8000], ids=["long", "many"])
def test_a_large_head_is_answered_with_431(connection: socket.socket, line: bytes) -> None:
    """If this fails, headers of any size are collected in memory, without a key."""
    connection.sendall(HEAD + line)
    assert read_all(connection).startswith(b"HTTP/1.1 431")


def test_an_endless_header_costs_no_memory(strict: Server) -> None:
    """If this fails, sixty-four megabytes of header are sixty-four megabytes of the server's memory."""
    before = resident(strict)
    with socket.create_connection(("127.0.0.1", strict.port), timeout=5) as connection:
        try:
            connection.sendall(HEAD + b"X-A: ")
            for _ in range(1024):
                connection.sendall(b"x" * 65_536)
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert resident(strict) - before < 5_000_000


def test_an_endless_head_behind_a_running_request_costs_no_memory(strict: Server) -> None:
    """If this fails, whoever has one answer under way may fill the memory with the next request's head."""
    endless = b'"logit_bias": {"%d": -100}' % open_tokenizer(SHIPPED).eos
    body = b'{"messages": [{"role": "user", "content": "Hi"}], "stream": true, %b}' % endless
    before = resident(strict)
    with socket.create_connection(("127.0.0.1", strict.port), timeout=5) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(12) == b"HTTP/1.1 200"
        sent = 0
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(b"GET /livez HTTP/1.1\r\nX-A: ")
            for sent in range(1024):  # noqa: B007
                connection.sendall(b"x" * 65_536)
        assert sent < 1023
    assert resident(strict) - before < 5_000_000


def test_a_body_behind_its_answer_leaves_a_deadline(strict: Server, connection: socket.socket) -> None:
    """If this fails, twenty requests that were refused before their bodies came shut everybody out for ever."""
    connection.sendall(b"POST /v1/nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n")
    assert connection.recv(12) == b"HTTP/1.1 404"
    connection.sendall(b"{}")
    seconds, _ = seconds_to_end(connection)
    assert seconds < SOON


@pytest.mark.parametrize("header", [b"Origin: https://evil.example", b"X-Forwarded-For: 203.0.113.9"])
def test_a_handshake_with_a_large_head_is_refused(connection: socket.socket, header: bytes) -> None:
    """If this fails, a header that forbids the connection is not seen behind one that is too long."""
    connection.sendall(HANDSHAKE + b"X-A: " + b"x" * 33_000 + b"\r\n" + header + b"\r\n\r\n")
    assert read_all(connection).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("endless", [b"2\r\n{}\r\n0\r\nX-T: ", b"2;x="], ids=["trailer", "chunk extension"])
def test_endless_framing_is_cut(server: Server, endless: bytes) -> None:
    """If this fails, what stands around and behind chunks gets around every limit on heads and bodies."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        sent = 0
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(CHUNKED + b"\r\n" + endless)
            for sent in range(1024):  # noqa: B007
                connection.sendall(b"x" * 65_536)
        assert sent < 1023
        answer = read_all(connection)
        assert not answer or answer.startswith(b"HTTP/1.1 413")


def test_chunks_of_one_byte_are_taken(server: Server) -> None:
    """If this fails, a client that writes its body byte by byte is taken for an attack."""
    body = TINY.removesuffix(b"}") + b" " * 400_000 + b"}"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(CHUNKED + b"Connection: close\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_too_many_connections_get_503_and_the_server_recovers(strict: Server) -> None:
    """If this fails, a crowd ends in resets or hangs instead of an answer that says when to come back."""
    crowd = [socket.create_connection(("127.0.0.1", strict.port), timeout=30) for _ in range(25)]
    try:
        crowd[-1].sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = read_all(crowd[-1])
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 2" in answer
    finally:
        for connection in crowd:
            connection.close()
    deadline = time.monotonic() + 20
    while httpx2.get(strict.url + "/livez").status_code != 200:
        assert time.monotonic() < deadline


def test_what_follows_a_request_does_not_cut_its_stream(strict: Server) -> None:
    """If this fails, a client that sends a stray line break after its request loses its answer at the deadline."""
    with socket.create_connection(("127.0.0.1", strict.port), timeout=60) as connection:
        connection.sendall(post(STREAM) + b"\r\n")
        began = time.monotonic()
        data = b""
        while b"[DONE]" not in data:
            part = connection.recv(65_536)
            assert part, f"cut after {time.monotonic() - began:.1f} s"
            data += part


@pytest.mark.parametrize(("rest", "status"), [(TINY, 200), (b"", 408)], ids=["comes", "never comes"])
def test_a_body_behind_a_stream_has_its_deadline_later(strict: Server, rest: bytes, status: int) -> None:
    """If this fails, a client that sends its next question early gets a refusal in the middle of its answer, or one
    that keeps the question's body to itself holds a connection for ever."""
    with streaming(strict) as connection:
        with strict.held():
            connection.sendall(post(TINY, b"Connection: close\r\n").removesuffix(TINY))
            time.sleep(1.5)  # longer than any of the deadlines
            connection.sendall(rest)
        data = read_all(connection)
    assert 0 < data.find(b"[DONE]") < data.find(b"HTTP/1.1 %d" % status), data[-1000:]
    assert data.count(b"HTTP/1.1 ") == 1


def test_a_body_that_is_too_wide_does_not_write_into_a_stream(strict: Server) -> None:
    """If this fails, the refusal of a request stands in the middle of the answer to the one before."""
    with streaming(strict, CHUNKED + b"\r\n") as connection, strict.held():
        with suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(1024):
                connection.sendall(b"2;" + b"x" * 65_536)
        assert b"HTTP/1.1" not in read_all(connection)


def test_a_handshake_behind_a_stream_is_cut(strict: Server) -> None:
    """If this fails, the frames of a socket stand in the middle of an answer, which goes on when its reader leaves."""
    with streaming(strict) as connection, strict.held():
        connection.sendall(HANDSHAKE + b"\r\n")
        assert b"HTTP/1.1" not in read_all(connection)
        strict.wait_idle()


def test_what_follows_two_requests_does_not_cut_the_second_stream(strict: Server) -> None:
    """If this fails, a stray line break behind two questions costs the second one its answer."""
    with streaming(strict, post(STREAM)) as connection:
        connection.sendall(b"\r\n")
        data = b""
        while b"HTTP/1.1 200" not in data:
            data += (part := connection.recv(65_536))
            assert part
        with strict.held():
            time.sleep(1.0)  # longer than the deadline for a head
        while data.count(b"[DONE]") < 2:
            data += (part := connection.recv(65_536))
            assert part, "cut"


def test_few_file_descriptors(tmp_path: Path) -> None:
    """If this fails, a low limit of open files ends in a loop of failing accepts instead of a clear 503."""
    command = f"ulimit -n 160; exec {sys.executable} -m frontdesk serve --port 0"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["sh", "-c", command], stdout=log, stderr=log, start_new_session=True)
    crowd: list[socket.socket] = []
    try:
        port = printed_port(tmp_path / "log")
        crowd = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(60)]
        crowd[-1].sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_all(crowd[-1]).startswith(b"HTTP/1.1 503")
    finally:
        for connection in crowd:
            connection.close()
        process.kill()
        process.wait()


def printed_port(log: Path) -> int:
    deadline = time.monotonic() + 120
    while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return int(found[1])


def test_slow_clients_do_not_slow_others(server: Server) -> None:
    """If this fails, ten bad clients are enough to stop the service for everybody."""
    bad = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
    for connection in bad:
        connection.sendall(HEAD)
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        for _ in range(10):
            assert client.get("/livez").status_code == 200
    assert not select.select(bad, [], [], 0)[0], "the others had to wait until these were sent away, after ten seconds"
    for connection in bad:
        connection.close()


def test_rubbish_gets_400(connection: socket.socket) -> None:
    """If this fails, bytes that are no HTTP hang or crash the connection's task."""
    connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not http\r\n\r\n")
    assert read_all(connection).startswith(b"HTTP/1.1 400")


def resident(server: Server) -> int:
    """Bytes of memory that the server's process holds."""
    status = Path(f"/proc/{server.process.pid}/status")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
