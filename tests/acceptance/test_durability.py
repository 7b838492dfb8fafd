"""Engines and whole servers are killed in the middle of replies: readers notice a pause and nothing else.

The full counts, with their statistics, are `bench/durability.py`'s; this is the same with fewer kills.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import httpx2
import openai
import pytest
from tests.acceptance import books
from tests.acceptance.asking import MODEL, loose_client
from tests.acceptance.crashes import Outcome, Phoenix, quiet, shuffled, storm
from tests.acceptance.history import check_books
from tests.conftest import Server

ENGINE_KILLS, SERVER_KILLS = 12, 4
SEED = 20261124
LONG: dict[str, Any] = {"max_output_tokens": 200, "temperature": 0, "extra_body": {"ignore_eos": True}}


@pytest.mark.timeout(900)  # on a machine that does other things too
async def test_random_kills_under_8_streams(phoenix: Phoenix) -> None:
    """Breaks if any kill loses, repeats or changes a token for a reader, whichever way it comes back; if a reply is
    generated or charged twice; or if journal, ledger and what readers saw do not agree."""
    outcome = Outcome()
    expected = await quiet(phoenix.url, kinds=8, tokens=200, outcome=outcome)
    await storm(phoenix, shuffled(ENGINE_KILLS, SERVER_KILLS, SEED), expected, outcome, seed=SEED)
    assert await asyncio.to_thread(phoenix.stop) == 0
    assert outcome.faults == []
    assert check_books(outcome.told, books.kept(phoenix.database)) == []
    assert books.integrity(phoenix.database) == "ok"
    assert len(outcome.kills) == ENGINE_KILLS + SERVER_KILLS
    assert outcome.resumes > 8 * SERVER_KILLS, "hardly anybody was cut off: nothing was shown"
    assert len(outcome.pauses("server")) >= 4 * SERVER_KILLS


async def test_a_retried_post_is_one_reply_and_one_charge(phoenix: Phoenix) -> None:
    """Breaks if a client that lost its answer to a crash, and retries as HTTP clients do, pays for two."""
    options = LONG | {"model": MODEL, "input": "When are you open?", "extra_headers": {"idempotency-key": "order-1"}}
    options |= {"stream": True, "max_output_tokens": 1500}
    ids: list[str] = []
    first_text, killed = "", False

    async def read_until_killed(client: Any) -> None:
        nonlocal first_text, killed
        async for event in await client.responses.create(**options):
            if event.type == "response.created":
                ids.append(event.response.id)
            elif event.type == "response.output_text.delta":
                first_text += event.delta
                if len(first_text) > 100 and not killed:
                    killed = True
                    await asyncio.to_thread(phoenix.kill, "server")

    async with loose_client(phoenix.server) as client:
        with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
            await read_until_killed(client)
        streams = await asyncio.gather(*(client.responses.create(**options) for _ in range(3)))
        again = [[event async for event in stream][-1].response for stream in streams]
        ids += [response.id for response in again]
        usage = await client.get("/usage", cast_to=object)
    assert len(set(ids)) == 1
    assert again[0].output_text.startswith(first_text)
    assert {response.output_text for response in again} == {again[0].output_text}
    assert again[0].usage
    assert again[0].usage.output_tokens == 1500
    (row,) = books.ledger(phoenix.database)
    assert (row["prompt"], row["completion"]) == (again[0].usage.input_tokens, 1500)
    assert str(again[0].usage.total_tokens) in json.dumps(usage)


async def test_one_key_for_two_requests_is_refused(server: Server) -> None:
    """Breaks if a key that was used for another request gives that one's answer, or is silently ignored."""
    headers = {"idempotency-key": f"twice-{time.time_ns()}"}
    async with loose_client(server) as client:
        await client.responses.create(model=MODEL, input="Hello", max_output_tokens=4, extra_headers=headers)
        with pytest.raises(openai.ConflictError) as refused:
            await client.responses.create(model=MODEL, input="Goodbye", max_output_tokens=4, extra_headers=headers)
    assert refused.value.response.headers["x-should-retry"] == "false"


async def test_a_conversation_gets_a_killed_turn_once(phoenix: Phoenix) -> None:
    """Breaks if the turn during which the server died is missing from its conversation, or there twice."""
    async with loose_client(phoenix.server) as client:
        conversation = await client.conversations.create()
        options = LONG | {"model": MODEL, "conversation": conversation.id, "max_output_tokens": 1000}
        stream = await client.responses.create(input="When are you open?", stream=True, **options)
        id, number = "", 0
        async for event in stream:
            id = id or event.response.id
            number = event.sequence_number
            if number > 50:
                break
        await asyncio.to_thread(phoenix.kill, "server")
        await stream.close()
        rest = await client.responses.retrieve(id, stream=True, starting_after=number)
        numbers = [event.sequence_number async for event in rest]
        items = [item async for item in client.conversations.items.list(conversation.id, order="asc")]
        final = await client.responses.retrieve(id)
    assert numbers == list(range(number + 1, number + 1 + len(numbers)))
    assert [getattr(item, "role", None) for item in items] == ["user", "assistant"]
    assert final.output_text
    assert items[1].content[0].text == final.output_text


