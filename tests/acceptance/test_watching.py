"""What an operator sees of a busy server: the replies, tokens and failures that its clients saw, and no word of theirs.

Over a real server with the shipped model, asked by OpenAI's client.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from tests.acceptance.asking import MODEL, Shop, ask, async_client, conversation, create_key, loose_client
from tests.conftest import Server

SECRET = "Zanzibar-4711"
ROUTES = ("/v1/metrics/recent", "/v1/replies/live", "/v1/errors/recent", "/v1/keys")
FAILING_SECONDS = 60.0


def operator(server: Server, key: str | None = None) -> httpx2.Client:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx2.Client(base_url=server.url, headers=headers, timeout=30)


def totals(client: httpx2.Client) -> dict[str, int]:
    """The counts of the last hour; of `ttft` and `itl` how many there were."""
    slots = client.get("/v1/metrics/recent").json()["data"]
    plain = ("started", "finished", "cancelled", "failed", "refused", "prompt_tokens", "tokens")
    counts = {name: sum(slot[name] for slot in slots) for name in plain}
    return counts | {name: sum(slot[name]["count"] for slot in slots) for name in ("ttft", "itl")}


async def test_the_numbers_are_what_the_clients_were_answered(start_server: Callable[..., Server]) -> None:
    """Breaks if the page's charts and what clients were told and charged are two different truths."""
    server = start_server()
    async with async_client(server) as client, loose_client(server) as loose:
        answers = await asyncio.gather(*(ask(client, conversation(i, 6), max_tokens=20 + i) for i in range(12)))
        kept = await loose.responses.create(model=MODEL, input="When are you open?", max_output_tokens=9)
        socket_tokens = await over_a_socket(loose)
    prompts = sum(answer.prompt_tokens for answer in answers) + kept.usage.input_tokens + socket_tokens[0]
    tokens = sum(answer.completion_tokens for answer in answers) + kept.usage.output_tokens + socket_tokens[1]
    with operator(server) as page:
        seen = totals(page)
        (used,) = page.get("/v1/usage").json()["data"]
        assert page.get("/v1/replies/live").json()["data"] == []
        slots = page.get("/v1/metrics/recent").json()["data"]
    assert (seen["started"], seen["finished"]) == (14, 14)
    assert (seen["prompt_tokens"], seen["tokens"]) == (prompts, tokens)
    assert (used["prompt_tokens"], used["completion_tokens"]) == (prompts, tokens)
    assert (seen["ttft"], seen["itl"]) == (14, tokens - 14)
    busy = [slot for slot in slots if slot["itl"]["count"]]
    for slot in busy:
        assert 0 < slot["itl"]["p50"] <= slot["itl"]["p95"] < 10
        assert slot["memory_bytes"] > 50_000_000
    assert max(slot["kv_used"] for slot in busy) > 0


async def over_a_socket(client: Any) -> tuple[int, int]:
    """Prompt and answer of one turn on a WebSocket."""
    async with client.responses.connect() as socket:
        await socket.send_raw(json.dumps({"type": "response.create", "input": "Hello", "max_output_tokens": 7}))
        while (event := (await socket.recv()).to_dict())["type"] not in ("response.completed", "response.incomplete"):
            pass
    return event["response"]["usage"]["input_tokens"], event["response"]["usage"]["output_tokens"]


