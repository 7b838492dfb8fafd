"""Turns of a conversation: what a repeated request gets, who waits for whom, what forks see, and what a conversation
that outgrows its window keeps.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from tests.chat.lives import DANA, Open, answered, asks, conversation, ended, held
from tests.store import making

from frontdesk.chat.context import Policy
from frontdesk.chat.fitting import ContextManager
from frontdesk.chat.template import ChatTemplate
from frontdesk.errors import (
    Conflict,
    ContextLengthExceeded,
    InvalidRequest,
    NotFound,
)
from frontdesk.fleet.tokenizer import Tokenizer
from frontdesk.messages import Item, Message
from frontdesk.principal import Principal
from frontdesk.store.records import ConversationRecord
from frontdesk.wire.openai_responses import OpenAIResponses, response_object_of

# As of Gemma, Mistral and Llama 2.
STRICT = """
{%- for message in messages -%}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif -%}
[{{ message.role }}]{{ message.content }}
{%- endfor -%}
"""


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


async def test_a_key_for_what_is_not_kept_is_refused(open_service: Open) -> None:
    """A retry would silently be a second generation and a second charge."""
    service = await open_service()
    with pytest.raises(InvalidRequest) as refused:
        await service.start(asks(store=False), DANA, idempotency="k")
    assert refused.value.param == "store"


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


async def test_a_turn_that_is_cancelled_before_it_has_text(open_service: Open, tokenizer: Tokenizer) -> None:
    """The response would say another thing than the conversation, or a model whose template wants roles to alternate
    would refuse the conversation for ever."""
    service = await open_service()
    id = await conversation(service)
    with held(service):
        (reply,) = await service.start(asks(conversation=id), DANA)
        reply.cancel()
        await ended(reply)
    again = await service.open(DANA, reply.id)
    for each in (reply, again):
        response = response_object_of(each.call, each.identity, each.log.events)
        assert response["status"] == "cancelled"
        (output,) = response["output"]
        assert (output["id"], output["status"], output["content"][0]["text"]) == (f"msg_{reply.id}", "incomplete", "")
    items = await service.store.conversations.all_items("dana", id)
    assert [(item.message.role, item.message.content) for item in items] == [("user", "Hello"), ("assistant", "")]
    assert (items[1].id, items[1].status) == (f"msg_{reply.id}", "incomplete")
    thanks, policy = Item("", "message", Message("user", "Thanks")), Policy()
    manager = ContextManager(ChatTemplate(STRICT, tokenizer))
    manager.fit(system=[], items=items, input=[thanks], window=512, max_tokens=None, reserve=64, policy=policy)


async def test_a_turn_that_is_not_stored_stops_with_its_conversation(open_service: Open) -> None:
    """It would go on talking about what was deleted, at the cost of everybody else, or take another reply with it."""
    service = await open_service()
    id = await conversation(service)
    other = "conv_" + "1" * 32
    await service.store.conversations.create(ConversationRecord(other, "dana", 1, 1))
    with held(service):
        (reply,) = await service.start(asks(conversation=id, store=False, max_output_tokens=300), DANA)
        rest = [await service.start(asks(store=False, **more), DANA) for more in ({}, {"conversation": other})]
        await asyncio.wait_for(service.stop_conversation(Principal(owner="ben"), id), 10)
        assert not reply.log.ended
        await asyncio.wait_for(service.stop_conversation(DANA, id), 10)
        assert (await ended(reply)).reason == "cancelled"
        assert not any(one.log.ended for (one,) in rest)
        assert service.suspend() == 0, "nothing here is left to another life"
    for (one,) in rest:
        assert (await ended(one)).reason == "length"
    async with asyncio.timeout(10):
        while service._running:  # pyright: ignore[reportPrivateUsage]  # noqa: ASYNC110
            await asyncio.sleep(0.01)


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


async def test_a_fork_from_a_turn_that_failed(open_service: Open) -> None:
    """Whoever asks again after a failure would be answered as if nothing had been said before."""
    service = await open_service()
    id = await conversation(service)
    await answered(service, asks("My name is Dana.", conversation=id))
    failed = making.response("dana", conversation=id, created=int(time.time()))
    await service.store.responses.begin(failed)
    await making.end(service.store, replace(making.ending(failed), status="failed", output=(), error=b"{}"))
    fork = await answered(service, asks("What is my name?", previous_response_id=f"resp_{failed.id}"))
    assert len(fork.order.report.kept) == 3 + len(failed.input)


async def test_what_left_is_summed_up_when_there_is_time(open_service: Open) -> None:
    """What a customer said in the beginning would be forgotten although the conversation asks for summaries, or a
    pinned item would be put into other words."""
    service = await open_service()
    id = await conversation(service, policy="summarise", pinned=["msg_" + "1" * 32])
    pinned = Item("msg_" + "1" * 32, "message", Message("user", "My order number is 4711."))
    await service.store.conversations.add_items("dana", id, [pinned])
    for i in range(8):
        await answered(service, asks(f"Question {i}: when are you open on Saturday?", conversation=id))
    async with asyncio.timeout(120):
        while not (report := (await service.preview(DANA, id))[0]).summarised or report.dropped:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert report.summarised_tokens > 0
    assert not report.dropped
    assert report.dropped_tokens == 0
    assert dict(report.parts)["summary"] > 0
    assert pinned.id in report.kept
    items = await service.store.conversations.all_items("dana", id)
    (summary,) = [item for item in items if item.kind == "summary"]
    assert pinned.id not in summary.covers


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
