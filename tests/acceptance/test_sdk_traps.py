"""Where servers that look like OpenAI's break the real client packages: one test for each such trap that is known.

Plain streaming, sockets and frameworks are in `test_clients`; what the state of conversations asks of the package is in
`test_conversations`. Traps of retries are in `test_sdk_retries`, those beside a running stream in `test_sdk_streams`:

| trap | test there |
|---|---|
| it asks again by itself, without an Idempotency-Key | `test_what_a_retry_of_a_running_reply_costs` |
| with a key of the caller's, after the reply's end | `test_a_retry_after_a_lost_answer_finds_the_first` |
| it asks again what no retry can cure, unless it is told not to | `test_what_no_retry_can_cure_is_not_tried_again` |
| it sleeps as `Retry-After` says | `test_a_full_line_is_tried_again` |
| it gives up at once when that is over 120 s | `test_a_day_s_budget_is_not_waited_for` |
| comments in a Chat stream (of the other streams: below) | `test_the_package_reads_a_chat_past_keep_alives` |
| HEAD on an address that streams | `test_head_on_a_running_stream` |
| the sync client resumes with a decoder of its own | `test_the_sync_client_comes_back` |
| a ping in the middle of a reply | `test_pings_are_answered_while_a_reply_streams` |
| an exception of the server's closes without a frame | `test_a_bug_of_the_server_closes_with_1011` |
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from typing import Any

import httpx2
import openai
import pytest
from openai.lib.responses_websocket import AsyncResponsesWebSocketSession, ResponsesWebSocketLimits
from tests.acceptance.asking import MODEL, Shop, conversation, loose_client
from tests.conftest import Server
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

# The packages' own use of deprecated calls is not ours to judge.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SHORT: dict[str, Any] = {"model": MODEL, "max_output_tokens": 8, "extra_body": {"ignore_eos": True}}
MESSAGES = [{"role": "user", "content": "When are you open?"}]
THE_32_KEYS = frozenset(
    ["id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id",
     "instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text",
     "top_p", "presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "user",
     "usage", "max_output_tokens", "max_tool_calls", "store", "background", "service_tier", "metadata",
     "safety_identifier", "prompt_cache_key"]
)  # fmt: skip


@pytest.fixture
async def loose(server: Server) -> AsyncIterator[Any]:
    """The async client on the shared server, without its types."""
    async with loose_client(server) as opened:
        yield opened


# --- streams --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow_server(launch: Callable[..., Any]) -> Iterator[Server]:
    """Long prompts take many steps and keep-alives come often: comments stand in every stream."""
    with launch(chunk="16", chunk_busy="16", ping_seconds="0.1") as running:
        yield running


PATHS = {
    "/chat/completions": {"messages": conversation(3, 105), "max_tokens": 4},
    "/completions": {"prompt": "word " * 1500, "max_tokens": 4},
    "/responses": {"input": conversation(4, 105), "max_output_tokens": 4},
}


@pytest.mark.parametrize("path", PATHS)
async def test_keep_alives_without_ids(slow_server: Server, path: str) -> None:
    """Breaks openai-python with a JSONDecodeError: a comment after any `id:` line, or a `retry:` line of its own."""
    async with httpx2.AsyncClient(timeout=60) as http:
        body = PATHS[path] | {"stream": True}
        async with http.stream("POST", slow_server.url + "/v1" + path, json=body) as answer:
            lines = [line async for line in answer.aiter_lines()]
    assert any(line.startswith(":") for line in lines), "no keep-alive came: nothing was shown"
    assert not [line for line in lines if line.startswith(("id:", "retry:"))]
    end = lines.index("data: [DONE]")
    assert lines[end + 1] == lines[-1] == ""
    behind = [line for line in lines[end + 1 :] if line]
    assert behind in ([], [": ping"]), "only one comment, which was on its way when the reply ended, may come behind it"


async def test_the_package_reads_past_keep_alives(slow_server: Server) -> None:
    """Breaks if a resumed stream, which the package's decoder reads too, brings ids where the first did not."""
    async with loose_client(slow_server) as client:
        stream = await client.responses.create(
            model=MODEL, input=conversation(5, 105), max_output_tokens=4, background=True, stream=True
        )
        first = await anext(aiter(stream))
        await stream.close()
        resumed = await client.responses.retrieve(first.response.id, stream=True, starting_after=first.sequence_number)
        events = [event async for event in resumed]
    numbers = [event.sequence_number for event in events]
    assert numbers[0] == first.sequence_number + 1
    assert all(b == a + 1 for a, b in pairwise(numbers))
    assert events[-1].type in ("response.completed", "response.incomplete")


