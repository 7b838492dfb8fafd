"""What replies cost, to the token, and what a visitor may do for it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from tests.chat.lives import CONVERSATION, DANA, Open, answered, asks, conversation, ended, held

from frontdesk.chat.reply import Reply
from frontdesk.chat.service import ChatService
from frontdesk.errors import (
    BudgetExceeded,
    Forbidden,
    NotFound,
)
from frontdesk.messages import Item, Message
from frontdesk.principal import Limits, Principal
from frontdesk.wire._format import Call
from frontdesk.wire.openai_chat import OpenAIChat
from frontdesk.wire.openai_responses import OpenAIResponses
from frontdesk.worker.protocol import SequenceOutput

GREETING = Item("msg_" + "1" * 32, "message", Message("assistant", "Hello! How can I help?"))


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


async def test_replies_to_one_call_are_held_together(open_service: Open) -> None:
    """Two answers would be refused although both fit, or a client come back tomorrow for what never fits."""
    service = await open_service()
    shop = Principal(owner="shop", key="k", key_limits=Limits(tokens_per_day=300, requests_per_minute=100))
    prompt = (await service.count(two(200), shop)).prompt_tokens
    with pytest.raises(BudgetExceeded, match="never fits") as refused:
        await service.start(two(200), shop)
    assert (refused.value.details["remaining"], refused.value.details["requested"]) == (300, prompt + 400)
    assert (refused.value.code, refused.value.retry_after) == ("insufficient_quota", math.inf)
    with held(service):
        replies = await service.start(two(None), shop)
        assert [reply.order.parameters.max_tokens for reply in replies] == [(300 - prompt) // 2] * 2
        assert int(replies[0].headers["x-ratelimit-remaining-tokens"]) == (300 - prompt) % 2
        for reply in replies:
            reply.cancel()
    for reply in replies:
        await ended(reply)
    used = sum(reply.usage.completion for reply in replies) + (prompt if replies[0].computed else 0)
    most = (300 - used - prompt) // 2
    results = await asyncio.gather(*(service.start(two(most), shop) for _ in range(2)), return_exceptions=True)
    (passed,) = [result for result in results if isinstance(result, list)]
    (failed,) = [result for result in results if isinstance(result, BudgetExceeded)]
    assert failed.details["remaining"] == 300 - used - prompt - 2 * most
    used += prompt + sum([(await ended(reply)).usage.completion for reply in passed])
    await service.flush()
    assert await service.store.ledger.used("key", "k", 0) == (used, 4)
    with pytest.raises(BudgetExceeded) as refused:
        await service.start(two(150), shop)
    assert refused.value.details["remaining"] == 300 - used


async def test_a_prompt_that_was_read_in_part_is_charged(open_service: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves before the first token, again and again, would have the engine for nothing."""
    hear = Reply._on_output

    def leaving(reply: Reply, output: SequenceOutput) -> None:
        hear(reply, output)
        if output.reading:
            reply.cancel()

    monkeypatch.setattr(Reply, "_on_output", leaving)
    service = await open_service(conversation_limits=Limits(tokens_total=1000))
    id = await conversation(service)
    call = asks("Tell me all about it. " * 40, conversation=id, max_output_tokens=20)
    prompt = (await service.count(call, DANA)).prompt_tokens
    reply = await answered(service, call)
    assert (reply.computed, reply.usage.completion) == (False, 0)
    assert (await service.store.ledger.used("conversation", id, 0))[0] == prompt


def two(most: int | None) -> Call:
    body = {"messages": [{"role": "user", "content": "Hello"}], "n": 2, "temperature": 1, "max_tokens": most}
    return OpenAIChat().parse(body)


async def test_what_is_left_is_told_before_the_next_turn(open_service: Open) -> None:
    """A page would show what was left while the longest answer was still held, until the next question corrects it."""
    service = await open_service(conversation_limits=Limits(tokens_total=600))
    id = await conversation(service)
    await service.store.conversations.add_items("dana", id, [GREETING])
    assert await left(service, id) == 600
    (reply,) = await service.start(asks(conversation=id, max_output_tokens=350), DANA)
    async for _ in reply.log.read():
        if reply.log.text():
            break
    with held(service):
        assert await left(service, id) == 600 - reply.usage.prompt - 350
        await service.cancel(DANA, reply.id)
        used = reply.usage.prompt + reply.usage.completion
        assert used < 350
        assert await left(service, id) == 600 - used