async def test_streams_are_seen_while_they_run(start_server: Callable[..., Server]) -> None:
    """Breaks if an operator who hears that it is slow cannot see who is answered and who waits."""
    server = start_server(auth="on", slots="2", max_waiting="5")
    key = create_key(server, "shop")
    bearer = {"authorization": f"Bearer {key}"}
    body = {"model": MODEL, "max_output_tokens": 2500, "ignore_eos": True, "stream": True, "input": f"I am {SECRET}"}
    with operator(server, create_key(server, "page", "--scope", "admin")) as page:
        async with httpx2.AsyncClient(base_url=server.url, headers=bearer, timeout=60) as client:
            streams = [asyncio.create_task(read(client, body)) for _ in range(5)]
            await asyncio.to_thread(server.wait_for, "waiting", 3)
            await asyncio.to_thread(live_until, page, lambda live: [r["state"] for r in live].count("streaming") == 2)
            with server.held():  # nobody comes to an end, or to the front of the line, while all is looked at
                line = page.get("/v1/replies/live").json()["data"]
                now = page.get("/v1/metrics/recent").json()["data"][-1]
                refused = await client.post("/v1/responses", json=body)
                for reply in line:
                    answer = await client.post(f"/v1/responses/{reply['id']}/cancel")
                    assert answer.json()["status"] in ("cancelled", "incomplete")
                await asyncio.gather(*streams)
        waiting = [reply for reply in line if reply["state"] == "waiting"]
        assert [reply["place"] for reply in waiting] == [1, 2, 3]
        for reply in line:
            assert reply["payer"] == f"key {key.split('_')[1]}"
            assert (reply["object"], reply["model"]) == ("reply", MODEL)
            assert reply["prompt_tokens"] > 0
            assert reply["age"] > 0
            if reply["state"] == "streaming":
                assert reply["place"] is None
                assert reply["tokens"] > 0
                assert 0 < reply["ttft"] <= reply["age"]
            else:
                assert (reply["tokens"], reply["ttft"]) == (0, None)
        assert page.get("/v1/replies/live").json()["data"] == []
        assert refused.status_code == 429
        (error,) = page.get("/v1/errors/recent").json()["data"]
        assert (error["status"], error["request_id"]) == (429, refused.headers["x-request-id"])
        seen = totals(page)
        assert (seen["started"], seen["cancelled"], seen["refused"]) == (5, 5, 1)
        assert (now["running"], now["waiting"]) == (2, 3)
        assert SECRET not in "".join(page.get(path).text for path in ROUTES)


async def read(client: httpx2.AsyncClient, body: dict[str, object]) -> str:
    """All that a stream sends."""
    async with client.stream("POST", "/v1/responses", json=body) as stream:
        assert stream.status_code == 200
        return "".join([line async for line in stream.aiter_lines()])


def live_until(page: httpx2.Client, holds: Callable[[list[dict[str, Any]]], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds(live := page.get("/v1/replies/live").json()["data"]):
        assert time.monotonic() < deadline, live
        time.sleep(0.01)


async def test_a_reply_that_fails_in_mid_stream_is_found_by_its_request(start_server: Callable[..., Server]) -> None:
    """Breaks if a stream that broke off, after it had been answered with 200, leaves no trace for the operator."""
    server = start_server(chunk="16", chunk_busy="16")
    body = {"model": MODEL, "max_output_tokens": 20, "stream": True, "input": f"{SECRET} is here. " * 240}
    headers = {"x-request-id": "the-one-that-failed"}
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=FAILING_SECONDS) as client:
        reading = asyncio.create_task(read(client, body))
        await asyncio.to_thread(server.wait_for, "running", 1)
        while not reading.done():  # a request that is alone with two dying engines is to blame
            await asyncio.to_thread(kill_engine, server)
        text = await reading
    assert "response.failed" in text
    assert "engine_died" in text
    with operator(server) as page:
        errors = page.get("/v1/errors/recent").json()["data"]
        failed = [error for error in errors if error["request_id"] == "the-one-that-failed"]
        assert [(e["method"], e["path"], e["status"], e["code"]) for e in failed] == [
            ("POST", "/v1/responses", 500, "engine_died")
        ]
        assert failed[0]["response"] in text
        assert totals(page)["failed"] == 1
        assert SECRET not in "".join(page.get(path).text for path in ROUTES)


def kill_engine(server: Server) -> None:
    """Kill the engine as soon as it works, and wait until another one does."""
    deaths = server.ready()["restarts"]
    os.kill(server.engine_pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while (now := server.ready())["restarts"] == deaths or now["status"] != "ready":
        assert time.monotonic() < deadline, now
        time.sleep(0.002)


@pytest.mark.parametrize("path", [*ROUTES, "/v1/feedback"])
async def test_a_shop_sees_nothing_of_the_others(shop: Shop, path: str) -> None:
    """Breaks if one of two customers of a server can see the other's load, errors, key or feedback."""
    async with httpx2.AsyncClient(base_url=shop.server.url, timeout=10) as client:
        for key in (shop.alice, shop.bob):
            answer = await client.get(path, headers={"authorization": f"Bearer {key}"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")
        assert (await client.get(path)).status_code == 401