async def test_event_lines_repeat_the_type(server: Server) -> None:
    """Breaks clients that choose by the `event:` line: it must be the data's `type`, and `[DONE]` must close."""
    async with httpx2.AsyncClient(timeout=30) as http:
        body = {"input": "Hello", "stream": True, "max_output_tokens": 4}
        text = (await http.post(server.url + "/v1/responses", json=body)).text
    blocks = [block for block in re.split(r"\r?\n\r?\n", text) if block and not block.startswith(":")]
    assert blocks[-1] == "data: [DONE]"
    for block in blocks[:-1]:
        event, data = (line.split(": ", 1)[1] for line in block.splitlines())
        assert json.loads(data)["type"] == event


async def test_a_failure_in_mid_stream_is_an_exception(start_server: Callable[..., Server]) -> None:
    """Breaks if the package takes a broken answer for a whole one: it must raise, or tell `response.failed`."""
    server = start_server(drain_seconds="0.2")
    async with loose_client(server) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True, max_tokens=2500, extra_body={"ignore_eos": True}
        )
        chunks = aiter(stream)
        await anext(chunks)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError) as failed:
            await _exhaust(chunks)
    assert not isinstance(failed.value, openai.APIConnectionError), "it was cut off without a word"
    assert failed.value.message


async def _exhaust(chunks: AsyncIterator[Any]) -> None:
    async for _ in chunks:
        pass


async def test_the_helper_on_endings_that_are_not_completed(server: Server) -> None:
    """`responses.stream().get_final_response()` raises for everything but `response.completed`; a limit that was
    reached must still be told by its events, and a reply that ran to its own end must not be told as incomplete."""
    async with loose_client(server) as client:
        async with client.responses.stream(**SHORT, input="Hello") as stream:
            events = [event async for event in stream]
            with pytest.raises(RuntimeError, match=r"response\.completed"):
                await stream.get_final_response()
        assert events[-1].type == "response.incomplete"
        assert events[-1].response.incomplete_details.reason == "max_output_tokens"
        async with client.responses.stream(model=MODEL, input="When are you open?", temperature=0) as stream:
            whole = await stream.get_final_response()
        assert whole.status == "completed"
        async with client.responses.stream(response_id=whole.id, starting_after=4) as stream:
            again = [event async for event in stream]
    assert again[0].sequence_number == 5
    assert again[-1].response.output_text == whole.output_text


async def test_a_cancelled_reply_ends_with_an_event_that_is_known(loose: Any) -> None:
    """There is no `response.cancelled` event: the package would hand on an object of no type."""
    kinds, status = [], ""
    async for event in await loose.responses.create(**SHORT | {"max_output_tokens": 2500}, input="Hello", stream=True):
        kinds.append(event.type)
        if event.type == "response.created":
            await loose.responses.cancel(event.response.id)
        status = getattr(event, "response", None) and event.response.status
    assert kinds[-1] == "response.incomplete"
    assert status == "cancelled"


async def test_usage_comes_only_when_asked_for(loose: Any) -> None:
    """LangChain with a base_url asks for no usage: a chunk without choices that it did not order breaks its reader."""
    options = {"model": MODEL, "messages": MESSAGES, "stream": True, "max_tokens": 4}
    plain = [chunk async for chunk in await loose.chat.completions.create(**options)]
    wants = {"include_usage": True, "include_obfuscation": False}
    stream = await loose.chat.completions.create(**options, stream_options=wants)
    asked = [chunk async for chunk in stream]
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in plain)
    assert all(chunk.usage is None for chunk in asked[:-1])
    assert asked[-1].choices == []
    assert asked[-1].usage.total_tokens == asked[-1].usage.prompt_tokens + 4


@pytest.mark.filterwarnings("ignore")
async def test_langchain_with_and_without_usage(server: Server) -> None:
    """Breaks if LangChain invents a usage, or gets none when it asks."""
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    for asks in (False, True):
        chat = ChatOpenAI(
            model=MODEL,
            base_url=server.url + "/v1",
            api_key=SecretStr("none"),
            stream_usage=asks,
            max_completion_tokens=8,
        )
        pieces = [piece async for piece in chat.astream("When are you open?")]
        usages = [piece.usage_metadata for piece in pieces if piece.usage_metadata]
        assert len(usages) == asks