async def test_a_background_reply_outlives_its_server(phoenix: Phoenix) -> None:
    """Breaks if work that nobody watches is forgotten by a restart: the caller would poll forever."""
    async with loose_client(phoenix.server) as client:
        begun = await client.responses.create(model=MODEL, input="Tell me more.", background=True, **LONG)
        assert begun.status in ("queued", "in_progress")
        await asyncio.to_thread(phoenix.kill, "server")
        response = begun
        deadline = time.monotonic() + 30
        while response.status in ("queued", "in_progress"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
            response = await client.responses.retrieve(begun.id)
    assert response.status == "incomplete"
    assert response.usage
    assert response.usage.output_tokens == 200


async def test_readers_leave_and_come_back(server: Server) -> None:
    """Breaks if one of the three ways back gives another rest than the stream itself had, or stops the reply."""
    async with loose_client(server) as client, httpx2.AsyncClient(base_url=server.url, timeout=30) as http:
        stream = await client.responses.create(model=MODEL, input="Tell me more.", stream=True, **LONG)
        seen: list[dict[str, Any]] = []
        async for event in stream:
            seen.append(event.to_dict())
            if len(seen) == 20:
                break
        await stream.close()
        id, last = seen[0]["response"]["id"], seen[-1]["sequence_number"]
        resumed = await client.responses.retrieve(id, stream=True, starting_after=last)
        rest = [event.to_dict() async for event in resumed]
        by_id = await http.get(f"/v1/responses/{id}/events", headers={"last-event-id": str(last)})
        async with client.responses.connect() as socket:
            await socket.send_raw(json.dumps({"type": "response.resume", "response_id": id, "starting_after": last}))
            by_socket = [(await socket.recv()).to_dict() for _ in rest]
        whole = [event.to_dict() async for event in await client.responses.retrieve(id, stream=True)]
        after_end = {"last-event-id": str(rest[-1]["sequence_number"])}
        over = await http.get(f"/v1/responses/{id}/events", headers=after_end)
    assert rest[-1]["type"] == "response.incomplete"
    assert rest[-1]["response"]["usage"]["output_tokens"] == 200, "the reply was stopped when its reader left"
    assert whole == seen + rest
    assert by_socket == rest
    assert sse(by_id.text) == [(each["sequence_number"], each) for each in rest]
    assert over.status_code == 204, "an EventSource would reconnect for ever"


def sse(text: str) -> list[tuple[int, dict[str, Any]]]:
    """The events of a stream with ids, as (id, data)."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            found.append((int(fields["id"]), json.loads(fields["data"])))
    return found


@pytest.mark.parametrize("way", ["retrieve", "events"])
async def test_a_number_that_never_was(server: Server, way: str) -> None:
    """Breaks if a reader with a wrong bookmark waits for ever, is told events that it may have, or gets an error that
    does not say what is wrong."""
    body = {"input": "Hello", "max_output_tokens": 4, "ignore_eos": True}
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as http:

        def asked(id: str, after: str) -> httpx2.Request:
            if way == "retrieve":
                return http.build_request(
                    "GET", f"/v1/responses/{id}", params={"stream": "true", "starting_after": after}
                )
            return http.build_request("GET", f"/v1/responses/{id}/events", headers={"last-event-id": after})

        ended = (await http.post("/v1/responses", json=body)).json()["id"]
        for after in ("-5", "abc", "99999999999999999999999", "1e3"):
            refused = await http.send(asked(ended, after))
            assert refused.status_code == 400, (after, refused.text)
            assert refused.json()["error"]["param"] == {"retrieve": "starting_after", "events": "Last-Event-ID"}[way]
        nothing = (200, ["data: [DONE]"]) if way == "retrieve" else (204, [])
        past = await http.send(asked(ended, "999999"))
        assert (past.status_code, lines_with_data(past.text)) == nothing
        with server.held():  # the reply cannot end before its reader has come
            running = (await http.post("/v1/responses", json=body | {"background": True})).json()["id"]
            reading = await http.send(asked(running, "999999"), stream=True)
        await reading.aread()
        assert (reading.status_code, lines_with_data(reading.text)) == (200, nothing[1])


def lines_with_data(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("data:")]


async def test_abandoned_as_the_setting_says(start_server: Callable[..., Server]) -> None:
    """Breaks if `abandon` is ignored: a shop that pays for cores would compute for readers who closed the page; or if
    it stops a reply whose reader is back."""
    server = start_server(abandon="grace", abandon_seconds="3")
    async with loose_client(server) as client:
        with server.held():  # neither comes to its end before it is abandoned
            ids = []
            for _ in range(2):
                stream = await client.responses.create(model=MODEL, input="Tell me more.", stream=True, **LONG)
                ids.append((await anext(aiter(stream))).response.id)
                await stream.close()
            back = await client.responses.retrieve(ids[0], stream=True)
            deadline = time.monotonic() + 60
            while (await client.responses.retrieve(ids[1])).status != "cancelled":
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
        events = [event async for event in back]
    assert all(b.sequence_number == a.sequence_number + 1 for a, b in pairwise(events))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.usage.output_tokens == 200
