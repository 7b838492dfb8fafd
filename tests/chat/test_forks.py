"""Forks from a response of a conversation: they see it as it was up to then, by its settings and at its cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.chat.lives import CONVERSATION, DANA, Open, answered, asks, conversation, end_life, ended
from tests.chat.talks import item

from frontdesk.chat.reply import Reply
from frontdesk.chat.service import ChatService
from frontdesk.errors import InvalidRequest
from frontdesk.messages import item_id
from frontdesk.principal import Limits

PIN = "msg_" + "1" * 32
LATER = "msg_" + "2" * 32


def fork(reply: Reply, text: str = "And on Sunday?", **fields: Any) -> Any:
    return asks(text, previous_response_id=f"resp_{reply.id}", **{"max_output_tokens": 10, **fields})


async def talk(service: ChatService, turns: int = 40, **context: Any) -> Reply:
    """A conversation that is far longer than the window, begins with what is pinned, and ends with this reply."""
    id = await conversation(service, pinned=[PIN], **context)
    said = [item(PIN, "user", "My order number is 4711."), item("msg_" + "0" * 32, "assistant", "Thank you.")]
    for i in range(turns):
        said.append(item(f"msg_{i:031x}a", "user", f"Question {i}: when are you open on Saturday?"))
        said.append(item(f"msg_{i:031x}b", "assistant", "From nine to five, as every week."))
    await service.store.conversations.add_items("dana", id, said)
    return await answered(service, asks(conversation=id, max_output_tokens=10))


async def test_a_fork_of_a_long_conversation(open_service: Open) -> None:
    """Regenerating an answer of a conversation that has outgrown the window would be refused, or would forget what is
    pinned."""
    service = await open_service()
    origin = await talk(service, reserve=100)
    report = (await answered(service, fork(origin))).order.report
    assert report.dropped
    assert PIN in report.kept
    (reply,) = await service.start(fork(origin, max_output_tokens=None), DANA)
    assert reply.order.report.reserve == 100
    reply.cancel()
    await ended(reply)
    deeper = await answered(service, fork(reply))
    assert PIN in deeper.order.report.kept
    assert deeper.identity.truncation == "auto"


async def test_a_fork_knows_no_summary_of_what_came_later(open_service: Open) -> None:
    """The answer would be given in the light of what came after the question; or what left would be forgotten though
    a summary stands for it."""
    service = await open_service()
    origin = await talk(service, policy="summarise")
    await service._summariser.close()  # there is no summary but the test's
    left = origin.order.report.dropped

    async def summed_up(*covers: str) -> int:
        summary = item(item_id("summary"), "system", "Dana asks about Saturdays.", covers=covers)
        (first, *_) = await service.store.conversations.all_items("dana", CONVERSATION)
        former = first if first.kind == "summary" else None
        summary = replace(summary, kind="summary")
        assert await service.store.conversations.replace_summary("dana", CONVERSATION, former, summary)
        return dict((await answered(service, fork(origin))).order.report.parts)["summary"]

    assert await summed_up(*left) > 0
    await service.store.conversations.add_items("dana", CONVERSATION, [item(LATER, "user", "I moved to Rome.")])
    assert await summed_up(*left, LATER) == 0


async def test_a_chain_that_has_lost_its_past_is_refused(open_service: Open) -> None:
    """The model would answer as if nothing had been said before, and nothing would say so."""
    service = await open_service()
    first = await answered(service, asks("My name is Dana.", max_output_tokens=10))
    second = await answered(service, fork(first))
    third = await answered(service, fork(second))
    await service.delete(DANA, first.id)
    for reply in (second, third):
        with pytest.raises(InvalidRequest, match=first.id) as refused:
            await service.start(fork(reply), DANA)
        assert refused.value.code == "previous_response_not_found"


async def test_a_fork_is_paid_by_its_conversation(open_service: Open) -> None:
    """Whoever may use up one conversation's budget could talk on for nothing, by forking it."""
    service = await open_service(conversation_limits=Limits(tokens_total=1000))
    origin = await answered(service, asks(conversation=await conversation(service), max_output_tokens=10))
    (first,) = await service.start(fork(origin, max_output_tokens=200), DANA)
    await end_life(service)
    service = await open_service(conversation_limits=Limits(tokens_total=1000))  # the fork may go on in another life
    await ended(await service.open(DANA, first.id))
    reply = await answered(service, fork(origin))
    used = (await service.store.ledger.used("conversation", CONVERSATION, 0))[0]
    assert used == sum(one.order.report.prompt_tokens for one in (origin, first, reply)) + 10 + 200 + 10
    assert int(reply.headers["x-ratelimit-remaining-tokens"]) == 1000 - used

