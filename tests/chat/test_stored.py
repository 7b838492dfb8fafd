"""Stored replies in one process, with the shipped model and an SQLite file: what a second life of the service finds,
what a repeated request gets, who waits for whom, and what a conversation that outgrows its window keeps.

Killing the real server is in tests/acceptance/test_durability.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from frontdesk.access.budgets import Budgets
from frontdesk.chat.prompts import load_personas
from frontdesk.chat.reply import Reply
from frontdesk.chat.service import ChatService, Rules
from frontdesk.chat.spending import Spending
from frontdesk.config import prompts_folder
from frontdesk.errors import BudgetExceeded, Conflict, ContextLengthExceeded, Forbidden, InvalidRequest, NotFound
from frontdesk.fleet.pool import Pool
from frontdesk.fleet.registry import card_for_file
from frontdesk.generation import Finished
from frontdesk.messages import Item, Message
from frontdesk.principal import Limits, Principal
from frontdesk.store.records import ConversationRecord
from frontdesk.store.store import open_store
from frontdesk.wire._format import Call
from frontdesk.wire.openai_responses import OpenAIResponses
from frontdesk.worker.protocol import Load

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
DANA = Principal(owner="dana")
CONVERSATION = "conv_" + "0" * 32

Open = Callable[..., Awaitable[ChatService]]


@pytest.fixture
async def open_service(tmp_path: Path) -> AsyncIterator[Open]:
    """`await open_service()`: a service over the test's one database; call it again for its next life."""
    async with AsyncExitStack() as stack:

        async def start(rules: Rules | None = None, conversation_limits: Limits | None = None) -> ChatService:
            pool = Pool(card_for_file(SHIPPED))
            load = Load(
                str(SHIPPED), 512, 2048, slots=4, threads=1, threads_least=1, chunk=64, chunk_busy=32, exact=True
            )
            store = await open_store(str(tmp_path / "frontdesk.db"))
            spending = Spending(Budgets(), store, conversation_limits or Limits())
            service = ChatService(pool, load_personas(prompts_folder()), store, spending, rules)
            await pool.start(load, prepare=service.recover)
            stack.push_async_callback(end_life, service)
            return service

        yield start


async def end_life(service: ChatService) -> None:
    """As the server's shutdown does it. A second call does nothing."""
    service.suspend()
    await service.pool.close()
    await service.close()
    await service.store.close()


def asks(text: str = "Hello", **fields: Any) -> Call:
    body = {"input": text, "temperature": 0, "max_output_tokens": 60, "ignore_eos": True, **fields}
    return OpenAIResponses().parse(body)


async def ended(reply: Reply) -> Finished:
    last = await asyncio.wait_for(reply.log.wait_end(), 60)
    assert isinstance(last, Finished)
    return last


async def answered(service: ChatService, call: Call, principal: Principal = DANA, **options: Any) -> Reply:
    (reply,) = await service.start(call, principal, **options)
    await ended(reply)
    return reply


async def conversation(service: ChatService, owner: str = "dana", **context: Any) -> str:
    await service.store.conversations.create(
        ConversationRecord(CONVERSATION, owner, 1, 1, options={"context": context} if context else {})
    )
    return CONVERSATION


async def test_another_life_goes_on(open_service: Open) -> None:
    """A restart would lose an answer that was promised, repeat a part of it, or charge for it twice."""
    service = await open_service()
    (reply,) = await service.start(asks(max_output_tokens=300), DANA)
    async for _ in reply.log.read():
        if len(reply.log.events) > 20:
            break
    await end_life(service)
    seen = list(reply.log.events)
    assert not reply.log.ended
    service = await open_service()
    again = await service.open(DANA, reply.id)
    last = await ended(again)
    assert (last.reason, last.usage.completion) == ("length", 300)
    assert again.log.events[: len(seen)] == seen
    whole = await answered(service, asks(max_output_tokens=300))
    assert again.log.text() == whole.log.text()
    (row,) = [row for row in await service.store.ledger.sums(owner="dana") if row]
    assert (row["requests"], row["completion"]) == (2, 600)
    restored = await service.open(DANA, reply.id)
    assert restored.log.events == again.log.events


async def test_a_repeated_request_is_the_same_reply(open_service: Open) -> None:
    """A client that retries after a lost connection would get, and pay for, two answers."""
    service = await open_service()
    one, two = await asyncio.gather(*(service.start(asks(), DANA, idempotency="k") for _ in range(2)))
    assert one[0] is two[0]
    await ended(one[0])
    (three,) = await service.start(asks(), DANA, idempotency="k")
    assert three.log.events == one[0].log.events
    with pytest.raises(Conflict):
        await service.start(asks("Something else"), DANA, idempotency="k")
    (other,) = await service.start(asks(), Principal(owner="ben"), idempotency="k")
    assert other.id != one[0].id
    await ended(other)


async def test_one_turn_at_a_time(open_service: Open) -> None:
    """Two answers to one conversation would each not know the other, in an order that nobody chose."""
    service = await open_service()
    id = await conversation(service)
    (reply,) = await service.start(asks(conversation=id), DANA)
    with pytest.raises(Conflict) as refused:
        await service.start(asks(conversation=id), DANA)
    assert refused.value.code == "conversation_locked"
    with pytest.raises(NotFound):
        await service.start(asks(conversation=id), Principal(owner="ben"))
    await ended(reply)
    await answered(service, asks("Thanks", conversation=id))
    items = await service.store.conversations.all_items("dana", id)
    assert [item.message.role for item in items] == ["user", "assistant", "user", "assistant"]


