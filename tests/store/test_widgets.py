"""Widgets with their keys, and hand-offs with their conversations, in both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.store import making
from tests.store.making import OTHER, OWNER, conversation, hex_id

from frontdesk.errors import Conflict, NotFound
from frontdesk.principal import Limits
from frontdesk.store.records import HandoffRecord, KeyRecord, WidgetRecord
from frontdesk.store.store import Store, open_store


def widget(**changes: Any) -> WidgetRecord:
    key = making.key(scopes=frozenset(["chat"]), expires=None)
    values: dict[str, Any] = {
        "id": f"wgt_{key.id}", "key": key, "origins": ("https://shop.example", "http://localhost:3000"),
        "persona": "demo_shop", "identified_only": True, "visitor_limits": Limits(tokens_per_day=7), **changes,
    }  # fmt: skip
    return WidgetRecord(**values)


def handoff(conversation: str, **changes: Any) -> HandoffRecord:
    values: dict[str, Any] = {
        "id": f"hnd_{hex_id()}", "conversation": conversation, "state": "open", "created": 500,
        "contact": "ann@example.com ☃", "message": "Where\0is it?", **changes,
    }  # fmt: skip
    return HandoffRecord(**values)


async def test_a_widget_comes_back_as_it_was_with_its_key(store: Store) -> None:
    """A widget would serve other pages, another persona or other budgets than its operator said."""
    first, second = widget(), widget(persona=None, identified_only=False, visitor_limits=Limits())
    await store.widgets.add(first)
    await store.widgets.add(second)
    for one in (first, second):
        assert await store.widgets.by_id(one.id) == one
        assert await store.keys.by_id(one.key.id) == one.key, "budgets, usage and revocation of keys hold for it"
    assert sorted(await store.widgets.list(), key=lambda one: one.id) == sorted([first, second], key=lambda one: one.id)
    assert await store.widgets.by_id("wgt_none\0") is None


async def test_a_widget_is_made_with_its_key_or_not_at_all(store: Store) -> None:
    """Half a widget would be left: one that nobody can revoke, or a key that nobody made."""
    there = widget()
    await store.widgets.add(there)
    with pytest.raises(Conflict):
        await store.widgets.add(widget(key=there.key))
    other = widget(id=there.id)
    with pytest.raises(Conflict):
        await store.widgets.add(other)
    assert await store.keys.by_id(other.key.id) is None
    assert await store.widgets.list() == [there]


async def test_origins_are_those_of_widgets_that_are_good(store: Store) -> None:
    """A page could go on to use the server after its widget was revoked or has expired, or another page's would end."""
    good, revoked = widget(origins=("https://a.example", "https://b.example")), widget(origins=("https://b.example",))
    expiring = widget(origins=("https://c.example",))
    expiring = replace(expiring, key=replace(expiring.key, expires=1000))
    for one in (good, revoked, expiring):
        await store.widgets.add(one)
    assert await store.widgets.origins(999.5) == {"https://a.example", "https://b.example", "https://c.example"}
    assert await store.widgets.origins(1000) == {"https://a.example", "https://b.example"}
    assert await store.widgets.revoke(good.id, 77)
    assert await store.widgets.origins(1000) == {"https://b.example"}
    assert await store.widgets.revoke(revoked.id, 78)
    assert await store.widgets.origins(1000) == set()
    key = await store.keys.by_id(good.key.id)
    assert key is not None
    assert key.revoked == 77
    assert not await store.widgets.revoke(good.id, 79), "it was revoked before"
    assert not await store.widgets.revoke("wgt_000000000000", 79)


async def test_a_change_is_kept_of_what_is_not_revoked(store: Store) -> None:
    """A budget that was raised would be the old one, a neighbour would change too, or what was ended come back."""
    there, neighbour, own = widget(), widget(), making.key()
    for one in (there, neighbour):
        await store.widgets.add(one)
    await store.keys.add(own)
    raised = Limits(tokens_total=2**53)

    def changed(record: WidgetRecord) -> WidgetRecord:
        return replace(record, origins=("https://new.example",), key=replace(record.key, name="New ☃", limits=raised))

    def renewed(record: KeyRecord) -> KeyRecord:
        return replace(record, hash=b"\0new", scopes=frozenset(["chat"]), expires=None)

    assert await store.widgets.change(there.id, changed) == changed(there)
    assert await store.widgets.by_id(there.id) == changed(there)
    assert await store.widgets.by_id(neighbour.id) == neighbour
    assert await store.keys.change(own.id, renewed) == renewed(own)
    assert await store.keys.by_id(own.id) == renewed(own)
    for id in ("none\0", neighbour.key.id):
        await store.keys.revoke(id, 77)
        assert await store.keys.change(id, renewed) is None
        assert await store.widgets.change(f"wgt_{id}", changed) is None
    assert await store.widgets.by_id(neighbour.id) == replace(neighbour, key=replace(neighbour.key, revoked=77))