# --- objects --------------------------------------------------------------------------------------------------------


async def test_a_response_has_all_keys(server: Server) -> None:
    """Clients made from the Open Responses schema refuse a Response that lacks one of 32 keys, null or not."""
    async with httpx2.AsyncClient(base_url=server.url + "/v1", timeout=30) as http:
        made = (await http.post("/responses", json={"input": "Hello", "max_output_tokens": 4})).json()
        read = (await http.get(f"/responses/{made['id']}")).json()
        events = (await http.get(f"/responses/{made['id']}", params={"stream": "true"})).text
    snapshots = [json.loads(line[6:]).get("response") for line in events.splitlines() if line.startswith("data: {")]
    for response in (made, read, *filter(None, snapshots)):
        assert not THE_32_KEYS - response.keys()


async def test_usage_has_both_cache_counts(loose: Any) -> None:
    """The package's type of usage demands `cache_write_tokens` beside `cached_tokens`: strict readers fail without."""
    made = await loose.responses.create(**SHORT, input="Hello")
    again = await loose.responses.create(**SHORT, input="Hello")
    details = again.usage.input_tokens_details
    assert made.usage.input_tokens_details.cache_write_tokens == details.cache_write_tokens == 0
    assert 0 < details.cached_tokens < again.usage.input_tokens
    assert again.usage.output_tokens_details.reasoning_tokens == 0
    type(again).model_validate(again.to_dict())  # strict, where the package itself constructs without checking


async def test_items_without_a_type(loose: Any) -> None:
    """The package's own examples send `{role, content}`: an item without a type is a message."""
    typed = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}]
    plain = [{"role": "user", "content": "Hello"}]
    counts = [(await loose.responses.create(**SHORT, input=items)).usage.input_tokens for items in (typed, plain)]
    assert counts[0] == counts[1]


async def test_output_can_be_sent_back_as_input(loose: Any) -> None:
    """Stateless clients append `response.output` to their input as it is: ids, annotations, status and all."""
    first = await loose.responses.create(model=MODEL, input="Hello, my name is Rosa.", temperature=0, store=False)
    history = [{"role": "user", "content": "Hello, my name is Rosa."}, *[item.to_dict() for item in first.output]]
    history.append({"role": "user", "content": "What is my name?"})
    second = await loose.responses.create(model=MODEL, input=history, temperature=0, store=False)
    assert "Rosa" in second.output_text


async def test_parameters_that_other_clients_always_send(loose: Any) -> None:
    """LibreChat and Open WebUI send user, both penalties, and fields that nobody else knows: none may be refused."""
    made = await loose.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        user="u-1",
        presence_penalty=0,
        frequency_penalty=0,
        temperature=1,
        top_p=1,
        max_tokens=8,
        metadata={"chat": "1"},
        store=False,
        extra_body={"chat_id": "1", "session_id": "2", "background_tasks": {"title_generation": True}, "params": {}},
    )
    assert made.choices[0].message.content


async def test_models_with_a_bearer(shop: Shop) -> None:
    """Open WebUI checks a connection by `GET /models` with its key: 401 with a wrong one, the list with a right one."""
    async with loose_client(shop.server, shop.alice) as client:
        assert [model.id async for model in client.models.list()] == [MODEL]
    async with loose_client(shop.server, "fd_wrong_key") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_embeddings_are_refused_in_json(loose: Any) -> None:
    """The package asks for base64 by default and decodes what comes; a server without embeddings must say so in a body
    that it can read, not by a page."""
    with pytest.raises(openai.NotFoundError) as refused:
        await loose.embeddings.create(model=MODEL, input="Hello")
    assert refused.value.response.headers["content-type"].startswith("application/json")
    assert "/v1/embeddings" in refused.value.message


# --- the WebSocket --------------------------------------------------------------------------------------------------


