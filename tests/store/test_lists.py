"""Pages, chains and sums: what is read of many rows."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event
from tests.store import making
from tests.store.making import OTHER, OWNER, conversation, ending, entry, response, said

from frontdesk.errors import Conflict, NotFound
from frontdesk.store.records import FeedbackRecord, Grouping, HandoffRecord, Page
from frontdesk.store.store import Store


async def pages(listing: Any, limit: int, descending: bool) -> list[str]:
    """Ids of all pages, one after the other."""
    ids: list[str] = []
    while True:
        page: Page[Any] = await listing(limit=limit, after=ids[-1] if ids else None, descending=descending)
        assert len(page.items) == limit or not page.has_more
        ids += [record.id for record in page.items]
        if not page.has_more:
            return ids


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("limit", [1, 3, 6, 7, 100])
async def test_pages_add_up_to_the_whole(store: Store, limit: int, descending: bool) -> None:
    """At the edge of a page something would be left out, or come twice, or `has_more` would lead to an empty page."""
    records = [conversation() for _ in range(6)]
    for record in records:
        await store.conversations.create(record)
        await store.conversations.create(conversation(OTHER))
    ordered = [record.id for record in records][:: -1 if descending else 1]
    assert await pages(partial(store.conversations.list, OWNER), limit, descending) == ordered
    items = [said(str(number)) for number in range(6)]
    await store.conversations.add_items(OWNER, records[0].id, items)
    ordered = [item.id for item in items][:: -1 if descending else 1]
    listing = partial(store.conversations.items, OWNER, records[0].id)
    assert await pages(listing, limit, descending) == ordered


async def test_a_page_goes_on_while_the_list_grows(store: Store) -> None:
    """Somebody who scrolls while others write would see entries twice."""
    record, items = conversation(), [said(str(number)) for number in range(4)]
    await store.conversations.create(record, items)
    first = await store.conversations.items(OWNER, record.id, limit=2)
    await store.conversations.add_items(OWNER, record.id, [said("new")])
    second = await store.conversations.items(OWNER, record.id, limit=2, after=first.items[-1].id)
    assert [*first.items, *second.items] == items[::-1]
    assert not second.has_more


async def test_a_page_starts_behind_something_that_exists(store: Store) -> None:
    """A cursor that is gone would give the first page again, and a client would loop for ever."""
    record, others = conversation(), conversation(OTHER)
    await store.conversations.create(record)
    await store.conversations.create(others, [mine := said("theirs")])
    for after in ("conv_gone", others.id):
        with pytest.raises(NotFound):
            await store.conversations.list(OWNER, after=after)
    for after in ("msg_gone", mine.id):
        with pytest.raises(NotFound):
            await store.conversations.items(OWNER, record.id, after=after)


async def test_a_chain_is_one_branch(store: Store) -> None:
    """A reply would know what was said on another branch of the talk, or forget its own."""
    root = response()
    left, right = response(previous=root.id), response(previous=root.id)
    far = response(previous=left.id)
    for record in (root, left, right, far):
        await store.responses.begin(record)
        await making.end(store, ending(record, said(record.id, "assistant")))

    async def chain(id: str, owner: str = OWNER) -> list[str]:
        found = await store.responses.chain(owner, id)
        assert all(record.output[0].message.content == record.id for record in found)
        assert all(len(record.input) == 1 and record.prompt == () for record in found)
        return [record.id for record in found]

    assert await chain(far.id) == [root.id, left.id, far.id]
    assert await chain(right.id) == [root.id, right.id]
    assert await chain("nothing") == []
    await store.responses.delete(OWNER, left.id)
    assert await chain(far.id) == [far.id]


async def test_a_long_chain_is_read(store: Store) -> None:
    """A talk of a few hundred turns would lose its beginning."""
    previous = None
    for _ in range(300):
        record = response(previous=previous, input=())
        await store.responses.begin(record)
        previous = record.id
    assert previous is not None
    assert len(await store.responses.chain(OWNER, previous)) == 300


async def test_the_ledger_counts_every_reply_once(store: Store) -> None:
    """Budgets would let through what is used up, or refuse what is not."""
    await store.journal.pay(entry(reply="a", at=1000.5))
    await store.journal.pay(entry(reply="a", at=1000.5, prompt=10**9))
    await store.journal.pay(entry(reply="b", at=2000.0, key="key_2"))
    await store.journal.pay(entry(reply="c", at=3000.0, visitor=None, conversation=None, prompt=2**33))
    assert await store.ledger.used("key", "key_1", 0) == (8 + 2**33 + 3, 2)
    assert await store.ledger.used("visitor", "visitor_1", 0) == (16, 2)
    assert await store.ledger.used("visitor", "visitor_1", 2000.0) == (8, 1), "`since` itself counts"
    assert await store.ledger.used("visitor", "visitor_1", 2000.1) == (0, 0)
    assert await store.ledger.used("visitor", "visitor_1", 0, 2000.0) == (8, 1), "`until` itself does not"
    assert await store.ledger.used("conversation", "nothing", 0) == (0, 0)


async def test_the_ledger_is_summed_by_what_one_asks_for(store: Store) -> None:
    """The operator's bill would be wrong, or show another tenant's use."""
    day = 86_400.0
    for reply, changes in {
        "a": {"at": day - 0.1},
        "b": {"at": day},
        "c": {"at": day + 1, "model": "large"},
        "d": {"at": 3 * day, "owner": OTHER, "key": None},
    }.items():
        await store.journal.pay(entry(reply=reply, **changes))
    each = {"prompt": 5, "cached": 2, "completion": 3, "requests": 1}
    assert await store.ledger.sums() == [{name: 4 * count for name, count in each.items()}]
    assert await store.ledger.sums(owner=OWNER, by=("day", "model")) == [
        {"day": "1970-01-01", "model": "small", **each},
        {"day": "1970-01-02", "model": "large", **each},
        {"day": "1970-01-02", "model": "small", **each},
    ]
    assert await store.ledger.sums(since=day, until=3 * day, by=("key",)) == [
        {"key": "key_1", "prompt": 10, "cached": 4, "completion": 6, "requests": 2}
    ]
    assert await store.ledger.sums(by=("key",), since=2 * day) == [{"key": None, **each}]
    assert [row["key"] for row in await store.ledger.sums(by=("key",))] == [None, "key_1"]
    assert await store.ledger.sums(owner="nobody") == await store.ledger.sums(owner="nobody", by=("day",)) == []


@pytest.mark.parametrize("by", [("visitor",), ("key", "visitor", "day"), ("day", "key"), ("model",), ()])
async def test_pages_of_sums_add_up_to_the_whole(store: Store, by: tuple[Grouping, ...]) -> None:
    """Whoever bills from pages would bill a visitor twice, or not at all, or for a part of a sum."""
    accounts = [(None, None), ("key_1", None), ("key_1", "vis_ä\0"), ("key_1", "vis_B"), ("key_2", "vis_a")]
    for number, (key, visitor) in enumerate(2 * accounts):
        await store.journal.pay(entry(reply=str(number), key=key, visitor=visitor, at=86_400.0 * (9 + number // 4)))
    whole = await store.ledger.sums(by=by)
    assert len({tuple(row[name] for name in by) for row in whole}) == len(whole)
    assert sum(row["requests"] for row in whole) == 10
    for limit in (1, 2, 5, 100):
        read: list[dict[str, Any]] = []
        while page := await store.ledger.sums(by=by, limit=limit, after=read[-1] if read else None):
            assert len(page) == min(limit, len(whole) - len(read))
            read += page
        assert read == whole


async def test_a_page_of_sums_begins_also_where_nothing_is_any_more(store: Store) -> None:
    """A list by a span, which moves on with the clock, would break off where its last group has moved out."""
    for visitor in (None, "a", "c", "d"):
        await store.journal.pay(entry(reply=f"reply of {visitor}", visitor=visitor, at=1000.0))

    async def behind(place: str | None) -> list[str | None]:
        rows = await store.ledger.sums(owner=OWNER, by=("visitor",), limit=2, after={"visitor": place})
        return [row["visitor"] for row in rows]

    assert [await behind(place) for place in (None, "b", "c", "d", "e")] == [["a", "c"], ["c", "d"], ["d"], [], []]
    assert await store.ledger.sums(owner=OTHER, by=("visitor",), after={"visitor": None}) == []


READS = {
    "list": lambda store: store.conversations.list(OWNER, limit=100),
    "next page": lambda store: store.conversations.list(OWNER, limit=100, after="conv_5"),
    "get": lambda store: store.conversations.get(OWNER, "conv_5"),
    "items": lambda store: store.conversations.items(OWNER, "conv_5", after="msg_5"),
    "item": lambda store: store.conversations.item(OWNER, "conv_5", "msg_5"),
    "named items": lambda store: store.conversations.items_named(OWNER, ["msg_5", "msg_6"]),
    "named items of one": lambda store: store.conversations.items_named(OWNER, ["msg_5"], conversation="conv_5"),
    "answers": lambda store: store.responses.answers(OWNER, ["5", "6"]),
    "answers of one": lambda store: store.responses.answers(OWNER, ["5", "6"], conversation="conv_5"),
    "response": lambda store: store.responses.get(OWNER, "5"),
    "chain": lambda store: store.responses.chain(OWNER, "5"),
    "unfinished": lambda store: store.responses.unfinished(),
    "journal": lambda store: store.journal.read("5"),
    "used": lambda store: store.ledger.used("key", "5", 10.0),
    "sums": lambda store: store.ledger.sums(owner=OWNER, since=5.0, by=("day", "model")),
    "next sums": lambda store: store.ledger.sums(
        owner=OWNER, by=("visitor", "day"), limit=9, after={"visitor": "vis_5", "day": "2026-11-24"}
    ),
    "key": lambda store: store.keys.by_id("5"),
    "feedback": lambda store: store.feedback.newest(rating="down"),
    "next feedback": lambda store: store.feedback.newest(after="fb_6"),
    "widget": lambda store: store.widgets.by_id("wgt_5"),
    "handoff": lambda store: store.handoffs.of_conversation(OWNER, "conv_5"),
    "handoffs": lambda store: store.handoffs.newest("open"),
    "next handoffs": lambda store: store.handoffs.newest(after="hnd_5"),
    "expired names": lambda store: store.idempotency.forget(bool),
    "feedback of a conversation": lambda store: store.feedback.of_conversation(OWNER, "conv_5"),
}


@pytest.mark.parametrize("read", READS)
async def test_reads_search_an_index(file_store: Store, read: str) -> None:
    """With 100,000 conversations every request would read all of them."""
    plans = []
    engine = file_store._database._reader  # pyright: ignore[reportAttributeAccessIssue]

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.startswith(("SELECT", "WITH")):
            plans.extend(row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall())

    record = conversation(id="conv_5")
    await file_store.conversations.create(record, [said("x")])
    await file_store.conversations.add_items(OWNER, "conv_5", [making.replace_id(said("y"), "msg_5")])
    for number, item in enumerate(await file_store.conversations.all_items(OWNER, "conv_5"), start=5):
        await file_store.feedback.put(OWNER, FeedbackRecord(f"fb_{number}", "conv_5", item.id, "down", None, 1))
    await file_store.handoffs.ask(OWNER, HandoffRecord("hnd_5", "conv_5", "open", 1))
    event.listen(engine, "before_cursor_execute", explain)
    await READS[read](file_store)
    event.remove(engine, "before_cursor_execute", explain)
    assert any(plan.startswith("SEARCH") or "ix_responses_unfinished" in plan for plan in plans), plans
    for plan in plans:
        assert not plan.startswith("SCAN") or "steps" in plan or "ix_responses_unfinished" in plan, plans
        assert "TEMP B-TREE" not in plan or read in ("sums", "next sums", "chain"), plans


async def test_a_conversation_takes_so_much_and_no_more(store: Store) -> None:
    """One caller could fill the disk, and the memory of every turn that reads the conversation."""
    many, large = conversation(), conversation()
    await store.conversations.create(many)
    await store.conversations.create(large)
    for _ in range(10):
        await store.conversations.add_items(OWNER, many.id, [said("x") for _ in range(1000)])
    for _ in range(15):
        await store.conversations.add_items(OWNER, large.id, [said("x" * 2**20)])
    for full, item in ((many, said("x")), (large, said("x" * 2**20))):
        with pytest.raises(Conflict) as refused:
            await store.conversations.add_items(OWNER, full.id, [item])
        assert refused.value.code == "conversation_full"
    await store.conversations.add_items(OWNER, large.id, [said("x")])


async def test_the_newest_conversation_or_a_new_one(store: Store) -> None:
    """Two tabs that begin at once would talk in two conversations, or a new one be the old one while it is answered."""
    first, *others = (conversation() for _ in range(4))
    assert await store.conversations.newest_or_create(first) == first.id
    at_once = (store.conversations.newest_or_create(other, unused=True) for other in others)
    assert await asyncio.gather(*at_once) == [first.id] * 3, "nothing was said in it"
    await store.responses.begin(response(conversation=first.id))
    at_once = (store.conversations.newest_or_create(other, unused=True) for other in others)
    assert await asyncio.gather(*at_once) == [others[0].id] * 3, "the first is being answered"
    await store.conversations.add_items(OWNER, others[0].id, [said("x")])
    assert await store.conversations.newest_or_create(others[1]) == others[0].id
    assert await store.conversations.newest_or_create(others[1], unused=True) == others[1].id
    assert await store.conversations.newest_or_create(conversation(OTHER)) not in {first.id, *(o.id for o in others)}
