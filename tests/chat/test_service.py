"""From request to last event, with the shipped model in its own process: what is counted, and how a reply ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from frontdesk.access.budgets import Budgets
from frontdesk.chat.ordering import tenant_number
from frontdesk.chat.prompts import Personas
from frontdesk.chat.reply import Reply
from frontdesk.chat.sampling import sampling_params
from frontdesk.chat.service import ChatService, Rules
from frontdesk.chat.spending import Spending
from frontdesk.errors import ContextLengthExceeded, EngineNotReady, InvalidRequest, Overloaded
from frontdesk.fleet.pool import Pool
from frontdesk.fleet.registry import card_for_file
from frontdesk.generation import Delta, Failed, Finished, GenerationRequest, Sampling, Started
from frontdesk.messages import Message
from frontdesk.principal import Limits, Principal
from frontdesk.store.store import open_store
from frontdesk.wire._format import Call
from frontdesk.wire.openai_completions import CompletionRequest
from frontdesk.worker.protocol import Load

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
LONG = tuple(range(300, 400))


async def open_service(slots: int = 4, max_waiting: int = 512) -> ChatService:
    pool = Pool(card_for_file(SHIPPED))
    load = Load(
        str(SHIPPED), 512, 512 * slots, slots=slots, threads=1, threads_least=1, chunk=64, chunk_busy=32, exact=True
    )
    await pool.start(load)
    store = await open_store("memory")
    spending = Spending(Budgets(), store, Limits())
    return ChatService(pool, Personas(), store, spending, Rules(max_waiting=max_waiting))


async def close(service: ChatService) -> None:
    await service.pool.close()
    await service.close()
    await service.store.close()


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[ChatService]:
    service = await open_service()
    yield service
    await close(service)


async def start(service: ChatService, wanted: GenerationRequest, n: int = 1, tenant: str = "") -> list[Reply]:
    body = CompletionRequest.model_validate({"prompt": "as the generation says"})
    return await service.start(Call(wanted, body, n), Principal(owner=tenant))


def request(max_tokens: int | None = 20, **changes: Any) -> GenerationRequest:
    changes = {"tokens": LONG, **changes} if not changes.keys() & {"messages", "text"} else changes
    sampling = changes.pop("sampling", Sampling(temperature=0, ignore_eos=True))
    return GenerationRequest(None, max_tokens=max_tokens, sampling=sampling, **changes)


async def end(reply: Reply) -> Finished | Failed:
    last = await asyncio.wait_for(reply.log.wait_end(), 60)
    assert last is not None
    return last


async def finished(reply: Reply) -> Finished:
    last = await end(reply)
    assert isinstance(last, Finished)
    assert isinstance(reply.log.events[0], Started)
    return last


def counted(reply: Reply) -> int:
    return sum(event.tokens for event in reply.log.events if isinstance(event, Delta))


async def test_usage_at_the_limit(service: ChatService) -> None:
    """Customers would be billed for other tokens than they got."""
    [reply] = await start(service, request(20), tenant="usage")
    last = await finished(reply)
    assert (last.reason, last.usage.prompt, last.usage.completion) == ("length", len(LONG), 20)
    assert counted(reply) == 20
    [again] = await start(service, request(20), tenant="usage")
    assert (await finished(again)).usage.cached == len(LONG) - 1
    assert again.log.text() == reply.log.text()


async def test_usage_with_a_stop_string(service: ChatService) -> None:
    """The tokens before a stop string would be counted twice, or those behind it at all."""
    [whole] = await start(service, request(40))
    await finished(whole)
    text = whole.log.text()
    stop = text[len(text) // 2 :][:4]
    [reply] = await start(service, request(40, stop=(stop,)))
    last = await finished(reply)
    assert (last.reason, last.stop_string) == ("stop", stop)
    assert reply.log.text() == text[: text.index(stop)]
    assert 0 < last.usage.completion < 40
    assert last.usage.completion == counted(reply)


async def test_usage_of_a_cancelled_reply(service: ChatService) -> None:
    """Cancelling would lose what was said, be billed wrong, or leave the work running."""
    [reply] = await start(service, request(None))
    async for _ in reply.log.read():
        if counted(reply) >= 5:
            reply.cancel()
    last = await finished(reply)
    assert last.reason == "cancelled"
    assert 5 <= last.usage.completion < 512 - len(LONG)
    assert counted(reply) == last.usage.completion
    reply.cancel()
    assert service.pool.backend is not None
    assert service.pool.backend.engine.open_requests == 0


async def test_the_window_is_the_limit_without_another(service: ChatService) -> None:
    """A reply without a limit would end too early, or never."""
    [reply] = await start(service, request(None))
    last = await finished(reply)
    assert (last.reason, last.usage.completion) == ("length", 512 - len(LONG))


async def test_warm_up_says_nothing(service: ChatService) -> None:
    """`generate: false` would send text, or a bill for it."""
    [warm] = await start(service, request(None, generate=False), tenant="warm")
    last = await finished(warm)
    assert (warm.log.text(), last.usage.completion, last.usage.cached) == ("", 0, 0)
    [real] = await start(service, request(2), tenant="warm")
    assert (await finished(real)).usage.cached == len(LONG) - 1


async def test_many_replies_to_one_request(service: ChatService) -> None:
    """`n` replies would all say the same, or one seed would not give the same `n` again."""
    sampling = Sampling(temperature=2.0, top_k=0, top_p=1, min_p=0, seed=5, ignore_eos=True)
    texts = []
    for _ in range(2):
        replies = await start(service, request(12, sampling=sampling), n=3)
        for reply in replies:
            await finished(reply)
        texts.append([reply.log.text() for reply in replies])
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 3


async def test_logprobs_belong_to_their_tokens(service: ChatService) -> None:
    """Probabilities would be shown beside words that they are not of."""
    [reply] = await start(service, request(15, top_logprobs=2))
    await finished(reply)
    entries = [entry for event in reply.log.events if isinstance(event, Delta) for entry in event.logprobs]
    assert len(entries) == 15
    assert b"".join(entry.data for entry in entries).decode("utf-8", "replace") == reply.log.text()
    assert all(entry.top[0][0] == entry.token and entry.top[0][2] == entry.logprob for entry in entries)  # greedy


@pytest.mark.parametrize("length", [511, 512, 600])
async def test_a_prompt_over_the_window_is_refused_with_its_numbers(service: ChatService, length: int) -> None:
    """The caller would not know by how much to shorten, or a fitting prompt would be refused."""
    wanted = request(None, tokens=tuple(300 + i % 100 for i in range(length)))
    if length < 512:
        [reply] = await start(service, wanted)
        assert (await finished(reply)).usage.completion == 512 - length
        return
    with pytest.raises(ContextLengthExceeded) as refused:
        await start(service, wanted)
    assert refused.value.details == {"n_prompt_tokens": length, "n_ctx": 512}


@pytest.mark.parametrize("changes", [{"tokens": ()}, {"tokens": (5, 10**6)}, {"tokens": (-1,)}, {"text": ""}], ids=str)
async def test_prompts_that_would_kill_an_engine_are_refused(service: ChatService, changes: dict[str, Any]) -> None:
    """A number too large in one request would end the engine for everybody."""
    assert service.pool.backend is not None
    pid = service.pool.backend.engine.pid
    with pytest.raises(InvalidRequest):
        await start(service, request(5, **changes))
    [reply] = await start(service, request(1))
    await finished(reply)
    assert service.pool.backend.engine.pid == pid


async def test_a_long_conversation_is_rendered_beside_the_loop(service: ChatService) -> None:
    """A large request would stop every stream while it is tokenized."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    messages = (Message("user", "Where is my order? " * 3000),)
    with pytest.raises(ContextLengthExceeded):
        await start(service, request(5, messages=messages))
    beside.cancel()
    assert turns > 5