async def test_a_turn_that_is_refused_does_not_lock(open_service: Open) -> None:
    """One bad request would make a conversation unusable."""
    service = await open_service()
    id = await conversation(service, truncation="disabled")
    with pytest.raises(ContextLengthExceeded):
        await service.start(asks("long " * 600, conversation=id), DANA)
    await answered(service, asks(conversation=id))


async def test_forks(open_service: Open) -> None:
    """Editing an earlier question would be answered in the light of what came after it."""
    service = await open_service()
    id = await conversation(service)
    first = await answered(service, asks("My name is Dana.", conversation=id))
    await answered(service, asks("I bought a kettle.", conversation=id))
    fork = await answered(service, asks("What is my name?", previous_response_id=f"resp_{first.id}"))
    assert len(fork.order.report.kept) == 3
    deeper = await answered(service, asks("And now?", previous_response_id=fork.id))
    assert len(deeper.order.report.kept) == 5
    assert len(await service.store.conversations.all_items("dana", id)) == 4
    with pytest.raises(InvalidRequest) as refused:
        await service.start(asks(previous_response_id=first.id), Principal(owner="ben"))
    assert refused.value.code == "previous_response_not_found"


async def test_what_left_is_summed_up_when_there_is_time(open_service: Open) -> None:
    """What a customer said in the beginning would be forgotten although the conversation asks for summaries, or a
    pinned item would be put into other words."""
    service = await open_service()
    id = await conversation(service, policy="summarise", pinned=["msg_" + "1" * 32])
    pinned = Item("msg_" + "1" * 32, "message", Message("user", "My order number is 4711."))
    await service.store.conversations.add_items("dana", id, [pinned])
    for i in range(8):
        await answered(service, asks(f"Question {i}: when are you open on Saturday?", conversation=id))
    for _ in range(100):
        report = await service.preview(DANA, id)
        if report.summarised and not report.dropped:
            break
        await asyncio.sleep(0.1)
    assert report.summarised
    assert not report.dropped
    assert dict(report.parts)["summary"] > 0
    assert pinned.id in report.kept
    items = await service.store.conversations.all_items("dana", id)
    (summary,) = [item for item in items if item.kind == "summary"]
    assert pinned.id not in summary.covers


async def test_budgets_are_settled_to_the_token(open_service: Open) -> None:
    """A conversation would be charged for what it did not get, or get more than it may."""
    service = await open_service(conversation_limits=Limits(tokens_total=400))
    id = await conversation(service)
    call = asks(conversation=id, max_output_tokens=20)
    prompt = (await service.count(call, DANA)).prompt_tokens
    reply = await answered(service, call)
    assert int(reply.headers["x-ratelimit-remaining-tokens"]) == 400 - prompt - 20
    with pytest.raises(BudgetExceeded) as refused:
        await service.start(asks(conversation=id, max_output_tokens=400), DANA)
    assert refused.value.details["remaining"] == 400 - prompt - 20
    assert (await service.store.ledger.used("conversation", id, 0))[0] == prompt + 20


async def test_a_cancelled_reply_gives_back_what_it_did_not_use(open_service: Open) -> None:
    """Pressing stop would cost as much as the longest answer."""
    service = await open_service(conversation_limits=Limits(tokens_total=500))
    id = await conversation(service)
    (reply,) = await service.start(asks(conversation=id, max_output_tokens=350), DANA)
    async for _ in reply.log.read():
        if reply.log.text():
            break
    await service.cancel(DANA, reply.id)
    used = reply.usage.prompt + reply.usage.completion
    assert used < 350
    assert (await service.store.ledger.used("conversation", id, 0))[0] == used
    later = await answered(service, asks("Hi", conversation=id, max_output_tokens=5))
    prompt = later.order.report.prompt_tokens
    assert int(later.headers["x-ratelimit-remaining-tokens"]) == 500 - used - prompt - 5


async def test_a_token_for_one_conversation(open_service: Open) -> None:
    """Whoever takes such a token from a page could talk to the model about anything, at the shop's cost."""
    service = await open_service()
    id = await conversation(service)
    bound = Principal(owner="dana", conversation=id)
    await answered(service, asks(conversation=id), bound)
    with pytest.raises(Forbidden):
        await service.start(asks(), bound)
    with pytest.raises(NotFound):
        await service.start(asks(conversation="conv_" + "9" * 32), bound)
    outside = await answered(service, asks())
    with pytest.raises(NotFound):
        await service.open(bound, outside.id)


async def test_compacting_a_whole_conversation(open_service: Open) -> None:
    """A client could not go on with a conversation that has become too long for it."""
    service = await open_service()
    said = [("user", "When are you open on Saturday, and what does express shipping cost?"), ("assistant", "Ten.")]
    items = [{"role": role, "content": f"{text} {i}"} for i in range(30) for role, text in said]
    compaction = await service.compact(OpenAIResponses().parse({"input": items}), DANA)
    (summary,) = compaction.items
    assert len(summary.covers) == 60
    assert compaction.usage.prompt > 0
    call = asks("Thanks", input=[{"type": "compaction", "encrypted_content": summary.message.content},
                                 {"role": "user", "content": "Thanks"}])  # fmt: skip
    reply = await answered(service, call)
    assert dict(reply.order.report.parts)["summary"] > 0
