"""Everything queued is one transaction, in order, and nobody's failure is a neighbour's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.store import making
from tests.store.making import OWNER, conversation, ending, journal_entry, response, said

from frontdesk.errors import StorageFailed
from frontdesk.store.database import Database, Operation, Result
from frontdesk.store.store import Store, open_store


class Watched:
    """A real database that counts the operations of each transaction, and fails when it is told to."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.groups: list[int] = []
        self.broken = False
        self.scrubs = 0
        self.unscrubbed: list[Exception] = []  # what the next ones raise

    async def read(self, operation: Operation[Any]) -> Any:
        return await self._database.read(operation)

    async def write(self, operations: Sequence[Operation[Any]]) -> list[Result[Any]]:
        self.groups.append(len(operations))
        if self.broken:
            raise StorageFailed("pulled the plug")
        return await self._database.write(operations)

    async def scrub(self) -> bool:
        self.scrubs += 1
        if self.unscrubbed:
            raise self.unscrubbed.pop()
        return await self._database.scrub()

    async def close(self) -> None:
        await self._database.close()


@pytest.fixture
async def watched(store: Store) -> Watched:
    """Stands between the store's writer and its database."""
    watched = Watched(store._database)
    store._writer._database = watched
    return watched


async def test_what_is_queued_together_is_committed_together(store: Store, watched: Watched) -> None:
    """Every token would cost a commit of its own."""
    records = [response() for _ in range(16)]
    await asyncio.gather(*(store.responses.begin(record) for record in records))
    assert watched.groups == [16]
    await asyncio.gather(*(making.write(store, journal_entry(record, 0, 1)) for record in records))
    assert watched.groups == [16, 16]
    first = asyncio.create_task(making.write(store, journal_entry(records[0], 1, 1)))
    while len(watched.groups) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0)
    later = [making.write(store, journal_entry(record, 2, 1)) for record in records]
    await asyncio.gather(first, *later)
    assert watched.groups == [16, 16, 1, 16], "what came during a commit goes into the next one"


async def test_callbacks_come_in_order_and_after_the_commit(store: Store) -> None:
    """A reader would see a token that a crash takes back, or tokens in the wrong order."""
    records = [response() for _ in range(3)]
    for record in records:
        await store.responses.begin(record)
    told: list[int] = []
    over = asyncio.Event()
    for number in range(300):
        if number == 150:
            await asyncio.sleep(0.002)  # so that there are several transactions
        entry = journal_entry(records[number % 3], number, number)
        store.journal.write(entry, lambda error, number=number: told.append(number if error is None else -1))
    store.journal.end(ending(records[0]), lambda error: over.set())
    assert told != list(range(300)), "told before anything can have been committed"
    await asyncio.wait_for(over.wait(), 30)
    assert told == list(range(300))
    assert [entry.position for entry in await store.journal.read(records[1].id)] == list(range(1, 300, 3))


async def test_a_failing_operation_fails_alone(store: Store, watched: Watched) -> None:
    """One client's mistake would cost other clients their tokens, or leave half of it behind."""
    record, gone = response(), response()
    await store.responses.begin(record)
    half = conversation()
    watched.groups.clear()
    item = said("twice")
    results = await asyncio.gather(
        making.write(store, journal_entry(record, 0, 1)),
        store.conversations.create(half, [item, item]),
        making.write(store, journal_entry(record, 1, 2)),
        making.write(store, journal_entry(gone, 0, 3)),
        store.responses.begin(response(conversation="conv_gone")),
        making.write(store, journal_entry(record, 2, 4)),
        return_exceptions=True,
    )
    assert watched.groups == [6]
    assert [type(result).__name__ for result in results] == [
        "NoneType", "Conflict", "NoneType", "NotFound", "NotFound", "NoneType"
    ]  # fmt: skip
    assert [entry.tokens for entry in await store.journal.read(record.id)] == [(1,), (2,), (4,)]
    assert await store.conversations.get(OWNER, half.id) is None, "the conversation was written without its items"


async def test_a_failed_commit_fails_everybody_and_the_next_one_works(store: Store, watched: Watched) -> None:
    """Tokens would be shown that were never written, or one outage would stop the store for good."""
    record = response()
    await store.responses.begin(record)
    watched.broken = True
    failed = await asyncio.gather(
        making.write(store, journal_entry(record, 0, 1)),
        store.conversations.create(conversation()),
        return_exceptions=True,
    )
    assert [type(error) for error in failed] == [StorageFailed, StorageFailed]
    watched.broken = False
    await making.write(store, journal_entry(record, 0, 1))
    assert len(await store.journal.read(record.id)) == 1


async def test_a_callback_that_raises_stops_nobody(store: Store) -> None:
    """A bug in one reply's code would end the journal of all replies."""
    record = response()
    await store.responses.begin(record)
    loop = asyncio.get_running_loop()
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    try:
        store.journal.write(journal_entry(record, 0, 1), lambda error: {}["bug"])
        await making.write(store, journal_entry(record, 1, 2))
        await making.write(store, journal_entry(record, 2, 3))
    finally:
        loop.set_exception_handler(None)
    ours = [each for each in reported if each["message"] == "whoever was told of a commit failed"]
    assert [type(context["exception"]) for context in ours] == [KeyError]
    assert len(await store.journal.read(record.id)) == 3


@pytest.mark.parametrize("error", [StorageFailed("disk full"), RuntimeError("bug")], ids=["expected", "unexpected"])
async def test_a_failing_scrub_stops_nobody_and_is_tried_again(
    store: Store, watched: Watched, error: Exception
) -> None:
    """The only writer would be dead, and all requests wait for ever; or what was deleted would stay in the file."""
    record = conversation()
    await store.conversations.create(record)
    watched.unscrubbed.append(error)
    loop = asyncio.get_running_loop()
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    try:
        async with asyncio.timeout(30):
            assert await store.conversations.delete(OWNER, record.id)
            while watched.unscrubbed:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await store.conversations.create(record)
            while watched.scrubs < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    ours = [each["exception"] for each in reported if each["message"].startswith("what was deleted")]
    assert ours == ([] if isinstance(error, StorageFailed) else [error])


async def test_a_caller_that_leaves_takes_nothing_back(store: Store) -> None:
    """A client that hangs up in the middle of a request would stop the writer, or undo half of what it asked for."""
    record = conversation()
    task = asyncio.create_task(store.conversations.create(record))
    await asyncio.sleep(0)
    task.cancel()
    await store.conversations.create(conversation())
    assert await store.conversations.get(OWNER, record.id) == record


async def test_closing_finishes_what_is_queued(tmp_path: Path) -> None:
    """The last tokens before a shutdown would be lost, or somebody would wait for ever."""
    store = await open_store(str(tmp_path / "test.db"))
    record = response()
    await store.responses.begin(record)
    told: list[Exception | None] = []
    for position in range(50):
        store.journal.write(journal_entry(record, position, 1), told.append)
    await store.close()
    assert told == [None] * 50
    store.journal.write(journal_entry(record, 50, 1), told.append)
    assert isinstance(told[50], StorageFailed)
    with pytest.raises(StorageFailed):
        await store.conversations.create(conversation())
    with pytest.raises(StorageFailed):
        await store.conversations.get(OWNER, "conv_1")
    await store.close()
    again = await open_store(str(tmp_path / "test.db"))
    assert len(await again.journal.read(record.id)) == 50
    await again.close()