async def test_a_full_line_is_told() -> None:
    """Under too much load every request would wait, instead of some being told to come again."""
    service = await open_service(slots=1, max_waiting=3)
    try:
        replies = [(await start(service, request(None)))[0] for _ in range(3)]
        with pytest.raises(Overloaded) as refused:
            await start(service, request(5))
        assert refused.value.retry_after > 0
        for reply in replies:
            reply.cancel()
            await end(reply)
        await start(service, request(1), n=3)
    finally:
        await close(service)


async def test_a_reply_survives_its_engine_and_a_shutdown_fails_it() -> None:
    """Usage would count the tokens of both engines, and a reader would wait for ever at the end of the server."""
    service = await open_service()
    engine = service.pool.pick(None).engine
    [reply] = await start(service, request(400))
    killed = False
    async for _ in reply.log.read():
        if counted(reply) >= 10 and engine.pid and not killed:
            killed = True
            os.kill(engine.pid, signal.SIGKILL)
    assert (await finished(reply)).usage.completion == 400
    assert engine.restarts == 1
    [open_reply] = await start(service, request(None))
    await service.pool.close()
    last = await end(open_reply)
    assert isinstance(last, Failed)
    assert isinstance(last.error, EngineNotReady)
    with pytest.raises(EngineNotReady):
        await start(service, request(1))
    await close(service)


def test_gaps_in_sampling_are_filled_in_order() -> None:
    """A model's own defaults would win over what the request asks for, or be forgotten."""
    params = sampling_params(Sampling(temperature=0.0, seed=3), Sampling(temperature=0.5, top_k=7, seed=9))
    assert (params.temperature, params.top_k, params.top_p, params.seed) == (0.0, 7, 0.95, 3)
    assert sampling_params(Sampling(), Sampling()).seed != sampling_params(Sampling(), Sampling()).seed


def test_tenants_are_told_apart() -> None:
    """Two customers would share what they have asked, or a restart would forget who is who."""
    assert tenant_number("") == 8238016292129134938
    assert len({tenant_number(name) for name in ("", "a", "b", "a ")}) == 4
