"""Budgets under a rush: exactly what the budget holds is spent, the refused are told why, and nothing is kept back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.acceptance import books
from tests.acceptance.asking import MODEL, conversation, create_key, loose_client
from tests.conftest import Server

RUSH, FITS, ANSWER = 100, 10, 12
OPTIONS: dict[str, Any] = {"model": MODEL, "max_output_tokens": ANSWER, "extra_body": {"ignore_eos": True}}
ASK: dict[str, Any] = {"input": "When are you open?"}


@dataclass(frozen=True)
class Guarded:
    """A server that asks for keys. `master` may issue visitors' tokens; `price` is what one `ASK` costs, in tokens."""

    server: Server
    master: str
    price: int


@pytest.fixture(scope="module")
def guarded(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Guarded]:
    with launch(auth="on") as server:
        master = create_key(server, "master")
        client = openai.OpenAI(base_url=server.url + "/v1", api_key=master, max_retries=0)
        with client:
            prompt = client.responses.input_tokens.count(model=MODEL, input=ASK["input"]).input_tokens
        yield Guarded(server, master, prompt + ANSWER)


async def rush(client: Any, **more: Any) -> tuple[list[Any], list[openai.RateLimitError]]:
    """So many requests at once, half of them streamed: the responses, and the refusals. Nothing else may happen."""

    async def one(number: int) -> Any:
        try:
            if number % 2:
                return await client.responses.create(**OPTIONS | ASK | more)
            stream = await client.responses.create(**OPTIONS | ASK | more, stream=True)
            return [event async for event in stream][-1].response
        except openai.RateLimitError as refused:
            return refused

    found = await asyncio.gather(*(one(number) for number in range(RUSH)))
    refusals = [each for each in found if isinstance(each, openai.RateLimitError)]
    return [each for each in found if not isinstance(each, openai.RateLimitError)], refusals


def spent(server: Server, column: str, value: str) -> list[int]:
    """What every reply of one payer cost, from the ledger itself."""
    rows = [row for row in books.ledger(Path(server.database)) if row[column] == value]
    return [row["prompt"] + row["completion"] for row in rows]


def key_id(key: str) -> str:
    return key.split("_")[1]


@pytest.mark.parametrize("period", ["total", "day"])
async def test_a_key_buys_exactly_what_it_may(guarded: Guarded, period: str) -> None:
    """Breaks if requests at the same moment see the same free tokens, or refused ones take some with them."""
    budget = FITS * guarded.price + 3
    key = create_key(guarded.server, f"rush {period}", f"--tokens-{period.replace('day', 'per-day')}", str(budget))
    async with loose_client(guarded.server, key) as client:
        answered, refused = await rush(client)
    assert (len(answered), len(refused)) == (FITS, RUSH - FITS)
    assert {response.usage.total_tokens for response in answered} == {guarded.price}
    assert spent(guarded.server, "key", key_id(key)) == [guarded.price] * FITS
    for error in refused:
        headers = error.response.headers
        assert headers["x-ratelimit-limit-tokens"] == str(budget)
        assert int(headers["x-ratelimit-remaining-tokens"]) < guarded.price
        assert f"{budget:,}" in error.message
        assert f"{guarded.price:,}" in error.message
        if period == "day":
            assert 0 < int(headers["retry-after"]) <= 86_400
            assert "x-ratelimit-reset-tokens" in headers
        else:
            assert headers["x-should-retry"] == "false", "waiting does not help: the client must not try again"
            assert "retry-after" not in headers
    assert refused[-1].response.headers["x-ratelimit-remaining-tokens"] == "3"


async def test_requests_a_minute(guarded: Guarded) -> None:
    """Breaks if a rate is counted after the fact: a rush would pass as a whole."""
    key = create_key(guarded.server, "rate", "--requests-per-minute", str(FITS))
    if time.time() % 60 > 45:
        await asyncio.sleep(16)  # a minute of the budget is one of the clock
    async with loose_client(guarded.server, key) as client:
        answered, refused = await rush(client)
    assert (len(answered), len(refused)) == (FITS, RUSH - FITS)
    for error in refused:
        assert 1 <= int(error.response.headers["retry-after"]) <= 60
        assert error.response.headers["x-ratelimit-remaining-requests"] == "0"


async def test_a_visitor_buys_exactly_what_he_may(guarded: Guarded) -> None:
    """Breaks if a page's visitor can spend the shop's money by asking in a hurry."""
    async with httpx2.AsyncClient(base_url=guarded.server.url) as http:
        headers = {"authorization": f"Bearer {guarded.master}"}
        body = {"tokens_per_day": FITS * guarded.price}
        token = (await http.post("/v1/visitors", json=body, headers=headers)).raise_for_status().json()
    async with loose_client(guarded.server, token["value"]) as client:
        answered, refused = await rush(client)
    assert (len(answered), len(refused)) == (FITS, RUSH - FITS)
    assert "visitor" in refused[0].message
    assert spent(guarded.server, "visitor", token["visitor"]["id"]) == [guarded.price] * FITS


