"""What happens beside a stream or a socket while a reply is being written: comments, HEAD, pings, a bug of the server.

Each is known to have broken the real packages, or to end their connection, on servers that look like OpenAI's.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.acceptance.asking import MODEL, loose_client
from tests.conftest import Server, running_server
from websockets.asyncio.client import connect

# The packages' own use of deprecated calls is not ours to judge.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LONG = 2500  # tokens of a reply that is stopped, or left, long before its end
ENDLESS: dict[str, Any] = {"model": MODEL, "extra_body": {"ignore_eos": True}}
ENDS = ("response.completed", "response.incomplete", "response.failed", "error")
QUESTION = [{"role": "user", "content": "When are you open?"}]


class Copying(httpx2.AsyncBaseTransport):
    """Keeps the bytes of every answer, as the client reads them."""

    def __init__(self) -> None:
        self.bytes = b""
        self._network = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await self._network.handle_async_request(request)
        stream = _Copied(self, answer.stream)
        return httpx2.Response(answer.status_code, headers=answer.headers, stream=stream)

    async def aclose(self) -> None:
        await self._network.aclose()


class _Copied(httpx2.AsyncByteStream):
    def __init__(self, owner: Copying, stream: Any) -> None:
        self._owner = owner
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._owner.bytes += chunk
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_the_package_reads_a_chat_past_keep_alives(start_server: Callable[..., Server]) -> None:
    """Breaks if a comment before the first chunk of a Chat stream (while it waits in line) or between two of them
    becomes a chunk, an exception or a hole in the text of the package, which is unmodified."""
    server = start_server(slots="1", ping_seconds="0.1")
    transport = Copying()
    network = httpx2.AsyncClient(transport=transport, timeout=120)
    url = server.url + "/v1"
    asked: dict[str, Any] = ENDLESS | {"messages": QUESTION, "temperature": 0, "max_tokens": 1000}
    async with (
        loose_client(server) as other,
        openai.AsyncOpenAI(base_url=url, api_key="none", http_client=network, max_retries=0) as package,
    ):
        before: Any = await other.chat.completions.create(**ENDLESS, messages=QUESTION, max_tokens=LONG, stream=True)
        await anext(aiter(before))

        async def read() -> list[Any]:
            stream: Any = await package.chat.completions.create(**asked, stream=True)
            return [chunk async for chunk in stream]

        reading = asyncio.create_task(read())
        with server.held():  # the one before does not end by itself
            while b": queued" not in transport.bytes:
                assert not reading.done(), "it did not wait in line: nothing was shown"
                await asyncio.sleep(0.02)
        await before.close()
        chunks = await reading
        whole = await other.chat.completions.create(**asked)
    waited, _, streamed = transport.bytes.partition(b": queued")
    assert waited.count(b"data: ") <= 1, "no more than the chunk with the role comes before"
    assert b"data: " in streamed.partition(b": ping")[2], "no comment came between chunks"
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "length"


def test_head_on_a_running_stream(start_server: Callable[..., Server]) -> None:
    """Breaks if HEAD, which proxies and link checkers send to any address, hangs until the reply's end, writes a body
    into a connection that is used again, takes events from a reader, or counts as one whose leaving stops the reply."""
    server = start_server(abandon="at_once")
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=60)
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with client:
        stream: Any = client.responses.create(**ENDLESS, input="Talk.", max_output_tokens=LONG, stream=True)
        events = iter(stream)
        seen = [next(events) for _ in range(5)]
        id = seen[0].response.id
        with server.held():
            for path in (f"/v1/responses/{id}?stream=true", f"/v1/responses/{id}/events"):
                line.request("HEAD", path)
                used = line.sock
                answer = line.getresponse()
                assert (answer.status, answer.read()) == (200, b"")
                assert answer.headers["content-type"].startswith("text/event-stream")
                line.request("GET", f"/v1/responses/{id}")
                answer = line.getresponse()
                assert json.loads(answer.read())["status"] == "in_progress"
                assert line.sock is used, "the connection was not kept"
            client.responses.cancel(id)
        seen += events
        kept = client.responses.retrieve(id)
    line.close()
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].response.status == kept.status == "cancelled"
    text = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    assert text == kept.output_text


async def test_the_sync_client_comes_back(server: Server) -> None:
    """Breaks if the sync client of the package, which has a decoder of its own, cannot go on behind an event by
    `retrieve(stream=True, starting_after=)` or its helper, or reads another rest than the async one."""

    def leave_and_return() -> tuple[list[Any], list[Any], list[Any]]:
        with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=60) as client:
            stream: Any = client.responses.create(**ENDLESS, input="Talk.", max_output_tokens=300, stream=True)
            seen = [next(stream) for _ in range(20)]
            stream.close()
            id, last = seen[0].response.id, seen[-1].sequence_number
            resumed: Any = client.responses.retrieve(id, stream=True, starting_after=last)
            rest = list(resumed)
            with client.responses.stream(response_id=id, starting_after=last) as helper:
                helped = list(helper)
        return seen, rest, helped

    seen, rest, helped = await asyncio.to_thread(leave_and_return)
    async with loose_client(server) as client:
        again = await client.responses.retrieve(
            seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number
        )
        read = [event async for event in again]
    numbers = [event.sequence_number for event in (*seen, *rest)]
    assert numbers[0] == 0
    assert all(b == a + 1 for a, b in pairwise(numbers))
    assert rest[-1].response.usage.output_tokens == 300
    assert [event.to_dict() for event in rest] == [event.to_dict() for event in read]
    assert [event.sequence_number for event in helped] == [event.sequence_number for event in rest]
    assert helped[-1].response.output_text == rest[-1].response.output_text


# --- the WebSocket --------------------------------------------------------------------------------------------------


async def test_pings_are_answered_while_a_reply_streams(server: Server) -> None:
    """Breaks every client that watches its connection, as websockets does by default: without a pong while an answer
    streams, it closes with 1011 in the middle of the text."""
    create = {"type": "response.create", "input": "Talk.", "max_output_tokens": LONG, "ignore_eos": True}
    async with connect(server.ws_url + "/v1/responses", proxy=None, compression=None, ping_interval=None) as socket:
        await socket.send(json.dumps(create))
        id = json.loads(await socket.recv())["response"]["id"]
        for payload in ("one", "two", "three"):
            while json.loads(await socket.recv())["type"] != "response.output_text.delta":
                pass
            pong: Any = await socket.ping(payload)
            while not pong.done():
                kind = json.loads(await socket.recv())["type"]
                assert kind not in ENDS, f"{payload}: the reply ended before the pong came"
        await socket.send(json.dumps({"type": "response.cancel", "response_id": id}))
        while (event := json.loads(await socket.recv()))["type"] not in ENDS:
            pass
    assert event["response"]["status"] == "cancelled"
    assert event["response"]["output"][0]["content"][0]["text"]


BUG = '''
"""A server with a bug."""
from frontdesk.chat.service import ChatService
from frontdesk.cli.main import main

start = ChatService.start


async def failing(self, call, *arguments, **named):
    if call.turn and "unforeseen" in call.turn.input[-1].message.content:
        raise RuntimeError("nobody foresaw this")
    return await start(self, call, *arguments, **named)


if __name__ == "__main__":
    ChatService.start = failing
    main()
'''


async def test_a_bug_of_the_server_closes_with_1011(tmp_path: Path) -> None:
    """An exception that nobody catches cuts the line without a close frame, and the client sees 1006 and no reason.
    Breaks if it is not 1011, after which the package comes back; if it takes another connection with it; or if the
    log lacks the place of the bug, or has the customer's words."""
    (program := tmp_path / "program.py").write_text(BUG)
    codes: list[int] = []
    finals: asyncio.Queue[Any] = asyncio.Queue()

    async def read(socket: Any) -> None:
        async for event in socket:
            if event.type == "response.incomplete":
                finals.put_nowait(event.response)

    with running_server(tmp_path / "log.txt", program=(str(program),)) as server:
        async with (
            loose_client(server) as client,
            client.responses.connect() as other,
            client.responses.connect(
                on_reconnecting=lambda event: codes.append(event.close_code), initial_delay=0.1, max_retries=30
            ) as socket,
        ):
            readers = [asyncio.create_task(read(each)) for each in (socket, other)]
            talk = {"type": "response.create", "input": "Talk.", "max_output_tokens": 600, "ignore_eos": True}
            await other.send_raw(json.dumps(talk))
            await socket.response.create(model=MODEL, input="Something unforeseen.")
            assert (await asyncio.wait_for(finals.get(), 60)).usage.output_tokens == 600
            await socket.response.create(model=MODEL, input="Hello", max_output_tokens=2)
            assert (await asyncio.wait_for(finals.get(), 60)).usage.output_tokens == 2
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        log = server.log.read_text()
    assert codes == [1011]
    assert "unexpected exception" in log
    assert "program.py" in log
    assert "Something" not in log