async def test_of_two_changes_at_once_none_is_lost(store: Store, place: str) -> None:
    """Two operators, or two commands of one script: the second would write back what the first has just changed."""
    pays = making.key(limits=Limits(tokens_total=0, tokens_per_day=0))
    there = widget(key=pays, visitor_limits=Limits(tokens_total=0))
    await store.widgets.add(there)
    beside = store if place == "memory" else await open_store(place, exclusive=False)

    def raised(limits: Limits, name: str) -> Limits:
        return replace(limits, **{name: getattr(limits, name) + 1})

    def of_each(record: WidgetRecord) -> WidgetRecord:
        return replace(record, visitor_limits=raised(record.visitor_limits, "tokens_total"))

    def of_all(record: WidgetRecord) -> WidgetRecord:
        return replace(record, key=replace(record.key, limits=raised(record.key.limits, "tokens_total")))

    def a_day(record: KeyRecord) -> KeyRecord:
        return replace(record, limits=raised(record.limits, "tokens_per_day"))

    for _ in range(20):
        await asyncio.gather(
            store.widgets.change(there.id, of_each),
            beside.widgets.change(there.id, of_all),
            store.keys.change(there.key.id, a_day),
        )
    if beside is not store:
        await beside.close()
    found = await store.widgets.by_id(there.id)
    assert found is not None
    assert (found.visitor_limits, found.key.limits) == (Limits(tokens_total=20), Limits(None, 20, 20))


async def test_a_handoff_is_one_for_a_conversation_until_it_is_done(store: Store) -> None:
    """An impatient visitor would fill the operator's list, or what they added would be lost."""
    talk = conversation()
    await store.conversations.create(talk)
    assert await store.handoffs.of_conversation(OWNER, talk.id) is None
    first = handoff(talk.id)
    assert await store.handoffs.ask(OWNER, first) == first
    again = await store.handoffs.ask(OWNER, handoff(talk.id, contact=None, message="It is late", created=600))
    assert again == replace(first, message="It is late")
    assert await store.handoffs.of_conversation(OWNER, talk.id) == again
    assert await store.handoffs.settle(first.id, "done") == replace(again, state="done")
    second = handoff(talk.id, contact=None, message=None)
    assert await store.handoffs.ask(OWNER, second) == second
    assert await store.handoffs.of_conversation(OWNER, talk.id) == second
    with pytest.raises(Conflict):
        await store.handoffs.settle(first.id, "open")
    await store.handoffs.settle(second.id, "done")
    assert await store.handoffs.settle(first.id, "open") == again
    assert await store.handoffs.settle("hnd_none", "done") is None
    kept = await store.conversations.get(OWNER, talk.id)
    assert kept is not None
    assert kept.updated == 600, "a conversation that waits for a person is in use"


async def test_an_older_handoff_that_is_opened_again_is_the_one(store: Store) -> None:
    """A visitor would wait twice in the operator's list, or be told that nobody is asked while somebody is."""
    talk, other = conversation(), conversation()
    first, second, third = (handoff(talk.id) for _ in range(3))
    elsewhere = handoff(other.id)
    for record in (talk, other):
        await store.conversations.create(record)
    await store.handoffs.ask(OWNER, elsewhere)
    for wish in (first, second):
        await store.handoffs.ask(OWNER, wish)
        await store.handoffs.settle(wish.id, "done")
    assert await store.handoffs.of_conversation(OWNER, talk.id) == replace(second, state="done")
    for _ in range(2):
        assert await store.handoffs.settle(first.id, "open") == first
    with pytest.raises(Conflict, match=first.id):
        await store.handoffs.settle(second.id, "open")
    assert await store.handoffs.of_conversation(OWNER, talk.id) == first
    merged = await store.handoffs.ask(OWNER, replace(third, contact=None, message="It is late"))
    assert merged == replace(first, message="It is late")
    assert {wish.id for wish in (await store.handoffs.newest("open")).items} == {first.id, elsewhere.id}
    await store.handoffs.settle(first.id, "done")
    assert await store.handoffs.settle(second.id, "open") == second


async def test_a_handoff_is_seen_by_its_owner_alone(store: Store) -> None:
    """A visitor would read another's address, or ask in another's name."""
    talk = conversation()
    await store.conversations.create(talk)
    await store.handoffs.ask(OWNER, handoff(talk.id))
    assert await store.handoffs.of_conversation(OTHER, talk.id) is None
    for owner, id in ((OTHER, talk.id), (OWNER, "conv_none")):
        with pytest.raises(NotFound):
            await store.handoffs.ask(owner, handoff(id))


async def test_the_operators_list_has_pages_and_states(store: Store) -> None:
    """The operator would miss a visitor who waits, or see one twice."""
    asked: list[HandoffRecord] = []
    for place in range(5):
        talk = conversation(owner=f"visitor:{place}")
        await store.conversations.create(talk)
        asked.append(await store.handoffs.ask(talk.owner, handoff(talk.id)))
    done = await store.handoffs.settle(asked[2].id, "done")
    everybody = await store.handoffs.newest()
    assert everybody.items == [asked[4], asked[3], done, asked[1], asked[0]]
    assert not everybody.has_more
    page = await store.handoffs.newest("open", limit=2)
    assert (page.items, page.has_more) == ([asked[4], asked[3]], True)
    page = await store.handoffs.newest("open", limit=2, after=asked[3].id)
    assert (page.items, page.has_more) == ([asked[1], asked[0]], False)
    page = await store.handoffs.newest("open", after=asked[2].id)
    assert page.items == [asked[1], asked[0]], "behind one that was closed while it was on the page"
    assert (await store.handoffs.newest("done")).items == [done]
    with pytest.raises(NotFound):
        await store.handoffs.newest(after="hnd_none")


async def test_a_handoff_goes_with_its_conversation(store: Store) -> None:
    """What a visitor wrote would outlive the conversation that they deleted."""
    talk = conversation()
    await store.conversations.create(talk)
    await store.handoffs.ask(OWNER, handoff(talk.id))
    assert await store.conversations.delete(OWNER, talk.id)
    assert (await store.handoffs.newest()).items == []
