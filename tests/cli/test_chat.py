"""`frontdesk chat` as a person and as a shell script use it: real processes, a real server, the shipped model."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from frontdesk.cli.conversation import Conversation, ServerUnreachable

if TYPE_CHECKING:
    from tests.conftest import Server

QUESTION = "When are you open?"
LONG = "Tell me about every product again. " * 540  # no window is so large


def _hear_ctrl_c() -> None:
    """A shell starts its background jobs, and with them everything below, with Ctrl-C ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Chat:
    """A running `frontdesk chat`; what it prints is in two files."""

    def __init__(self, folder: Path, *arguments: str, stdin: int = subprocess.PIPE, **variables: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FRONTDESK_")}
        environment = {**inherited, "XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200", **variables}
        self.out, self.err = folder / "out.txt", folder / "err.txt"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            command = [sys.executable, "-m", "frontdesk", "chat", *arguments]
            self.process = subprocess.Popen(
                command, stdin=stdin, stdout=out, stderr=err, env=environment, cwd=folder, start_new_session=True,
                preexec_fn=_hear_ctrl_c,
            )  # fmt: skip

    def type(self, text: str | bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(text.encode() if isinstance(text, str) else text)
        self.process.stdin.flush()

    def wait_for(self, file: Path, text: str, times: int = 1, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while file.read_text().count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} did not come: {file.read_text()}\n{self.err.read_text()}"
            time.sleep(0.02)

    def end(self, seconds: float = 60) -> int:
        if self.process.stdin:
            self.process.stdin.close()
        return self.process.wait(seconds)


@pytest.fixture
def chat(tmp_path: Path):
    started: list[Chat] = []

    def start(*arguments: str, stdin: int = subprocess.PIPE, **variables: str) -> Chat:
        started.append(Chat(tmp_path, *arguments, stdin=stdin, **variables))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.end()


def prompts(chat: Chat) -> list[int]:
    """Prompt tokens of each turn, as the notes tell them."""
    return [int(line.split()[0]) for line in chat.err.read_text().splitlines() if "tokens/s" in line]


def kept(server: Server) -> list[list[str]]:
    """The texts of every conversation that the server keeps, newest first."""
    found = httpx2.get(f"{server.url}/v1/conversations").json()["data"]
    pages: list[list[dict[str, Any]]] = [
        httpx2.get(f"{server.url}/v1/conversations/{each['id']}/items?order=asc").json()["data"] for each in found
    ]
    return [[item["content"][0]["text"] for item in page] for page in pages]


@contextmanager
def cutting_proxy(port: int, mark: bytes, times: int) -> Iterator[str]:
    """A way to the server that breaks the first connection on which `mark` came `times` times; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    cut = threading.Event()
    ends: list[socket.socket] = [listener]

    def forward(source: socket.socket, target: socket.socket, watched: bool) -> None:
        seen = b""
        try:
            while data := source.recv(65536):
                seen += data
                if watched and seen.count(mark) >= times and not cut.is_set():
                    cut.set()
                    behind = seen.split(mark, times)[-1]  # where an answer is fast, all of it
                    target.sendall(data[: len(data) - len(behind)])
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # closing alone says nothing while another thread still reads
            end.close()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", port))
            ends.extend((client, server))
            for pair in ((client, server, False), (server, client, True)):
                threading.Thread(target=forward, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert cut.is_set()
    finally:
        for end in ends:
            end.close()


def set_proxy(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for scheme in ("ws", "https", "http"):
        monkeypatch.setenv(f"{scheme}_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def hears_signals(process: subprocess.Popen[bytes]) -> bool:
    """Whether the program has said what becomes of SIGTERM, which it does once all of it is loaded."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def reads_keys(terminal: int) -> bool:
    """Whether the terminal hands on each key as it is: the program is at its prompt."""
    return not termios.tcgetattr(terminal)[3] & termios.ICANON


def test_one_question_one_answer(server: Server, chat: Callable[..., Chat]) -> None:
    """A script could not use the answer: stdout would hold nothing, or more than it."""
    one = chat("--url", server.url, "-m", QUESTION)
    assert one.end() == 0
    assert len(one.out.read_text().strip().splitlines()) == 1
    assert "tokens/s" in one.err.read_text()


def test_it_starts_a_server_of_its_own_and_stops_it(chat: Callable[..., Chat], tmp_path: Path) -> None:
    """Without a running server there would be no answer, or a model would stay in memory afterwards."""
    one = chat("-m", QUESTION)
    assert one.end() == 0
    assert one.out.read_text().strip()
    assert not [p for p in Path("/proc").glob("[0-9]*") if _works_in(p, tmp_path)]


def test_settings_reach_its_own_server(chat: Callable[..., Chat]) -> None:
    """`chat --ctx` would be ignored, and a wrong model would be a stack trace."""
    one = chat("--ctx", "128", "-m", QUESTION)
    assert one.end() == 1
    assert "exceeds the available context size (128 tokens)" in one.err.read_text()
    two = chat("--model", "gone.gguf", "-m", QUESTION)
    assert two.end() == 2
    assert two.err.read_text().startswith("frontdesk: ")
    assert "Traceback" not in two.err.read_text()


def test_each_line_of_a_pipe_is_a_turn(server: Server, chat: Callable[..., Chat]) -> None:
    """A script's questions would be merged, or the conversation forgotten between them."""
    one = chat("--url", server.url)
    one.type(f"{QUESTION}\n\nHow much is express shipping?\n/clear\n{QUESTION}\n/quit\nnever asked\n")
    assert one.end() == 0
    answers = one.out.read_text().splitlines()
    first, second, third = prompts(one)
    assert len(answers) == 3
    assert answers[0] == answers[2]
    assert first == third < second


def test_a_byte_that_is_no_text_costs_one_character(server: Server, chat: Callable[..., Chat]) -> None:
    """A file of questions in another encoding would end in a stack trace, and the questions behind it be lost."""
    one = chat("--url", server.url)
    one.type(b"caf\xe9?\nWhen are you open?\n")
    assert one.end() == 0
    assert len(prompts(one)) == 2
    assert "Traceback" not in one.err.read_text()
    assert "caf\N{REPLACEMENT CHARACTER}?" in kept(server)[0]


def test_instructions_can_be_set(server: Server, chat: Callable[..., Chat]) -> None:
    """/system would be sent to the model as a question, or not at all."""
    one = chat("--url", server.url)
    one.type(f"{QUESTION}\n/clear\n/system Be brief.\n{QUESTION}\n/nonsense\n")
    assert one.end() == 0
    notes = one.err.read_text()
    first, second = prompts(one)
    assert second < first
    assert "/nonsense is no command" in notes


def test_a_refused_turn_does_not_end_the_talk(server: Server, chat: Callable[..., Chat]) -> None:
    """One message that is too long would end the program, or poison every later turn."""
    one = chat("--url", server.url)
    one.type(f"{LONG}\n{QUESTION}\n")
    assert one.end() == 1
    assert "exceeds the available context size" in one.err.read_text()
    assert one.out.read_text().strip()


def test_the_server_keeps_the_conversation(chat: Callable[..., Chat], start_server: Callable[..., Server]) -> None:
    """A talk in the terminal could not be looked at or gone on with elsewhere; or /clear would only pretend to forget,
    or a single question would fill the database."""
    server = start_server()
    one = chat("--url", server.url)
    one.type(f"{QUESTION}\n")
    one.wait_for(one.err, "tokens/s")
    assert [len(texts) for texts in kept(server)] == [2]
    one.type(f"/clear\nHow much is express shipping?\n{QUESTION}\n")
    assert one.end() == 0
    (texts,) = kept(server)
    assert texts[::2] == ["How much is express shipping?", QUESTION]
    assert texts[1::2] == one.out.read_text().splitlines()[1:]
    assert chat("--url", server.url, "-m", QUESTION).end() == 0
    assert len(kept(server)) == 1


def test_a_talk_that_the_server_could_not_forget_is_over_here(start_server: Callable[..., Server]) -> None:
    """The next question would not be sent: the model would answer the old conversation without having seen it."""
    server = start_server()
    talk = Conversation(server.url, {}, print)
    list(talk.ask(QUESTION, lambda: False))
    address, talk.address = talk.address, "ws://127.0.0.1:9/v1/responses"
    with pytest.raises(ServerUnreachable):
        talk.clear()
    talk.address = address
    assert "".join(talk.ask("How much is express shipping?", lambda: False))
    talk.close()
    assert [texts[0] for texts in kept(server)] == ["How much is express shipping?", QUESTION]


def test_a_server_on_this_machine_is_asked_directly(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a company's proxy `frontdesk chat` could not reach even the server that it has started itself."""
    set_proxy(monkeypatch, "http://127.0.0.1:9")
    talk = Conversation(server.url, {}, print)
    assert "".join(talk.ask(QUESTION, lambda: False))
    assert talk.id
    talk.clear()
    talk.close()


@pytest.mark.parametrize(
    "proxy", ["socks5h://127.0.0.1:9", "proxy.example:3128", "http://me:secret@127.0.0.1:9/x", "http://127.0.0.1:x"]
)
def test_a_proxy_that_cannot_be_used_is_told(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The talk would end in a stack trace, or the proxy's password be printed."""
    set_proxy(monkeypatch, proxy)
    with pytest.raises(ServerUnreachable, match=r"proxy for ws://server\.example\S+ is unusable") as found:
        Conversation("http://server.example", {}, print).connect()
    assert "secret" not in found.value.message


def test_a_long_talk_never_ends_in_an_error(chat: Callable[..., Chat], start_server: Callable[..., Server]) -> None:
    """The person at the terminal would have to start again, or would not know what the model has forgotten."""
    one = chat("--url", start_server("--ctx", "640").url)
    one.type(f"{QUESTION}\n" * 12)
    assert one.end() == 0
    meters = [line for line in one.err.read_text().splitlines() if line.startswith("context ")]
    assert len(meters) == 12
    assert all(re.match(r"context \d+ of 640 · system \d+ · ", line) for line in meters)
    assert "dropped" not in meters[0]
    assert re.search(r" · dropped \d+ messages$", meters[-1])
    assert max(prompts(one)) <= 640 - 160


def test_a_broken_answer_is_read_on(server: Server, chat: Callable[..., Chat]) -> None:
    """A person would read half an answer, or the same beginning twice; the server would write it twice."""
    whole = chat("--url", server.url, "-m", QUESTION)
    assert whole.end() == 0
    answer = whole.out.read_text()
    with cutting_proxy(server.port, b"output_text.delta", 3) as url:
        one = chat("--url", url)
        one.type(QUESTION + "\n")
        assert one.end() == 0
    assert one.out.read_text().replace("\n", "") == answer.replace("\n", "")
    assert "connected; reading on" in one.err.read_text()
    assert len(kept(server)[0]) == 2


def test_a_key(chat: Callable[..., Chat], start_server: Callable[..., Server]) -> None:
    """A server that asks for keys could not be talked to, or would be blamed for not being there."""
    server = start_server(auth="on")
    command = [sys.executable, "-m", "frontdesk", "keys", "create", "chat", "--database", server.database]
    key = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    (secret,) = re.findall(r"fd_\w+", key)
    with_key = chat("--url", server.url, "--key", secret)
    with_key.type(QUESTION + "\n")
    assert with_key.end() == 0
    assert with_key.out.read_text().strip()
    without = chat("--url", server.url)
    without.type(QUESTION + "\n")
    assert without.end() == 1
    assert "key" in without.err.read_text()
    assert "Traceback" not in without.err.read_text()


def test_ctrl_c_stops_the_reply_and_not_the_program(server: Server, chat: Callable[..., Chat]) -> None:
    """A person who stops a long answer would lose the conversation, or the server would go on computing."""
    one = chat("--url", server.url)
    server.wait_idle()
    with server.held():
        one.type(QUESTION + "\n")
        server.wait_for("open", 1)
        one.process.send_signal(signal.SIGINT)
        one.wait_for(one.err, "stopped")
        server.wait_idle()
    one.type(QUESTION + "\n")
    assert one.end() == 130
    assert one.out.read_text().strip()
    assert one.err.read_text().count("tokens/s") == 2


def test_ctrl_c_in_a_pipe_before_any_question_leaves(server: Server, chat: Callable[..., Chat]) -> None:
    """The program could not be stopped while it waits for input."""
    one = chat("--url", server.url)
    wait_until(lambda: hears_signals(one.process))
    time.sleep(0.5)  # nothing tells that it waits for input
    one.process.send_signal(signal.SIGINT)
    assert one.process.wait(30) != 0
    assert "Traceback" not in one.err.read_text()


def test_a_dropped_connection_is_made_again(chat: Callable[..., Chat], start_server: Callable[..., Server]) -> None:
    """A restart of the server would end the conversation of everybody who talks to it."""
    first = start_server()
    one = chat("--url", first.url)
    one.type(QUESTION + "\n")
    one.wait_for(one.err, "tokens/s")
    first.stop()
    start_server("--port", str(first.port))
    one.type("How much is express shipping?\n")
    assert one.end() == 0
    assert "connection lost" in one.err.read_text()
    first_prompt, second_prompt = prompts(one)
    assert second_prompt > first_prompt + 20  # the new server, which keeps another database, was told all of it


def test_a_terminal_has_a_prompt_and_a_history(server: Server, chat: Callable[..., Chat], tmp_path: Path) -> None:
    """On a terminal nothing could be typed, Ctrl-C would end the program, or Ctrl-D would not."""
    ours, theirs = pty.openpty()
    one = chat("--url", server.url, stdin=theirs, TERM="xterm")
    os.close(theirs)
    one.wait_for(one.err, "Ask something")
    wait_until(lambda: reads_keys(ours))
    os.write(ours, b"not this\x03")  # Ctrl-C throws the line away
    time.sleep(0.5)
    os.write(ours, QUESTION.encode() + b"\r")
    one.wait_for(one.err, "tokens/s")
    wait_until(lambda: reads_keys(ours))
    os.write(ours, b"\x04")
    assert one.process.wait(30) == 0
    os.close(ours)
    history = tmp_path / "state/frontdesk/history"
    assert QUESTION in history.read_text()
    assert "not this" not in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def _works_in(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").resolve() == folder
    except OSError:
        return False
