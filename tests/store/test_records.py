"""What is written comes back as it was, on every database."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.store import making
from tests.store.making import OWNER, calls, conversation, journal_entry, key, response, said, summary

from frontdesk.errors import Conflict, NotFound
from frontdesk.generation import Usage
from frontdesk.store.store import Store


async def test_a_conversation_comes_back(store: Store) -> None:
    """A field would be lost, or an odd character changed or refused."""
    record, items = conversation(), [said("hello"), *calls(), said("", "developer")]
    await store.conversations.create(record, items)
    assert await store.conversations.get(OWNER, record.id) == record
    assert await store.conversations.all_items(OWNER, record.id) == items
    assert [await store.conversations.item(OWNER, record.id, item.id) for item in items] == items


async def test_an_id_is_taken_once(store: Store) -> None:
    """A second conversation would overwrite the first, or end up half written."""
    record, first = conversation(), said("first")
    await store.conversations.create(record, [first])
    with pytest.raises(Conflict):
        await store.conversations.create(replace(record, owner=making.OTHER), [said("second")])
    with pytest.raises(Conflict):
        await store.conversations.add_items(OWNER, record.id, [said("fine"), first])
    twice = conversation()
    with pytest.raises(Conflict):
        await store.conversations.create(twice, [first, first])
    assert await store.conversations.get(OWNER, twice.id) is None
    assert await store.conversations.all_items(OWNER, record.id) == [first]


async def test_an_update_changes_what_it_names(store: Store) -> None:
    """Setting the metadata would lose the options, or the caller would see the old state."""
    record = conversation()
    await store.conversations.create(record)
    changed = await store.conversations.update(OWNER, record.id, metadata={})
    assert changed is not None
    assert (changed.metadata, changed.options) == ({}, record.options)
    assert changed.updated > record.updated
    budget = {"budget": {"tokens_total": 2**40}}
    changed = await store.conversations.update(OWNER, record.id, options=lambda old: {**old, **budget})
    assert changed is not None
    assert (changed.metadata, changed.options) == ({}, {**record.options, **budget})
    assert await store.conversations.get(OWNER, record.id) == changed


async def test_one_summary_stands_in_front(store: Store) -> None:
    """Summaries would pile up, or stand behind the turns that follow what they cover."""
    record, turns = conversation(), [said("one"), said("two")]
    await store.conversations.create(record, turns)
    newest = None
    for text in ("first summary", "second summary"):
        former, newest = newest, summary(text, turns[0].id)
        assert await store.conversations.replace_summary(OWNER, record.id, former, newest)
        assert await store.conversations.all_items(OWNER, record.id) == [newest, *turns]
    with pytest.raises(NotFound):
        await store.conversations.replace_summary(OWNER, "conv_no", None, newest)


async def test_a_summary_replaces_none_that_it_does_not_know(store: Store) -> None:
    """One begun in idle time would put out what a turn has brought along meanwhile, or tell what was deleted."""
    record, turns = conversation(), [said("one"), said("two")]
    await store.conversations.create(record, turns)
    brought, begun_before = summary("brought along", turns[0].id), summary("begun before", turns[0].id)
    assert await store.conversations.replace_summary(OWNER, record.id, None, brought)
    assert not await store.conversations.replace_summary(OWNER, record.id, None, begun_before)
    assert not await store.conversations.replace_summary(OWNER, record.id, begun_before, summary("on", turns[1].id))
    await store.conversations.delete_item(OWNER, record.id, turns[1].id)
    assert not await store.conversations.replace_summary(OWNER, record.id, brought, summary("of both", turns[1].id))
    assert await store.conversations.all_items(OWNER, record.id) == [brought, turns[0]]


async def test_a_response_comes_back(store: Store) -> None:
    """A field that a reply needs to be continued or shown would be lost."""
    record = response(input=(said("hi"), *calls()))
    assert await store.responses.begin(record) is None
    assert await store.responses.get(OWNER, record.id) == record
    output = said("hello", "assistant")
    failed = b'{"code": "engine_died", "message": "\\u2603"}'
    await making.end(store, making.ending(record, output, status="failed", error=failed))
    ended = replace(record, status="failed", completed=400, usage=Usage(5, 2, 3), output=(output,), error=failed)
    assert await store.responses.get(OWNER, record.id) == replace(ended, prompt=())


async def test_the_journal_comes_back_in_order(store: Store) -> None:
    """A continued reply would miss tokens, or have them in another order."""
    record = response()
    await store.responses.begin(record)
    entries = [
        journal_entry(record, 10, 4),
        journal_entry(record, 0, *range(10), cached=12, logprobs=b"\0\xff"),
        journal_entry(record, 11, -1, 2**31 - 1, finish="stop"),
        journal_entry(record, 13),
    ]
    for entry in entries:
        await making.write(store, entry)
    assert await store.journal.read(record.id) == sorted(entries, key=lambda entry: entry.position)
    assert await store.journal.read("nothing") == []


async def test_what_is_in_the_journal_stays(store: Store) -> None:
    """A token that readers have seen would change, or repeating a write whose answer was lost would fail."""
    record = response()
    await store.responses.begin(record)
    await making.write(store, journal_entry(record, 0, 5))
    await making.write(store, journal_entry(record, 0, 6))
    assert await store.journal.read(record.id) == [journal_entry(record, 0, 5)]


async def test_a_key_comes_back(store: Store) -> None:
    """Its scopes or limits would be lost, or a revoked key would look valid."""
    first, second = key(created=1), key(created=2, expires=None)
    await store.keys.add(second)
    await store.keys.add(first)
    assert await store.keys.list() == [first, second]
    assert await store.keys.revoke(first.id, 77)
    assert not await store.keys.revoke(first.id, 99), "it was revoked before"
    assert not await store.keys.revoke("nobody", 99)
    await store.keys.touch(second.id, 60)
    await store.keys.touch(second.id, 55)
    assert await store.keys.by_id(first.id) == replace(first, revoked=77)
    assert await store.keys.by_id(second.id) == replace(second, last_used=60)
    assert await store.keys.by_id("nobody") is None
    with pytest.raises(Conflict):
        await store.keys.add(first)


async def test_a_secret_is_made_once(store: Store) -> None:
    """Every restart would make the tokens invalid that were issued before it."""
    assert await store.secrets.get_or_create("visitors", lambda: b"\0one") == b"\0one"
    assert await store.secrets.get_or_create("visitors", lambda: b"two") == b"\0one"
    assert await store.secrets.get_or_create("cursors", lambda: b"three") == b"three"


@pytest.mark.parametrize("id", ["conv_\0", "\ud800", "☃", "", "' OR 1=1 --", "x" * 100_000])
async def test_an_odd_id_is_one_that_does_not_exist(store: Store, id: str) -> None:
    """A stranger's URL would make the database fail, which looks like an outage."""
    assert await store.conversations.get(OWNER, id) is None
    assert await store.conversations.item(OWNER, id, id) is None
    assert not await store.conversations.delete(OWNER, id)
    assert await store.conversations.update(OWNER, id, metadata={}) is None
    assert await store.responses.get(OWNER, id) is None
    assert await store.responses.chain(OWNER, id) == []
    assert not await store.responses.delete(OWNER, id)
    assert await store.keys.by_id(id) is None
    with pytest.raises(NotFound):
        await store.conversations.items(OWNER, id)
