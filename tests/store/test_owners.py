"""Another owner's things do not exist: every method that takes an owner, tried with the wrong one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, get_type_hints

import pytest
from tests.store.making import OTHER, OWNER, conversation, journal_entry, response, said, summary, write

from frontdesk.errors import NotFound
from frontdesk.store.conversations import Conversations
from frontdesk.store.feedback import Feedback
from frontdesk.store.handoffs import Handoffs
from frontdesk.store.records import FeedbackRecord, HandoffRecord, Idempotency, Page
from frontdesk.store.responses import Idempotencies, Responses
from frontdesk.store.store import Store

MINE = conversation()
ITEM = said("mine")
THOUGHT = FeedbackRecord("fb_1", MINE.id, ITEM.id, "down", "mine", 1)
WISH = HandoffRecord("hnd_1", MINE.id, "open", 1, "mine")
REPLY = response(conversation=MINE.id)
NAME = Idempotency("name", b"hash", 2.0**40)

Call = Callable[[Store, str], Awaitable[Any]]


async def newest_or_create(store: Store, owner: str) -> bool:
    return await store.conversations.newest_or_create(conversation(owner)) == MINE.id


CALLS: dict[str, Call] = {
    "Conversations.create": lambda store, owner: store.conversations.create(conversation(owner)),
    "Conversations.newest_or_create": newest_or_create,
    "Conversations.get": lambda store, owner: store.conversations.get(owner, MINE.id),
    "Conversations.update": lambda store, owner: store.conversations.update(owner, MINE.id, metadata={"by": "other"}),
    "Conversations.delete": lambda store, owner: store.conversations.delete(owner, MINE.id),
    "Conversations.list": lambda store, owner: store.conversations.list(owner),
    "Conversations.add_items": lambda store, owner: store.conversations.add_items(owner, MINE.id, [said("x")]),
    "Conversations.items": lambda store, owner: store.conversations.items(owner, MINE.id),
    "Conversations.all_items": lambda store, owner: store.conversations.all_items(owner, MINE.id),
    "Conversations.item": lambda store, owner: store.conversations.item(owner, MINE.id, ITEM.id),
    "Conversations.items_named": lambda store, owner: store.conversations.items_named(owner, [ITEM.id]),
    "Conversations.delete_item": lambda store, owner: store.conversations.delete_item(owner, MINE.id, ITEM.id),
    "Conversations.replace_summary": lambda store, owner: store.conversations.replace_summary(
        owner, MINE.id, None, summary("x")
    ),
    "Responses.begin": lambda store, owner: store.responses.begin(response(owner), idempotency=NAME),
    "Responses.get": lambda store, owner: store.responses.get(owner, REPLY.id),
    "Responses.answers": lambda store, owner: store.responses.answers(owner, [REPLY.id]),
    "Responses.chain": lambda store, owner: store.responses.chain(owner, REPLY.id),
    "Responses.delete": lambda store, owner: store.responses.delete(owner, REPLY.id),
    "Feedback.put": lambda store, owner: store.feedback.put(owner, THOUGHT),
    "Feedback.delete": lambda store, owner: store.feedback.delete(owner, MINE.id, ITEM.id),
    "Feedback.of_conversation": lambda store, owner: store.feedback.of_conversation(owner, MINE.id),
    "Handoffs.ask": lambda store, owner: store.handoffs.ask(owner, WISH),
    "Handoffs.of_conversation": lambda store, owner: store.handoffs.of_conversation(owner, MINE.id),
    "Idempotencies.find": lambda store, owner: store.idempotency.find(owner, NAME),
}
NOTHING = (None, False, [], Page([], has_more=False))
GIVE_NOTHING = {"Conversations.create", "Conversations.add_items"}  # to nobody


async def everything(store: Store) -> list[Any]:
    return [
        await store.conversations.get(OWNER, MINE.id),
        await store.conversations.all_items(OWNER, MINE.id),
        await store.responses.get(OWNER, REPLY.id),
        await store.journal.read(REPLY.id),
        await store.idempotency.find(OWNER, NAME),
        await store.feedback.of_conversation(OWNER, MINE.id),
        await store.handoffs.of_conversation(OWNER, MINE.id),
    ]


@pytest.mark.parametrize("call", CALLS)
async def test_a_stranger_finds_nothing_and_changes_nothing(store: Store, call: str) -> None:
    """One tenant would read, change or delete what another one said."""
    await store.conversations.create(MINE, [ITEM])
    await store.responses.begin(REPLY, idempotency=NAME)
    await write(store, journal_entry(REPLY, 0, 1))
    await store.feedback.put(OWNER, replace(THOUGHT, comment="before"))
    await store.handoffs.ask(OWNER, replace(WISH, message="before"))
    before = await everything(store)
    for stranger in (OTHER, "", "%", OWNER.upper()):
        try:
            found = await CALLS[call](store, stranger)
        except NotFound:
            continue
        assert found in NOTHING, f"{call} gave {found}"
    assert await everything(store) == before
    assert (await CALLS[call](store, OWNER) in NOTHING) == (call in GIVE_NOTHING), "the owner gets it"


async def test_a_chain_stops_at_a_stranger(store: Store) -> None:
    """Naming another tenant's response as the previous one would put their talk into the prompt."""
    await store.responses.begin(theirs := response(OTHER))
    await store.responses.begin(mine := response(previous=theirs.id))
    assert [record.id for record in await store.responses.chain(OWNER, mine.id)] == [mine.id]


def test_every_method_with_an_owner_is_tried() -> None:
    """A new method would not be checked."""
    methods = {
        f"{part.__name__}.{name}"
        for part in (Conversations, Responses, Idempotencies, Feedback, Handoffs)
        for name, method in inspect.getmembers(part, inspect.iscoroutinefunction)
        if names_an_owner(method)
    }
    assert methods == set(CALLS)


def names_an_owner(method: Callable[..., Any]) -> bool:
    """In a parameter, or in a record that is one."""
    hints = get_type_hints(method)
    parameters = inspect.signature(method).parameters
    return "owner" in parameters or any(hasattr(hints.get(name), "owner") for name in parameters)