async def test_a_conversation_buys_exactly_what_it_may(guarded: Guarded) -> None:
    """Breaks if a conversation overspends its own budget, or is refused while the next turn would still fit."""
    budget = FITS * guarded.price
    costs: list[int] = []

    async def talk(client: Any, conversation: str) -> None:
        while True:
            turn = await client.responses.create(**OPTIONS | ASK, conversation=conversation)
            costs.append(turn.usage.total_tokens)

    async with loose_client(guarded.server, guarded.master) as client:
        made = await client.conversations.create(extra_body={"budget": {"tokens_total": budget}})
        with pytest.raises(openai.RateLimitError, match="conversation") as refused:
            await talk(client, made.id)
    assert costs == sorted(costs), "a history that grows costs more with every turn"
    assert costs == sorted(spent(guarded.server, "conversation", made.id))
    assert sum(costs) <= budget < sum(costs) + costs[-1] + 100
    assert f"{budget - sum(costs):,} left" in refused.value.message


@asynccontextmanager
async def metered(server: Server, budget: int) -> AsyncIterator[tuple[Any, Callable[[], Any]]]:
    """A client whose key has a budget, and a function that tells (left by the headers, left by the ledger)."""
    key = create_key(server, "metered", "--tokens-total", str(budget))

    async def left() -> tuple[int, int]:
        made = await client.responses.with_raw_response.create(**OPTIONS | ASK)
        # The headers were written when this very request had only reserved, which for an exact length is what it took.
        return int(made.headers["x-ratelimit-remaining-tokens"]), budget - sum(spent(server, "key", key_id(key)))

    async with loose_client(server, key) as client:
        yield client, left


async def test_what_was_not_used_comes_back(guarded: Guarded) -> None:
    """Breaks if a reply that was cancelled, refused or shorter than allowed keeps the tokens that it had reserved."""
    async with metered(guarded.server, 20_000) as (client, left):
        id = ""
        stopped: Any = None
        async for event in await client.responses.create(**OPTIONS | ASK | {"max_output_tokens": 1500}, stream=True):
            if event.type == "response.output_text.delta" and stopped is None:
                stopped = await client.responses.cancel(id)
            id = event.response.id if event.type == "response.created" else id
        by_headers, by_ledger = await left()
        assert by_headers == by_ledger == 20_000 - stopped.usage.total_tokens - guarded.price
        assert stopped.usage.total_tokens < guarded.price + 1500, "it had ended before it was cancelled"
        with pytest.raises(openai.BadRequestError):
            await client.responses.create(model=MODEL, input="word " * 5000)
        short = await client.responses.create(model=MODEL, input="When are you open?", max_output_tokens=1000)
        assert short.status == "completed"
        again = await left()
        assert again == (by_headers - short.usage.total_tokens - guarded.price,) * 2


async def test_a_reader_who_hangs_up_pays_for_what_he_got(guarded: Guarded) -> None:
    """Breaks if a chat stream that its client dropped is charged in full, or not at all."""
    async with metered(guarded.server, 20_000) as (client, left):
        stream = await client.chat.completions.create(
            model=MODEL, messages=conversation(1, 0), max_tokens=2500, stream=True, extra_body={"ignore_eos": True}
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        await stream.close()
        await asyncio.to_thread(guarded.server.wait_idle)
        by_headers, by_ledger = await left()
    assert by_headers == by_ledger
    assert 0 < 20_000 - by_ledger - guarded.price < 2500


@pytest.mark.timeout(900)  # on a machine that does other things too
async def test_a_failed_reply_gives_back_what_it_did_not_take(start_server: Callable[..., Server]) -> None:
    """Breaks if a reply that killed its engine until it was given up stays reserved, or is charged for an answer."""
    server = start_server(auth="on", chunk="16", chunk_busy="16")
    async with metered(server, 20_000) as (client, left):
        long = conversation(3, 250)  # so long that each life of the engine is met in the middle of it
        task = asyncio.create_task(client.responses.create(**OPTIONS | {"input": long}))
        while not task.done():
            await asyncio.to_thread(_kill_working_engine, server)
        with pytest.raises(openai.InternalServerError) as failed:
            await task
        assert failed.value.response.headers["x-should-retry"] == "false"
        by_headers, by_ledger = await left()
    assert by_headers == by_ledger
    outcomes = {row["outcome"]: row["completion"] for row in books.ledger(Path(server.database))}
    assert outcomes == {"failed": 0, "finished": ANSWER}


def _kill_working_engine(server: Server) -> None:
    """Kill it while it works on a prompt, or do nothing when it has none or is not there."""
    if server.ready().get("running"):
        for pid in server.engine_pids():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.3)
    time.sleep(0.005)
