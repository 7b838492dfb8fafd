"""A reply ends once, in one transaction; a request under the same name is answered once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from tests.store import making
from tests.store.making import OTHER, OWNER, conversation, ending, journal_entry, response, said, summary

from frontdesk.errors import Conflict, NotFound
from frontdesk.generation import Usage
from frontdesk.messages import Item
from frontdesk.store.records import Idempotency
from frontdesk.store.store import Store


async def test_an_end_writes_everything_once(store: Store) -> None:
    """A reply would be paid twice or stand twice in its conversation, after a crash between its end and the answer."""
    record = conversation()
    old, asked, answered = said("before"), said("hi"), said("hello", "assistant")
    await store.conversations.create(record, [old])
    begun = response(conversation=record.id, input=(asked,))
    await store.responses.begin(begun)
    assert await store.conversations.all_items(OWNER, record.id) == [old], "not before the end"
    first = ending(begun, answered)
    await asyncio.gather(making.end(store, first), making.end(store, first))
    late = ending(begun, said("other"), status="failed", usage=Usage(9, 9, 9))
    await making.end(store, late)
    assert await store.conversations.all_items(OWNER, record.id) == [old, asked, answered]
    assert await store.ledger.used("conversation", record.id, 0) == (8, 1)
    ended = await store.responses.get(OWNER, begun.id)
    assert ended is not None
    assert (ended.status, ended.output, ended.usage, ended.completed) == ("completed", (answered,), Usage(5, 2, 3), 400)
    kept = await store.conversations.get(OWNER, record.id)
    assert kept is not None
    assert kept.updated == 400


async def test_an_end_survives_items_that_are_there_already(store: Store) -> None:
    """A client that sends an old item again would keep its reply from ever ending."""
    record, old, answered = conversation(), said("before"), said("hello", "assistant")
    await store.conversations.create(record, [old])
    begun = response(conversation=record.id, input=(old, said("new"), summary("s")))
    await store.responses.begin(begun)
    await making.end(store, ending(begun, answered))
    texts = [item.message.content for item in await store.conversations.all_items(OWNER, record.id)]
    assert texts == ["s", "before", "new", "hello"]


async def test_a_summary_that_a_turn_brings_stands_behind_the_conversations_own(store: Store) -> None:
    """What the conversation's own summary stands for would be forgotten, or be told once more with every turn."""
    record, old, later = conversation(), [said("before"), said("after")], said("later")
    own = summary("Dana likes tea.", *(item.id for item in old))
    await store.conversations.create(record, [*old, later, own])
    brought = summary("Dana moved to Rome.")
    first, again = (response(conversation=record.id, input=(brought, said("hi"))) for _ in range(2))
    kept: list[Item] = []
    for begun in (first, first, again):
        if begun is again or not kept:
            await store.responses.begin(begun)
        await making.end(store, ending(begun, said("hello", "assistant")))
        there = await store.conversations.all_items(OWNER, record.id)
        assert [item.kind for item in there].count("summary") == 1
        kept.append(there[0])
    assert kept == [kept[0]] * 3, "it says nothing new"
    assert (kept[0].message.content, kept[0].covers) == ("Dana likes tea.\nDana moved to Rome.", own.covers)
    assert kept[0].id not in (own.id, brought.id)
    assert len(await store.conversations.all_items(OWNER, record.id)) == 1 + 3 + 2 * 2
    new = summary("New.", later.id)
    await store.conversations.replace_summary(OWNER, record.id, kept[0], new)
    assert (await store.conversations.all_items(OWNER, record.id))[0] == new


async def test_a_reply_is_continued_from_before_a_gap(store: Store) -> None:
    """What was committed behind tokens that were not would be taken for what follows the tokens before them."""
    begun, other = response(), response()
    for record in (begun, other):
        await store.responses.begin(record)
        for position in (0, 2, 5):
            await making.write(store, journal_entry(record, position, position, position + 1))
    kept = [journal_entry(begun, 0, 0, 1), journal_entry(begun, 2, 2, 3)]
    assert await store.journal.resume(begun.id) == kept
    assert await store.journal.read(begun.id) == kept
    assert await store.journal.resume(begun.id) == kept
    assert len(await store.journal.read(other.id)) == 3


