"""What is deleted is gone: its rows everywhere, and its bytes in the file of SQLite."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.store import making
from tests.store.making import OWNER, conversation, ending, journal_entry, response, said

from frontdesk.store import schema
from frontdesk.store.records import HandoffRecord, Idempotency, ResponseRecord
from frontdesk.store.store import Store, open_store


async def rows(store: Store) -> dict[str, int]:
    def count(connection: sa.Connection) -> dict[str, int]:
        return {
            table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in schema.metadata.sorted_tables
        }

    return {name: number for name, number in (await store._database.read(count)).items() if number}


async def talk(store: Store, text: str, owner: str = OWNER, replies: int = 2) -> str:
    """A conversation with replies, where `text` is in everything that can hold text; its id."""
    record = conversation(owner, metadata={"title": text}, options={"note": text})
    await store.conversations.create(record, [said(text)])
    for number in range(replies):
        body = f'"{text}"'.encode()
        reply = response(
            owner, conversation=record.id, input=(said(text),), request=body, parameters=body, context=body
        )
        await store.responses.begin(reply, idempotency=Idempotency(reply.id, b"hash", 2.0**40))
        await making.write(store, journal_entry(reply, 0, *range(900), logprobs=text.encode()))
        if number:
            await making.end(store, ending(reply, said(text, "assistant"), error=body))
    return record.id


async def test_a_conversation_goes_with_all_that_belongs_to_it(store: Store) -> None:
    """Rows would stay behind that nothing leads to; or the bill would be lost, or a neighbour's rows."""
    await talk(store, "stays")
    before = await rows(store)
    id = await talk(store, "goes")
    assert await store.conversations.delete(OWNER, id)
    assert not await store.conversations.delete(OWNER, id)
    assert await rows(store) == {**before, "ledger": 2}


async def test_an_item_goes_with_all_that_repeats_it(store: Store) -> None:
    """A message that a customer had deleted could be read in a response, in a journal or in a summary."""
    record = conversation()
    await store.conversations.create(record)
    kept: list[str] = []
    spoken: list[str] = []
    for number in range(3):
        reply = response(conversation=record.id, input=(said(f"question {number}"),))
        await store.responses.begin(reply)
        await making.write(store, journal_entry(reply, 0, 1, 2))
        await making.end(store, ending(reply, said(f"answer {number}", "assistant")))
        kept.append(reply.id)
        spoken.append(reply.input[0].id)
    await store.conversations.replace_summary(OWNER, record.id, None, making.summary("they asked", *spoken[:2]))
    assert await store.conversations.delete_item(OWNER, record.id, spoken[1])
    assert [await store.responses.get(OWNER, id) is None for id in kept] == [False, True, False]
    assert await store.journal.read(kept[1]) == []
    left = await store.conversations.all_items(OWNER, record.id)
    assert [item.message.content for item in left] == ["question 0", "answer 0", "answer 1", "question 2", "answer 2"]


async def test_an_item_goes_with_the_turn_that_failed_before_it(store: Store) -> None:
    """A message that a customer sent again after a failure, and then deleted, could be read in the failed reply."""
    record, other = conversation(), conversation()
    replies: list[ResponseRecord] = []
    for talk, ends in ((record, ["failed", "completed", None]), (other, ["failed"])):
        await store.conversations.create(talk)
        for status in ends:
            replies.append(reply := response(conversation=talk.id, input=(said("My PIN is 1234"),)))
            await store.responses.begin(reply)
            await making.write(store, journal_entry(reply, 0, 1, 2))
            if status:
                await making.end(store, ending(reply, status=status))
    assert await store.conversations.delete_item(OWNER, record.id, replies[1].input[0].id)
    assert [await store.responses.get(OWNER, reply.id) is None for reply in replies] == [True, True, False, False]
    assert [len(await store.journal.read(reply.id)) for reply in replies] == [0, 0, 1, 1]


async def test_a_summary_that_comes_too_late_is_not_kept(store: Store) -> None:
    """A message that a customer deleted while it was being summed up could be read in the summary from then on."""
    record, stays, goes = conversation(), said("stays"), said("goes")
    await store.conversations.create(record, [stays, goes])
    assert await store.conversations.delete_item(OWNER, record.id, goes.id)
    await store.conversations.replace_summary(OWNER, record.id, None, making.summary("both", stays.id, goes.id))
    assert await store.conversations.all_items(OWNER, record.id) == [stays]


async def test_a_response_goes_with_its_journal(store: Store) -> None:
    """A deleted answer could be read from its journal."""
    reply = response()
    await store.responses.begin(reply, idempotency=Idempotency("a", b"hash", 2.0**40))
    await making.write(store, journal_entry(reply, 0, 1, 2))
    assert await store.responses.delete(OWNER, reply.id)
    assert await rows(store) == {}


async def test_what_was_kept_for_its_name_goes_with_it(store: Store) -> None:
    """A chat that nobody asked to be kept would stay for ever because its request had an Idempotency-Key."""

    async def named(parameters: bytes, seconds: float, *, ends: bool = True) -> str:
        record = response(parameters=parameters)
        await store.responses.begin(record, idempotency=Idempotency(record.id, b"hash", time.time() + seconds))
        if ends:
            await making.end(store, ending(record))
        return record.id

    chats = [await named(b"chat", -1) for _ in range(60)]
    others = [await named(b"response", -1), await named(b"chat", 60), await named(b"chat", -1, ends=False)]
    assert await store.idempotency.forget(lambda parameters: parameters == b"chat") == 60
    found = [await store.responses.get(OWNER, id) for id in (*chats, *others)]
    assert [record.id for record in found if record] == others
    assert (await rows(store))["idempotency"] == 2