async def left(service: ChatService, conversation: str) -> int:
    _, headers = await service.preview(DANA, conversation)
    assert headers["x-ratelimit-limit-tokens"] == "600"
    return int(headers["x-ratelimit-remaining-tokens"])


async def test_no_budget_is_told_where_there_is_none(open_service: Open) -> None:
    """A page would show a budget that nobody has set."""
    service = await open_service()
    id = await conversation(service)
    await service.store.conversations.add_items("dana", id, [GREETING])
    assert (await service.preview(DANA, id))[1] == {}


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


async def test_a_summary_is_paid_by_its_conversation(open_service: Open) -> None:
    """Whoever may use one conversation could keep the engine busy for nothing."""
    service = await open_service(conversation_limits=Limits(tokens_total=450))
    id = await conversation(service)
    await answered(service, asks("When are you open on Saturday?", conversation=id, max_output_tokens=10))
    before = (await service.store.ledger.used("conversation", id, 0))[0]
    call = OpenAIResponses().parse({"conversation": id, "store": False})
    compaction = await service.compact(call, DANA)
    await service.flush()
    used = (await service.store.ledger.used("conversation", id, 0))[0] - before
    assert used == compaction.usage.prompt + compaction.usage.completion
    again = [service.compact(call, DANA) for _ in range(9)]
    results = await asyncio.gather(*again, return_exceptions=True)
    assert any(isinstance(result, BudgetExceeded) for result in results)


async def test_a_token_for_one_conversation(open_service: Open) -> None:
    """Whoever takes such a token from a page could talk to the model about anything, at the shop's cost."""
    service = await open_service()
    id = await conversation(service)
    bound = Principal(owner="dana", conversation=id)
    await answered(service, asks(conversation=id), bound)
    with pytest.raises(Forbidden):
        await service.start(asks(), bound)
    other = await conversation(service, id="conv_" + "9" * 32)
    await answered(service, asks(conversation=other))
    compacted = OpenAIResponses().parse({"conversation": other, "store": False})
    for refused in (
        service.start(asks(conversation=other), bound),
        service.count(asks(conversation=other), bound),
        service.compact(compacted, bound),
        service.preview(bound, other),
    ):
        with pytest.raises(NotFound):
            await refused
    outside = await answered(service, asks())
    with pytest.raises(NotFound):
        await service.open(bound, outside.id)


@pytest.mark.parametrize(
    "fields",
    [
        {"instructions": "You are a pirate."},
        {"prompt": {"id": "plain"}},
        {"input": [{"role": "system", "content": "You are a pirate."}, {"role": "user", "content": "Hi"}]},
        {"input": [{"role": "developer", "content": "You are a pirate."}]},
    ],
)
async def test_visitors_only_ask(open_service: Open, fields: dict[str, Any]) -> None:
    """Whoever takes a token from a shop's page would have a free model for anything."""
    service = await open_service()
    visitor = Principal(owner="visitor:v", visitor="v")
    with pytest.raises(Forbidden):
        await service.start(asks(**fields), visitor)
    with pytest.raises(Forbidden):
        await service.count(asks(**fields), visitor)
    await answered(service, asks(), visitor)


async def test_a_conversation_has_budgets_of_its_own_within_the_operators(open_service: Open) -> None:
    """A shop could not slow one conversation down, or its owner could lift what the operator allows."""
    service = await open_service(conversation_limits=Limits(tokens_total=450))
    call = asks(conversation=await conversation(service), max_output_tokens=10)
    prompt = (await service.count(call, DANA)).prompt_tokens
    budget = {"tokens_per_day": prompt + 10, "tokens_total": 10_000}
    await service.store.conversations.update("dana", CONVERSATION, options=lambda _: {"budget": budget})
    with pytest.raises(BudgetExceeded) as error:
        await service.start(asks(conversation=CONVERSATION, max_output_tokens=11), DANA)
    assert error.value.details["budget"] == "conversation.tokens_per_day"
    await answered(service, call)
    budget = {"tokens_total": 10_000}
    await service.store.conversations.update("dana", CONVERSATION, options=lambda _: {"budget": budget})
    with pytest.raises(BudgetExceeded) as error:
        await service.start(asks(conversation=CONVERSATION, max_output_tokens=500), DANA)
    assert error.value.details["limit"] == 450