async def test_a_deleted_response_only_costs(store: Store) -> None:
    """Deleting a reply while it is written would make its tokens free, or bring its text back."""
    record = conversation()
    await store.conversations.create(record)
    begun = response(conversation=record.id)
    await store.responses.begin(begun)
    assert await store.conversations.delete(OWNER, record.id)
    with pytest.raises(NotFound):
        await making.write(store, journal_entry(begun, 0, 1))
    await making.end(store, ending(begun, said("secret")))
    assert await store.responses.get(OWNER, begun.id) is None
    assert await store.conversations.get(OWNER, record.id) is None
    assert await store.ledger.used("conversation", record.id, 0) == (8, 1)


async def test_a_reply_needs_its_conversation(store: Store) -> None:
    """A reply would be generated for nothing, or be put into somebody else's conversation."""
    others = conversation(OTHER)
    await store.conversations.create(others)
    for id in ("conv_gone", others.id):
        begun = response(conversation=id)
        with pytest.raises(NotFound):
            await store.responses.begin(begun)
        assert await store.responses.get(OWNER, begun.id) is None


async def test_the_unfinished_are_found(store: Store) -> None:
    """After a crash replies would be forgotten, or ended ones be generated again."""
    replies = [response(), response(OTHER), response(), response()]
    for reply in replies:
        await store.responses.begin(reply)
    await making.end(store, ending(replies[2], status="cancelled"))
    await store.responses.delete(OWNER, replies[3].id)
    assert await store.responses.unfinished() == replies[:2]


async def test_the_same_request_is_answered_once(store: Store) -> None:
    """A client that tries again after a broken connection would get, and pay, a second reply."""
    name = Idempotency("order-7", b"hash", time.time() + 60)
    first, again = response(), response()
    found = await asyncio.gather(
        store.responses.begin(first, idempotency=name), store.responses.begin(again, idempotency=name)
    )
    assert found == [None, first.id]
    assert await store.responses.get(OWNER, again.id) is None
    assert await store.idempotency.find(OWNER, name) == first.id
    await making.end(store, ending(first))
    assert await store.responses.begin(again, idempotency=name) == first.id


async def test_another_request_under_the_same_name_is_refused(store: Store) -> None:
    """A client's bug would silently give it the answer to another question."""
    name = Idempotency("order-7", b"hash", time.time() + 60)
    await store.responses.begin(response(), idempotency=name)
    other = response()
    with pytest.raises(Conflict, match="Idempotency-Key"):
        await store.responses.begin(other, idempotency=replace(name, fingerprint=b"other"))
    with pytest.raises(Conflict):
        await store.idempotency.find(OWNER, replace(name, fingerprint=b"other"))
    assert await store.responses.get(OWNER, other.id) is None


async def test_a_name_is_the_owners_and_expires(store: Store) -> None:
    """Two tenants' names would clash, or a name could never be used again."""
    name = Idempotency("order-7", b"hash", time.time() + 60)
    await store.responses.begin(first := response(), idempotency=name)
    assert await store.responses.begin(response(OTHER), idempotency=name) is None
    assert await store.idempotency.find(OWNER, name) == first.id, "as before the other used the same"
    old = Idempotency("order-8", b"hash", time.time() - 1)
    for fingerprint in (b"hash", b"other"):
        assert await store.idempotency.find(OWNER, old) is None
        assert await store.responses.begin(response(), idempotency=replace(old, fingerprint=fingerprint)) is None


async def test_a_name_goes_with_its_response(store: Store) -> None:
    """The name of a deleted response would lead nowhere for a day."""
    name = Idempotency("order-7", b"hash", time.time() + 60)
    first, second = response(), response()
    await store.responses.begin(first, idempotency=name)
    await store.responses.delete(OWNER, first.id)
    assert await store.responses.begin(second, idempotency=name) is None
    assert await store.idempotency.find(OWNER, name) == second.id