async def test_a_name_that_is_used_again_leaves_nothing_behind(store: Store) -> None:
    """A chat that had not ended when its name expired, and somebody took the name again, would stay for ever."""
    name = Idempotency("order-7", b"hash", time.time() - 1)
    replies = [response(parameters=b"chat") for _ in range(3)]
    for reply in replies:
        assert await store.responses.begin(reply, idempotency=name) is None
    for reply in replies:
        await making.end(store, ending(reply))
    assert await store.idempotency.forget(bool) == 3
    assert [await store.responses.get(OWNER, reply.id) for reply in replies] == [None] * 3


async def test_an_item_is_taken_out(store: Store) -> None:
    """The wrong item would go, or its place be given to a new one."""
    record, items = conversation(), [said("one"), said("two"), said("three")]
    await store.conversations.create(record, items)
    assert await store.conversations.delete_item(OWNER, record.id, items[1].id)
    assert not await store.conversations.delete_item(OWNER, record.id, items[1].id)
    await store.conversations.add_items(OWNER, record.id, [new := said("four")])
    assert await store.conversations.all_items(OWNER, record.id) == [items[0], items[2], new]


@pytest.mark.parametrize("seed", range(4))
async def test_no_byte_of_a_deleted_text_stays(tmp_path: Path, seed: int) -> None:
    """Whoever gets hold of the file could read what its user had deleted. Neighbours of all sizes make pages split and
    join, which copies what is on them."""
    file = tmp_path / "test.db"
    store = await open_store(str(file))
    numbers = random.Random(seed)
    kept, deleted = [], []
    for number in range(60):
        secret = numbers.random() < 0.5
        text = f"{'SECRET' if secret else 'public'}-{number}-" * numbers.choice([1, 5, 40, 700])
        (deleted if secret else kept).append(await talk(store, text, replies=numbers.randrange(4)))
    for id in numbers.sample(deleted, len(deleted)):
        await store.conversations.delete(OWNER, id)
    await scrubbed(file)
    assert len((await store.conversations.list(OWNER, limit=100)).items) == len(kept)
    await store.close()
    assert b"public-" in written(file)


async def test_a_reader_of_an_old_snapshot_delays_but_does_not_prevent(tmp_path: Path) -> None:
    """An export that runs while something is deleted would keep the text in the WAL file for ever."""
    file = tmp_path / "test.db"
    store = await open_store(str(file))
    id = await talk(store, "SECRET")
    engine = store._database._reader  # pyright: ignore[reportAttributeAccessIssue]
    with engine.connect() as old, old.begin():
        assert old.scalar(sa.select(sa.func.count()).select_from(schema.items))
        await store.conversations.delete(OWNER, id)
        assert old.scalar(sa.select(sa.func.count()).select_from(schema.items)), "its snapshot does not change"
        await talk(store, "public")
    await scrubbed(file)
    await store.close()


async def answered(store: Store, **options: Any) -> str:
    """A response outside of a conversation that has ended, with the secret in all that can hold text; its id."""
    body = b'"SECRET"'
    reply = response(created=100, input=(said("SECRET"),), request=body, parameters=body, context=body)
    await store.responses.begin(reply, **options)
    await making.write(store, journal_entry(reply, 0, 1, 2, logprobs=body))
    await making.end(store, replace(ending(reply, said("SECRET", "assistant"), error=body), completed=100))
    return reply.id


async def deleted_response(store: Store, file: Path) -> None:
    id = await answered(store)
    await settled(store, file)
    assert await store.responses.delete(OWNER, id)


async def forgotten_name(store: Store, file: Path) -> None:
    await answered(store, idempotency=Idempotency("order-7", b"hash", time.time() - 1))
    await settled(store, file)
    assert await store.idempotency.forget(bool) == 1


async def swept(store: Store, file: Path) -> None:
    await answered(store)
    await store.conversations.create(conversation(metadata={"title": "SECRET"}), [said("SECRET")])
    await settled(store, file)
    assert await store.sweep(500.0) == 2


async def replaced_contact(store: Store, file: Path) -> None:
    record = conversation()
    await store.conversations.create(record)
    for contact in ("SECRET@example.com", "public@example.com"):
        wish = HandoffRecord(f"hnd_{making.hex_id()}", record.id, "open", 7, contact, None)
        await store.handoffs.ask(OWNER, wish)
        if contact.startswith("SECRET"):
            await settled(store, file)


async def settled(store: Store, file: Path) -> None:
    """What was written is no longer in the WAL alone."""
    assert await store._database.scrub()
    assert b"SECRET" in written(file)


@pytest.mark.parametrize("delete", [deleted_response, forgotten_name, swept, replaced_contact])
async def test_no_byte_stays_however_it_went(tmp_path: Path, delete: Callable[[Store, Path], Awaitable[None]]) -> None:
    """Whoever gets hold of the file could read an answer or an address that was to be gone."""
    file = tmp_path / "test.db"
    store = await open_store(str(file))
    await delete(store, file)
    await scrubbed(file)
    await store.close()


async def scrubbed(file: Path) -> None:
    """Wait until the secret is in none of the files, while the store is open. Fails when it stays."""
    async with asyncio.timeout(20):
        while b"SECRET" in written(file):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def written(file: Path) -> bytes:
    return b"".join(path.read_bytes() for path in file.parent.iterdir())
