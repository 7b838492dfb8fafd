"""What the operator's numbers say of real replies: exactly what the ledger says, whatever becomes of the replies."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from tests.chat.lives import DANA, Open, answered, asks, conversation, end_life, ended

from frontdesk.chat.metering import payer
from frontdesk.chat.service import ChatService, Rules
from frontdesk.errors import Conflict, EngineNotReady, Overloaded
from frontdesk.generation import Delta, Failed
from frontdesk.principal import ANONYMOUS, Principal
from frontdesk.telemetry.problems import Asked, Problems, asking
from frontdesk.telemetry.recent import Recent
from frontdesk.wire.openai_chat import OpenAIChat


def watching() -> Recent:
    return Recent(time.time, Problems(time.time, lambda error: 503))


def counted(recent: Recent) -> Counter[str]:
    names = ("started", "finished", "cancelled", "failed", "refused", "prompt_tokens", "tokens")
    return Counter({name: sum(getattr(slot, name) for slot in recent.slots()) for name in names})


async def ledger(service: ChatService) -> tuple[int, int]:
    """Tokens of prompts and of answers."""
    await service.flush()
    (row,) = await service.store.ledger.sums()
    return row["prompt"], row["completion"]


async def some_tokens(reply: Any, least: int = 1) -> None:
    async for _ in reply.log.read():
        if sum(isinstance(event, Delta) for event in reply.log.events) >= least:
            return


async def test_the_numbers_are_the_ledgers(open_service: Open) -> None:
    """The operator's page would show other tokens than those that were answered and charged."""
    service = await open_service(recent=(recent := watching()))
    await answered(service, asks())
    await answered(service, asks(store=False, stop=["e"]))
    await answered(service, asks(generate=False))
    messages = [{"role": "user", "content": "Hello"}]
    two = await service.start(OpenAIChat().parse({"messages": messages, "n": 2, "max_tokens": 9, "temperature": 1}))
    await asyncio.gather(*map(ended, two))
    (cut,) = await service.start(asks(max_output_tokens=300))
    await some_tokens(cut, 5)
    await service.cancel(ANONYMOUS, cut.id)
    seen = counted(recent)
    assert (seen["prompt_tokens"], seen["tokens"]) == await ledger(service)
    assert (seen["started"], seen["finished"], seen["cancelled"], seen["failed"]) == (6, 5, 1, 0)
    assert recent.live() == []
    slots = recent.slots()
    assert sum(slot.ttft.count for slot in slots) == 5, "one for each reply that says something"
    assert sum(slot.itl.count for slot in slots) == seen["tokens"] - 5


async def test_what_is_read_again_is_not_counted_again(open_service: Open) -> None:
    """Whoever opens an old answer would look like load."""
    service = await open_service(recent=(recent := watching()))
    reply = await answered(service, asks())
    before = counted(recent)
    again = await service.open(DANA, reply.id)
    assert again is not reply
    assert counted(recent) == before


async def test_replies_are_seen_while_they_run(open_service: Open) -> None:
    """The operator would not see who waits, for how long, and who pays."""
    service = await open_service(recent=(recent := watching()))
    replies = [(await service.start(asks(max_output_tokens=400), DANA))[0] for _ in range(5)]
    await some_tokens(replies[0])
    await asyncio.wait_for(until(lambda: any(meter.state()[0] == "waiting" for meter in recent.live())), 20)
    live = recent.live()
    assert [meter.id for meter in live] == [reply.id for reply in replies], "four slots and one who waits"
    assert live[-1].state() == ("waiting", 1)
    assert live[0].state() == ("streaming", None)
    assert live[0].tokens >= 1
    assert 0 < (live[0].ttft or 0) <= live[0].age
    assert {meter.order.payer for meter in live} == {"anonymous"}
    assert {meter.order.prompt_tokens for meter in live} == {len(replies[0].order.prompt)}
    for reply in replies:
        reply.cancel()
    await asyncio.gather(*(reply.log.wait_end() for reply in replies))
    assert recent.live() == []
    assert counted(recent)["cancelled"] == 5


async def until(holds: Any) -> None:
    while not holds():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.005)


async def test_a_reply_goes_on_in_the_next_life_and_is_counted_there(open_service: Open) -> None:
    """After a restart tokens of the former life would be counted again, and the pause be somebody's first token."""
    first = await open_service(recent=(before := watching()))
    (reply,) = await first.start(asks(max_output_tokens=300), DANA)
    await some_tokens(reply, 20)
    await end_life(first)
    assert before.live() == []
    told = counted(before)
    assert (told["started"], told["finished"], told["failed"]) == (1, 0, 0)
    second = await open_service(recent=(after := watching()))
    await ended(await second.open(DANA, reply.id))
    now = counted(after)
    prompt, completion = await ledger(second)
    assert told["tokens"] + now["tokens"] == completion == 300
    assert told["prompt_tokens"] + now["prompt_tokens"] == prompt
    assert (now["started"], now["finished"]) == (1, 1)
    assert sum(slot.ttft.count for slot in after.slots()) == 0


async def test_a_failed_reply_tells_its_request(open_service: Open) -> None:
    """A reply that broke off in mid-stream would be in no list, as its answer had begun with 200."""
    service = await open_service(recent=(recent := watching()))
    asking.set(asked := Asked("req_1", "POST", "/v1/responses"))
    (reply,) = await service.start(asks(store=False, max_output_tokens=400), DANA)
    await some_tokens(reply)
    await service.pool.close()
    assert isinstance(await reply.log.wait_end(), Failed)
    (problem,) = recent.problems.newest()
    assert (problem.asked, problem.reply, problem.code) == (asked, reply.id, EngineNotReady.code)
    assert counted(recent)["failed"] == 1
    assert recent.live() == []


async def test_who_is_turned_away_is_counted(open_service: Open) -> None:
    """A server that refuses everybody would look like one that has nothing to do."""
    service = await open_service(Rules(max_waiting=1), recent=(recent := watching()))
    id = await conversation(service)
    (reply,) = await service.start(asks(conversation=id, max_output_tokens=300), DANA)
    with pytest.raises(Overloaded):
        await service.start(asks(), DANA)
    reply.cancel()
    with pytest.raises(Conflict):
        await service.start(asks(conversation=id), DANA)
    await reply.log.wait_end()
    assert counted(recent)["refused"] == 2
    assert counted(recent)["started"] == 1


def test_who_pays_is_named_by_id() -> None:
    """The operator would not know whose load it is, or would take a visitor's for the shop's own."""
    assert payer(ANONYMOUS) == "anonymous"
    assert payer(Principal("key:ab", "ab")) == "key ab"
    assert payer(Principal("visitor:vis_1", "ab", "vis_1")) == "visitor vis_1"
