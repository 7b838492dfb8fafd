"""What people think of answers: one opinion each, gone with the answer, and read back with what it is about."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.store import making
from tests.store.making import OTHER, OWNER, conversation, ending, entry, hex_id, response, said
from tests.store.test_deletion import rows, scrubbed, written

from frontdesk.errors import NotFound
from frontdesk.messages import Item, Message
from frontdesk.store.records import ConversationRecord, FeedbackRecord, Page, RatedAnswer
from frontdesk.store.store import Store


def thought(conversation: str, item: str, **changes: Any) -> FeedbackRecord:
    values: dict[str, Any] = {
        "id": f"fb_{hex_id()}", "conversation": conversation, "item": item, "rating": "down",
        "comment": "wrong\0 number ☃ \udcff".encode("utf-8", "replace").decode(), "created": 500, **changes,
    }  # fmt: skip
    return FeedbackRecord(**values)


async def talk(store: Store, *texts: str, owner: str = OWNER) -> tuple[ConversationRecord, list[Item]]:
    """A conversation in which user and assistant take turns."""
    items = [said(text, "assistant" if number % 2 else "user") for number, text in enumerate(texts)]
    await store.conversations.create(record := conversation(owner), items)
    return record, items


async def test_an_opinion_is_kept_and_the_last_one_counts(store: Store) -> None:
    """A second click would be an error or a second vote, or words that were taken back would stay."""
    record, (_, answer) = await talk(store, "Where?", "There.")
    first = thought(record.id, answer.id)
    assert await store.feedback.put(OWNER, first) == first
    assert await store.feedback.of_conversation(OWNER, record.id) == [first]
    second = thought(record.id, answer.id, rating="up", comment=None, created=600)
    now = await store.feedback.put(OWNER, second)
    assert (now.id, now.rating, now.comment, now.created) == (first.id, "up", None, 600)
    assert await store.feedback.of_conversation(OWNER, record.id) == [now]
    assert await store.feedback.delete(OWNER, record.id, answer.id) == now
    assert await store.feedback.delete(OWNER, record.id, answer.id) is None
    assert await store.feedback.of_conversation(OWNER, record.id) == []


async def test_who_rates_an_answer_uses_its_conversation(store: Store) -> None:
    """Retention would delete a conversation that somebody has just come back to, with the rating that they gave."""
    await store.conversations.create(record := conversation(updated=100), [answer := said("There.", "assistant")])
    await store.feedback.put(OWNER, given := thought(record.id, answer.id, created=999))
    assert await store.sweep(500.0) == 0
    assert await store.feedback.of_conversation(OWNER, record.id) == [given]


async def test_only_a_message_that_is_there_can_be_rated(store: Store) -> None:
    """Opinions would be kept of nothing, or of another conversation's answer."""
    record, (_, answer) = await talk(store, "Where?", "There.")
    other, (_, theirs) = await talk(store, "Where?", "There.")
    await store.conversations.add_items(OWNER, record.id, tools := making.calls())
    for conversation_id, item in (
        (record.id, f"msg_{hex_id()}"),
        (record.id, theirs.id),
        (f"conv_{hex_id()}", answer.id),
        *((record.id, tool.id) for tool in tools),
    ):
        with pytest.raises(NotFound):
            await store.feedback.put(OWNER, thought(conversation_id, item))
    assert await store.feedback.of_conversation(OWNER, other.id) == []
    assert (await store.feedback.newest()).items == []


async def test_it_goes_with_the_answer_and_with_the_conversation(store: Store) -> None:
    """What a customer wrote about an answer that they deleted could still be read."""
    record, (_, first, _, second) = await talk(store, "a", "b", "c", "d")
    await store.feedback.put(OWNER, thought(record.id, first.id))
    await store.feedback.put(OWNER, stays := thought(record.id, second.id))
    assert await store.conversations.delete_item(OWNER, record.id, first.id)
    assert await store.feedback.of_conversation(OWNER, record.id) == [stays]
    assert await store.conversations.delete(OWNER, record.id)
    assert await rows(store) == {}


@pytest.mark.parametrize("how", ["replaced", "taken back", "answer deleted"])
async def test_no_byte_of_what_was_taken_back_stays(tmp_path: Path, file_store: Store, how: str) -> None:
    """Whoever gets hold of the file could read what a customer wrote and then thought better of."""
    record, (_, answer) = await talk(file_store, "Where?", "There.")
    await file_store.feedback.put(OWNER, thought(record.id, answer.id, comment="SECRET " * 40))
    file = tmp_path / "test.db"
    assert b"SECRET" in written(file)
    if how == "replaced":
        await file_store.feedback.put(OWNER, thought(record.id, answer.id, comment="fine"))
    elif how == "taken back":
        await file_store.feedback.delete(OWNER, record.id, answer.id)
    else:
        await file_store.conversations.delete_item(OWNER, record.id, answer.id)
    await scrubbed(file)


