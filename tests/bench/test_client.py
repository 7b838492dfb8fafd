"""The client against servers that do what servers should not: cut, stall, refuse, or speak plainer HTTP than ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.bench.replies import chat_lines
from websockets.asyncio.server import ServerConnection, serve

from frontdesk.bench.client import Target, TargetUnusable
from frontdesk.bench.drive import Drive
from frontdesk.bench.plan import Plan, Round, Session, Turn
from frontdesk.bench.reply import NO_END, Reply
from frontdesk.errors import ConfigError

USAGE = {"prompt_tokens": 3, "completion_tokens": 2}
WHOLE = b"".join(b"data: " + line + b"\n\n" for line in chat_lines(["a", "b"], "stop", USAGE))
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"
ASK = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def server(answer: bytes, *, stalls: bool = False) -> AsyncIterator[str]:
    """Gives every connection these bytes and closes it, or keeps it open."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if stalls:
            await reader.read()
        writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def chunked(body: bytes) -> bytes:
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"%x\r\n%b\r\n" % (len(body), body)


@pytest.mark.parametrize(
    "answer",
    [
        chunked(WHOLE) + b"0\r\n\r\n",
        HEAD + b"\r\n" + WHOLE,
        HEAD + b"content-length: %d\r\n\r\n" % len(WHOLE) + WHOLE,
        HEAD + b"transfer-encoding: chunked\r\n\r\n"
        + b"".join(b"1\r\n%c\r\n" % byte for byte in WHOLE) + b"0\r\n\r\n",
    ],
    ids=["chunked", "until it closes", "of known length", "byte by byte"],
)  # fmt: skip
async def test_every_way_to_send_a_stream_is_read(answer: bytes) -> None:
    """A peer would lose a comparison because the client cannot read it."""
    async with server(answer) as url:
        reply = await Target(url + "/v1/").chat(ASK, 2)
    assert (reply.text, reply.tokens, reply.error) == ("ab", 2, "")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (chunked(WHOLE[: WHOLE.index(b"\n\n") + 2]), NO_END),
        (b"", "without an answer"),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 31\r\n\r\n" + b'{"error": {"message": "later"}}', "503 later"),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 4\r\n\r\noh\nno"[:-1], "500 oh"),
        (b"SSH-2.0-OpenSSH_9\r\n", "HTTP"),
    ],
    ids=["cut", "silence", "refused", "no JSON", "no HTTP"],
)
async def test_what_goes_wrong_is_in_the_reply(answer: bytes, error: str) -> None:
    """One bad reply would end the run, or count as a good one."""
    async with server(answer) as url:
        reply = await Target(url).chat(ASK, 2)
    assert not reply.good
    assert error in reply.error


async def test_a_stalled_reply_ends() -> None:
    """A run would never end."""
    async with server(HEAD + b"\r\n" + WHOLE[:80], stalls=True) as url:
        reply = await Target(url, timeout=0.3).chat(ASK, 2)
    assert reply.error == "no end after 0 s"


