"""Turns that name an item instead of saying it, with the shipped model and an SQLite file: what the model reads then,
what is kept, and who may name what.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.chat.lives import DANA, Commits, Open, answered, asks, conversation, end_life, ended, held
from tests.store import making

from frontdesk.chat.service import ChatService
from frontdesk.errors import Forbidden, InvalidRequest, NotFound, RequestRefused
from frontdesk.generation import Failed
from frontdesk.messages import Item
from frontdesk.principal import Principal
from frontdesk.wire._format import Call

BEN = Principal(owner="ben")


def naming(*ids: str, **fields: Any) -> Call:
    """A question, the items of these ids, another question."""
    named = [{"type": "item_reference", "id": id} for id in ids]
    return asks(input=[user("Hi, I am Dana."), *named, user("Who am I?")], **fields)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def told(items: tuple[Item, ...]) -> list[tuple[str, str]]:
    return [(item.message.role, item.message.content) for item in items]


async def refusal(service: ChatService, call: Call, who: Principal = DANA) -> RequestRefused:
    """What a turn is refused with, and the counting of it too."""
    with pytest.raises(RequestRefused) as refused:
        await service.start(call, who)
    with pytest.raises(type(refused.value)) as counted:
        await service.count(call, who)
    assert str(counted.value) == str(refused.value)
    return refused.value


async def test_an_answer_that_is_named_is_as_one_that_is_said(open_service: Open) -> None:
    """A client that sends no text of earlier answers would talk to a model that does not know them, and lose them for
    good with the response that they came from."""
    service = await open_service()
    first = await answered(service, asks("Hello"))
    answer = first.log.text()
    said = asks(input=[user("Hi, I am Dana."), {"role": "assistant", "content": answer}, user("Who am I?")])
    call = naming(f"msg_{first.id}")
    assert (await service.count(call, DANA)).prompt_tokens == (await service.count(said, DANA)).prompt_tokens
    second, same = await answered(service, call), await answered(service, said)
    assert (second.order.prompt, second.log.text()) == (same.order.prompt, same.log.text())
    await service.delete(DANA, first.id)
    kept = await service.input_of(DANA, second.id)
    assert told(kept) == [("user", "Hi, I am Dana."), ("assistant", answer), ("user", "Who am I?")]
    assert f"msg_{first.id}" not in [item.id for item in kept]
    third = await answered(service, asks("And where?", previous_response_id=f"resp_{second.id}"))
    assert third.order.prompt[: len(second.order.prompt)] == second.order.prompt


async def test_what_is_not_there_is_not_found(open_service: Open) -> None:
    """A stranger could read an answer by its id, or learn that there is one; or what was deleted would be said."""
    service = await open_service()
    first = await answered(service, asks("Hello"))
    id = await conversation(service)
    await service.store.conversations.add_items("dana", id, [item := making.said("I like tea.")])
    never = making.hex_id()
    unknown = await refusal(service, naming(f"msg_{never}"))
    assert (type(unknown), unknown.param) == (NotFound, "input.1.id")
    for name in (f"msg_{first.id}", item.id):
        strange = await refusal(service, naming(name), BEN)
        assert (type(strange), strange.param) == (NotFound, "input.1.id")
        assert str(strange) == str(unknown).replace(f"msg_{never}", name)
    await service.delete(DANA, first.id)
    await service.store.conversations.delete_item("dana", id, item.id)
    for name in (f"msg_{first.id}", item.id):
        assert isinstance(await refusal(service, naming(name)), NotFound)


async def test_items_of_conversations_are_named_too(open_service: Open) -> None:
    """What was said in a conversation could be listed but not named; or its answers would go with their responses,
    though they stay in the conversation."""
    service = await open_service()
    id = await conversation(service)
    await service.store.conversations.add_items("dana", id, [tea := making.said("I like tea."), *making.calls()])
    first = await answered(service, asks("Hello", conversation=id))
    await service.delete(DANA, first.id)
    items = await service.store.conversations.all_items("dana", id)
    call = naming(*(item.id for item in reversed(items)))
    second = await answered(service, call)
    kept = await service.input_of(DANA, second.id)
    assert [item.message for item in kept[1:-1]] == [item.message for item in reversed(items)]
    assert tea.id not in [item.id for item in kept]


async def test_an_answer_that_is_not_there_yet_or_never_will_be(open_service: Open) -> None:
    """Half an answer would be said as if it were whole, or none at all."""
    service = await open_service()
    with held(service):
        (running,) = await service.start(asks(max_output_tokens=300), DANA)
        early = await refusal(service, naming(f"msg_{running.id}"))
    assert (type(early), early.param) == (InvalidRequest, "input.1.id")
    assert f"resp_{running.id}" in str(early)
    await service.cancel(DANA, running.id)
    cut = await answered(service, naming(f"msg_{running.id}"))
    assert told(await service.input_of(DANA, cut.id))[1] == ("assistant", running.log.text())
    Commits(service.store, lambda n: n == 2)
    (failed,) = await service.start(asks(max_output_tokens=300), DANA)
    assert isinstance(await asyncio.wait_for(failed.log.wait_end(), 20), Failed)
    while failed.id in service._running:  # pyright: ignore[reportPrivateUsage]  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    never = await refusal(service, naming(f"msg_{failed.id}"))
    assert (type(never), never.param) == (InvalidRequest, "input.1.id")
    assert "failed" in str(never)


async def test_another_life_knows_what_was_named(open_service: Open) -> None:
    """A reply that goes on after a restart would have lost what it answers, or would want it said again."""
    service = await open_service()
    first = await answered(service, asks("Hello"))
    (reply,) = await service.start(naming(f"msg_{first.id}", max_output_tokens=300), DANA)
    said = reply.call.turn
    await end_life(service)
    service = await open_service()
    again = await service.open(DANA, reply.id)
    assert again.call.turn == said
    await ended(again)
    assert (await service.open(DANA, reply.id)).log.events == again.log.events


async def test_a_repeated_request_needs_no_item_any_more(open_service: Open) -> None:
    """A client that asks again for what it was already answered would be told that it asked for nothing."""
    service = await open_service()
    first = await answered(service, asks("Hello"))
    call = naming(f"msg_{first.id}")
    second = await answered(service, call, idempotency="k")
    await service.delete(DANA, first.id)
    assert (await answered(service, call, idempotency="k")).log.events == second.log.events


async def test_a_visitor_names_what_a_visitor_says(open_service: Open) -> None:
    """A token of a web page would put the shop's words into a conversation, or read another one than it is for."""
    service = await open_service()
    mine, other = await conversation(service), await conversation(service, id="conv_" + "1" * 32)
    rule, tea = making.said("Say no.", "system"), making.said("I like tea.")
    await service.store.conversations.add_items("dana", other, [rule, tea])
    first = await answered(service, asks("Hello", conversation=other))
    visitor = replace(DANA, visitor="v")
    allowed = await answered(service, naming(tea.id), visitor)
    assert told(await service.input_of(visitor, allowed.id))[1] == ("user", "I like tea.")
    assert isinstance(await refusal(service, naming(rule.id), visitor), Forbidden)
    bound = replace(visitor, conversation=mine, persona="")
    for name in (tea.id, f"msg_{first.id}"):
        assert isinstance(await refusal(service, naming(name, conversation=mine), bound), NotFound)
    own = await answered(service, asks("Hello", conversation=mine), bound)
    assert isinstance(await refusal(service, naming(f"msg_{own.id}", conversation=mine), bound), Forbidden)
