"""How a server ends: running answers get their time, new requests a clear 503, the exit code tells the reason."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from frontdesk.store.postgres import STARTING_SECONDS

if TYPE_CHECKING:
    from tests.conftest import Server

CHAT = "/v1/chat/completions"
LONG = {
    "messages": [{"role": "user", "content": "Tell me all you know."}],
    "max_tokens": 200,
    "ignore_eos": True,
    "stream": True,
}


def stream(server: Server, body: dict[str, object], begun: Callable[[], None]) -> list[str]:
    """All lines of an event stream; `begun` is called after the first bytes."""
    lines: list[str] = []
    with httpx2.stream("POST", server.url + CHAT, json=body, timeout=60) as answer:
        for line in answer.iter_lines():
            if not lines:
                begun()
            lines.append(line)
    return [line for line in lines if line]


def chunks(lines: list[str]) -> list[dict[str, object]]:
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def test_running_streams_finish(start_server: Callable[..., Server]) -> None:
    """If this fails, every deployment cuts the answers that are being read."""
    server = start_server(drain_seconds="60")
    with ThreadPoolExecutor(4) as pool:
        began: list[int] = []
        streams = [pool.submit(stream, server, LONG, lambda: began.append(1)) for _ in range(4)]
        wait(lambda: len(began) == 4)
        assert server.stop() == 0
        for finished in streams:
            lines = finished.result()
            assert lines[-1] == "data: [DONE]"
            assert chunks(lines)[-1]["choices"][0]["finish_reason"] == "length"  # pyright: ignore[reportIndexIssue]


def test_new_requests_are_refused_while_it_ends(start_server: Callable[..., Server]) -> None:
    """If this fails, a load balancer goes on sending work to a server that is about to stop."""
    server = start_server(drain_seconds="60")
    with ThreadPoolExecutor(2) as pool:
        began: list[int] = []
        running = pool.submit(stream, server, {**LONG, "max_tokens": 600}, lambda: began.append(1))
        wait(lambda: bool(began))
        with server.held():  # the answer is not over, and the server not gone, before the others have asked
            server.process.send_signal(signal.SIGTERM)
            wait(lambda: stopping(server))
            refused = httpx2.post(server.url + CHAT, json=LONG)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "engine_not_ready"
        assert running.result()[-1] == "data: [DONE]"
    assert server.process.wait(60) == 0


def test_what_takes_too_long_ends_with_an_error(start_server: Callable[..., Server]) -> None:
    """If this fails, a cut answer looks like a finished one, or the server never ends."""
    server = start_server(drain_seconds="0.3")
    with ThreadPoolExecutor(1) as pool:
        began: list[int] = []
        running = pool.submit(
            stream, server, {**LONG, "n": 8, "temperature": 1, "max_tokens": 3000}, lambda: began.append(1)
        )
        wait(lambda: bool(began))
        before = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - before < 10
        lines = running.result()
    assert "error" in chunks(lines)[-1]
    assert "data: [DONE]" not in lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_second_signal_ends_the_waiting(start_server: Callable[..., Server], number: signal.Signals) -> None:
    """If this fails, a person at the terminal has to wait or to kill, or a cut answer looks like a finished one."""
    server = start_server(drain_seconds="60")
    with ThreadPoolExecutor(1) as pool:
        began: list[int] = []
        running = pool.submit(
            stream, server, {**LONG, "n": 8, "temperature": 1, "max_tokens": 3000}, lambda: began.append(1)
        )
        wait(lambda: bool(began))
        server.process.send_signal(number)
        wait(lambda: stopping(server))  # two signals at once may be one
        before = time.monotonic()
        server.stop(number)
        assert time.monotonic() - before < 10
        lines = running.result()
    assert "error" in chunks(lines)[-1]
    assert "data: [DONE]" not in lines


def test_a_socket_finishes_its_turn_and_closes_with_1012(start_server: Callable[..., Server]) -> None:
    """If this fails, SDKs see a protocol error instead of "come back", or an answer is cut."""
    server = start_server(drain_seconds="60")
    url = server.ws_url + "/v1/responses"
    with connect(url, proxy=None) as idle, connect(url, proxy=None) as busy:
        event = {"type": "response.create", "input": "Talk.", "ignore_eos": True, "max_output_tokens": 400}
        busy.send(json.dumps(event))
        busy.recv(30)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            idle.recv(30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        events: list[dict[str, object]] = []
        while not events or events[-1]["type"] != "response.incomplete":
            events.append(json.loads(busy.recv(30)))
        with pytest.raises(ConnectionClosed) as closed:
            busy.recv(30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    assert server.process.wait(60) == 0


def test_the_engine_goes_with_the_server(start_server: Callable[..., Server]) -> None:
    """If this fails, killed servers leave engines behind that hold memory and cores."""
    server = start_server()
    engine = server.engine_pid
    server.process.kill()
    server.process.wait()
    wait(lambda: not Path(f"/proc/{engine}").exists(), seconds=30)


def run_serve(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "frontdesk", "serve", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def test_a_hung_up_terminal_stops_it_in_order(start_server: Callable[..., Server]) -> None:
    """A lost ssh session, or a logrotate that sends SIGHUP, would cut every answer without a word."""
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the server would inherit that it is ignored
    try:
        server = start_server(drain_seconds="60")
    finally:
        signal.signal(signal.SIGHUP, former)
    with ThreadPoolExecutor(1) as pool:
        began: list[int] = []
        finished = pool.submit(stream, server, LONG, lambda: began.append(1))
        wait(lambda: bool(began))
        assert server.stop(signal.SIGHUP) == 0
        assert finished.result()[-1] == "data: [DONE]"


def test_nobody_need_read_what_it_prints(tmp_path: Path) -> None:
    """`frontdesk serve | head -2` would end the server with a traceback as soon as it says that it is ready."""
    command = [sys.executable, "-m", "frontdesk", "serve", "--port", "0", "--database", str(tmp_path / "f.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline() and process.stdout.readline().split()[-1]
        process.stdout.close()
        wait(lambda: httpx2.get(url + "/readyz", timeout=30).status_code == 200)
        time.sleep(0.2)  # it says so a moment later
        assert httpx2.get(url + "/livez", timeout=30).status_code == 200
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Traceback" not in said


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    """If this fails, a broken download gives a stack trace, or a server that never gets ready."""
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF" + b"\x00" * 1000)
    ended = run_serve("--port", "0", "--model", str(file))
    assert ended.returncode == 2
    assert "broken.gguf" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_model_that_fails_while_loading(tmp_path: Path) -> None:
    """If this fails, a file whose head is right and whose tensors are cut hangs the start."""
    shipped = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
    file = tmp_path / "cut.gguf"
    file.write_bytes(shipped.read_bytes()[:-2_000_000])
    ended = run_serve("--port", "0", "--model", str(file))
    assert ended.returncode == 2
    assert "cut.gguf" in ended.stderr or "load" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken() -> None:
    """If this fails, the user waits for a model to load only to read "address already in use" in a stack trace."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run_serve("--port", str(taken.getsockname()[1]))
    assert ended.returncode == 2
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_signal_while_it_waits_for_the_database() -> None:
    """If this fails, Ctrl-C does nothing for a quarter of a minute where the database's address is wrong."""
    database = "postgresql://desk:secret@127.0.0.1:1/desk"
    command = [sys.executable, "-m", "frontdesk", "serve", "--port", "0", "--database", database]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = iter(process.stderr.readline, "")
        assert any("waiting for the database" in line for line in said)
        process.send_signal(signal.SIGTERM)
        process.wait(STARTING_SECONDS / 2)
        rest = process.stderr.read()
    assert "secret" not in rest
    assert "Traceback" not in rest


def stopping(server: Server) -> bool:
    return httpx2.get(server.url + "/readyz", timeout=30).status_code == 503


def wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