@pytest.mark.parametrize("how", ["it closes", "it stalls", "it writes no JSON"])
async def test_a_socket_that_breaks_costs_one_reply(how: str) -> None:
    """One lost connection would end the whole run without a result, or the next reply would be read from what came too
    late for this one."""
    connections = 0

    async def answer(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        async for _ in socket:
            await socket.send(json.dumps({"type": "response.output_text.delta", "delta": str(connections)}))
            if connections > 1:
                await socket.send('{"type": "response.completed", "response": {"id": "r", "status": "completed"}}')
            elif how == "it closes":
                return
            elif how == "it writes no JSON":
                await socket.send("{")

    async with serve(answer, "127.0.0.1", 0) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        talk = Target(f"http://127.0.0.1:{port}", transport="ws", timeout=2.0).talk("")
        lost, next_one = Reply(asked=1), Reply(asked=1)
        await talk.ask(lost, "A")
        await talk.ask(next_one, "B")
        await talk.close()
    assert lost.error
    assert (next_one.text, next_one.error) == ("2", "")


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_no_proxy_is_asked(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy would be measured with one transport and not with the other."""
    for scheme in ("ws", "https", "http"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")

    async def answer(socket: ServerConnection) -> None:
        async for _ in socket:
            await socket.send('{"type": "response.output_text.delta", "delta": "ab"}')
            await socket.send('{"type": "response.completed", "response": {"id": "r", "status": "completed"}}')

    reply = Reply(asked=2)
    async with serve(answer, "127.0.0.1", 0) as sockets, server(HEAD + b"\r\n" + WHOLE) as url:
        port = next(iter(sockets.sockets)).getsockname()[1]
        talk = Target(f"http://127.0.0.1:{port}" if transport == "ws" else url, transport=transport).talk("")
        await talk.ask(reply, "A")
        await talk.close()
    assert (reply.text, reply.error) == ("ab", "")


async def test_a_cancelled_reply_is_stopped_not_failed() -> None:
    """What is left on purpose would count as an error."""
    async with server(HEAD + b"\r\n" + WHOLE[:200], stalls=True) as url:
        reply = Reply(asked=2)
        task = asyncio.create_task(Target(url).chat(ASK, 2, reply))
        while not reply.frames:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (reply.stopped, reply.error) == (True, "")


async def test_nobody_there_and_no_usage_are_told_apart() -> None:
    """A user would look for the wrong mistake."""
    with pytest.raises(TargetUnusable, match="no server answers") as found:
        await Target("http://127.0.0.1:9").sizes()
    assert found.value.code == "unreachable"
    async with server(HEAD + b"content-length: 2\r\n\r\n{}") as url:
        with pytest.raises(TargetUnusable, match="does not tell how many tokens"):
            await Target(url).sizes()


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8000", "ftp://x", "http://", "http://x:99999", "http://x:y", "http://x:0", "http://[::1",
     "http://a..b", "http://" + "a" * 64],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """A typing mistake would be told as a server that is down, or end in a stack trace."""
    with pytest.raises(ConfigError, match="--url"):
        Target(url)


@pytest.mark.parametrize("url", ["http://[::1]:8000", "https://x.example./v1/", "http://bücher.example"])
def test_an_address_that_may_be_one_is_taken(url: str) -> None:
    """A server could not be measured because of its name."""
    assert Target(url).url == url


async def test_a_plan_is_kept_to_its_times() -> None:
    """All would be asked at once, and the figures told as those of visitors who come one by one and think."""
    late = Session((Turn("x", 2, kind="late"), Turn("y", 2, wait=0.2, kind="later")), at=0.3)
    early = Session((Turn("z", 2, kind="early"),))
    async with server(HEAD + b"\r\n" + WHOLE) as url:
        drive = Drive(Target(url), Plan((Round(((early,), (late,))),)))
        await drive.run()
    replies = {reply.kind: reply for reply in drive.replies}
    ((began, _),) = drive.windows
    assert list(replies) == ["early", "late", "later"]
    assert all(reply.good for reply in drive.replies)
    assert replies["late"].sent - began >= 0.3
    assert replies["later"].sent - replies["late"].last >= 0.2


async def test_an_open_loop_asks_before_it_is_answered() -> None:
    """Load would ease off exactly when the server gets slow."""
    both = asyncio.Barrier(2)

    async def answer_both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await both.wait()
        writer.write(HEAD + b"\r\n" + WHOLE)
        await writer.drain()
        writer.close()

    lanes = tuple((Session((Turn("x", 2),), at=at),) for at in (0.0, 0.1))
    async with await asyncio.start_server(answer_both, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        drive = Drive(Target(url, timeout=20), Plan((Round(lanes),)))
        await drive.run()
    assert [reply.error for reply in drive.replies] == ["", ""]


async def test_a_server_that_runs_one_at_a_time_is_not_waited_for_for_ever() -> None:
    """A comparison would hang at the first serial server."""
    session = Session((Turn("x", 8),))
    async with server(HEAD + b"\r\n", stalls=True) as url:
        drive = Drive(Target(url, timeout=0.5), Plan((Round(((session,),), (session, session)),)))
        with pytest.raises(TargetUnusable, match=r"0 of 2 streams|failed: no end"):
            await drive.run()