async def test_the_operator_reads_it_with_question_answer_and_model(store: Store) -> None:
    """The operator would know that an answer was bad, but not which, to what, or of which model."""
    await store.conversations.create(record := conversation(), [said("Hello", "assistant")])
    reply = response(conversation=record.id, input=(said("Where are you?"),))
    await store.responses.begin(reply)
    answer = Item(f"msg_{reply.id}", "message", Message("assistant", "In the old mill."))
    await making.end(store, ending(reply, answer, ledger=entry(reply=reply.id, model="large")))
    greeting = (await store.conversations.all_items(OWNER, record.id))[0]
    await store.feedback.put(OWNER, of_greeting := thought(record.id, greeting.id))
    await store.feedback.put(OWNER, of_answer := thought(record.id, answer.id))
    await store.responses.delete(OWNER, reply.id)
    assert await store.feedback.newest() == Page(
        [
            RatedAnswer(of_answer, "Where are you?", "In the old mill.", "large"),
            RatedAnswer(of_greeting, None, "Hello", None),
        ],
        has_more=False,
    )


async def test_the_question_is_the_one_before_the_answer(store: Store) -> None:
    """Every answer would be shown under the first or the last question of its conversation, or under a tool's words."""
    record, items = await talk(store, "one?", "one.", "two?", "two.", "three?", "three.")
    await store.conversations.replace_summary(OWNER, record.id, None, making.summary("before", items[0].id))
    for item in items[1::2]:
        await store.feedback.put(OWNER, thought(record.id, item.id))
    await store.conversations.add_items(OWNER, record.id, [*making.calls(), last := said("looked up.", "assistant")])
    await store.feedback.put(OWNER, thought(record.id, last.id))
    found = (await store.feedback.newest()).items
    assert [(rated.question, rated.answer) for rated in found] == [
        ("three?", "looked up."),
        ("three?", "three."),
        ("two?", "two."),
        ("one?", "one."),
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_are_all_owners_newest_first(store: Store, limit: int) -> None:
    """The operator would not see everybody's, or a page would leave somebody out."""
    written: list[FeedbackRecord] = []
    for owner, rating in ((OWNER, "up"), (OTHER, "down"), (OWNER, "down"), (OTHER, "up"), ("", "down")):
        record, (_, answer) = await talk(store, "?", ".", owner=owner)
        written.append(await store.feedback.put(owner, thought(record.id, answer.id, rating=rating)))
    again = await store.feedback.put(OWNER, thought(written[0].conversation, written[0].item, rating="up"))
    ordered = [again, *written[:0:-1]]
    for rating in (None, "up", "down"):
        listing = partial(store.feedback.newest, rating=rating, limit=limit)
        ids: list[str] = []
        while True:
            page = await listing(after=ids[-1] if ids else None)
            ids += [rated.feedback.id for rated in page.items]
            if not page.has_more:
                break
            assert len(page.items) == limit
        assert ids == [record.id for record in ordered if rating in (None, record.rating)]
    with pytest.raises(NotFound):
        await store.feedback.newest(after=f"fb_{hex_id()}")


async def test_what_keys_used_is_summed_in_one_pass(store: Store) -> None:
    """The operator's list of keys would show another key's use, or yesterday's as today's."""
    for reply, changes in {
        "a": {"at": 999.0},
        "b": {"at": 1000.0, "prompt": 2**33},
        "c": {"at": 2000.0, "visitor": None},
        "d": {"at": 2000.0, "key": "key_2"},
        "e": {"at": 2000.0, "key": None},
    }.items():
        await store.journal.pay(entry(reply=reply, **changes))
    assert await store.ledger.used_by_keys(2000.0, 1000.0) == {
        "key_1": (8, 8 + 2**33 + 3, 16 + 2**33 + 3),
        "key_2": (8, 8, 8),
    }
    await store.journal.pay(entry(reply="f", at=2060.0, prompt=0))  # as of a clock that was ahead
    assert (await store.ledger.used_by_keys(2000.0, 1000.0))["key_1"][:2] == (8, 8 + 2**33 + 3 + 3), "this minute"
    await store.journal.pay(entry(reply="g", at=87_400.0, prompt=0))
    assert (await store.ledger.used_by_keys(2000.0, 1000.0))["key_1"][1] == 8 + 2**33 + 3 + 3, "this day"
    assert await store.ledger.used_by_keys(3000.0, 3000.0) == {
        "key_1": (0, 3, 16 + 2**33 + 9),
        "key_2": (0, 0, 8),
    }