async def test_a_restart_is_reconnected_with_1012(phoenix: Any) -> None:
    """Breaks if the close code of a restart is not one after which the package comes back (while it reads)."""
    codes: list[int] = []
    finals: asyncio.Queue[Any] = asyncio.Queue()

    async def read(socket: Any) -> None:
        async for event in socket:
            if event.type in ("response.completed", "response.incomplete"):
                finals.put_nowait(event.response)

    async with (
        loose_client(phoenix.server) as client,
        client.responses.connect(
            on_reconnecting=lambda event: codes.append(event.close_code), initial_delay=0.2, max_retries=30
        ) as socket,
    ):
        reader = asyncio.create_task(read(socket))
        await socket.response.create(model=MODEL, input="Hello", max_output_tokens=8)
        first = await asyncio.wait_for(finals.get(), 30)
        await asyncio.to_thread(phoenix.restart)
        await socket.response.create(model=MODEL, input="And now?", max_output_tokens=8, previous_response_id=first.id)
        second = await asyncio.wait_for(finals.get(), 30)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    assert codes[0] == 1012
    assert second.previous_response_id == first.id, "the stored turn is not known after the restart"


async def _turn(socket: Any, **fields: Any) -> Any:
    """Send one turn, and again when the package has reconnected meanwhile; the finished response."""
    await socket.response.create(model=MODEL, max_output_tokens=8, **fields)
    async for event in socket:
        if event.type in ("response.completed", "response.incomplete"):
            return event.response
        assert event.type != "error", event
    raise AssertionError("the connection ended")


async def test_lanes_of_the_package_s_session(loose: Any) -> None:
    """The package's own multiplexer sorts events by `stream_id`: one without it, or with another's, is lost."""
    limits = ResponsesWebSocketLimits(
        max_lanes=8, max_events_per_lane=10_000, max_events=50_000, max_bytes_per_lane=2**24, max_bytes=2**26
    )
    questions = {"a": "When are you open?", "b": "What is your phone number?", "c": "How long is the warranty?"}
    async with (
        loose.responses.connect() as socket,
        AsyncResponsesWebSocketSession(socket, limits=limits) as session,
    ):
        lanes = {name: session.lane(name) for name in questions}
        for name, lane in lanes.items():
            await lane.send({"type": "response.create", "model": MODEL, "input": questions[name], "temperature": 0})
        finals = await asyncio.gather(*(lane.get_final_response() for lane in lanes.values()))
    for name, final in zip(questions, finals, strict=True):
        alone = await loose.responses.create(model=MODEL, input=questions[name], temperature=0)
        assert final.output_text == alone.output_text


async def test_errors_and_steering_on_the_socket(loose: Any) -> None:
    """Errors are nested on the socket and flat in a stream; steering has a published refusal. The socket stays open."""
    async with loose.responses.connect() as socket:
        await socket.response.create(model=MODEL, input="Hello", previous_response_id="resp_" + "0" * 32)
        event = (await socket.recv()).to_dict()
        assert event["type"] == "error"
        assert event["error"]["code"] == "previous_response_not_found"
        assert event["status"] in (400, 404)
        steer = {"type": "response.steer", "previous_response_id": "resp_" + "0" * 32, "input": "Stop"}
        await socket.send_raw(json.dumps(steer))
        event = (await socket.recv()).to_dict()
        assert event["type"] == "response.steer.failed"
        assert event["error"]["code"] == "steering_not_supported"
        assert (await _turn(socket, input="Hello")).status in ("completed", "incomplete")


async def test_a_key_as_subprotocol_is_used_and_never_echoed(shop: Shop) -> None:
    """A browser cannot send headers: its key comes as a subprotocol, and one that is echoed lands in proxies' logs."""
    url = shop.server.ws_url + "/v1/responses"
    key = Subprotocol(f"openai-insecure-api-key.{shop.alice}")
    async with connect(url, subprotocols=[Subprotocol("realtime"), key], proxy=None, compression=None) as socket:
        assert socket.subprotocol == "realtime"
        await socket.send(json.dumps({"type": "response.create", "input": "Hello", "max_output_tokens": 4}))
        assert json.loads(await socket.recv())["type"] == "response.created"
    assert shop.alice.split("_")[-1] not in shop.server.log.read_text()


@pytest.mark.parametrize("key", [None, "fd_wrong_key"])
async def test_a_socket_without_a_right_key(shop: Shop, key: str | None) -> None:
    """A close before the accept shows as a bare 403: the package can only tell the user what stands in a 401's body."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with pytest.raises(InvalidStatus) as refused:
        async with connect(shop.server.ws_url + "/v1/responses", additional_headers=headers, proxy=None):
            pass
    response = refused.value.response
    assert response.status_code == 401
    assert json.loads(response.body or b"{}")["error"]["code"] == ("invalid_api_key" if key else "missing_api_key")
