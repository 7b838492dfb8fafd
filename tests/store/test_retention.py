"""Retention: what nobody has used for long goes, what somebody still needs stays, and the database is not kept busy."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from structlog.testing import capture_logs
from tests.store import making
from tests.store.making import OTHER, OWNER, conversation, ending, response, said
from tests.store.postgres_server import PostgresServer
from tests.store.test_deletion import rows

from frontdesk.server import retention as server
from frontdesk.store.store import Store, open_store


async def test_the_sweep_takes_what_nobody_used(store: Store) -> None:
    """Retention would delete what is in use, or keep what was promised to go."""
    old, used, busy, linked = (conversation(updated=100) for _ in range(4))
    for record in (old, used, busy, linked):
        await store.conversations.create(record, [said("x")])
    await store.conversations.create(conversation(OTHER, updated=100))

    async def reply(**changes: Any) -> str:
        record = response(created=100, **changes)
        await store.responses.begin(record)
        await making.end(store, replace(ending(record), completed=100))
        return record.id

    await reply(conversation=old.id)
    await store.responses.begin(response(created=100, conversation=busy.id))
    root = await reply()
    link = await reply(previous=root)
    side = await reply(previous=root)
    inside = await reply(conversation=linked.id)
    newest = [response(created=999, previous=link), response(created=999, previous=inside)]
    for record in newest:
        await store.responses.begin(record)
        await making.end(store, replace(ending(record), completed=1000))
    waiting = response(created=100)
    await store.responses.begin(waiting)
    await store.conversations.update(OWNER, used.id, metadata={})

    assert await store.sweep(500.0) == 3, "the old conversations of two owners, and the side branch"
    assert {record.id for record in (await store.conversations.list(OWNER)).items} == {used.id, busy.id, linked.id}
    assert (await store.conversations.list(OTHER)).items == []
    assert await store.responses.get(OWNER, side) is None
    assert len(await store.responses.chain(OWNER, newest[0].id)) == 3
    assert len(await store.responses.chain(OWNER, newest[1].id)) == 2
    assert await store.responses.get(OWNER, waiting.id) is not None
    assert await store.sweep(500.0) == 0
    assert (await rows(store))["ledger"] == 7


async def test_the_sweep_keeps_what_is_gone_on_from_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A customer who comes back while the sweep is at work would be answered as if nothing had been said."""
    talk = conversation(updated=100)
    await store.conversations.create(talk, [said("x")])
    chain: list[str] = []
    for previous in (None, 0, 1):
        record = response(created=100, previous=None if previous is None else chain[previous])
        record = record if chain else replace(record, conversation=talk.id)
        await store.responses.begin(record)
        await making.end(store, replace(ending(record), completed=100))
        chain.append(record.id)
    run = store._writer.run
    late = response(created=999, previous=chain[-1])

    async def run_late(*operation: Any, **options: Any) -> Any:
        monkeypatch.undo()
        await store.responses.begin(late)
        return await run(*operation, **options)

    await store.conversations.create(conversation(updated=100))  # so that there is something to delete
    monkeypatch.setattr(store._writer, "run", run_late)
    assert await store.sweep(500.0) == 1
    assert [record.id for record in await store.responses.chain(OWNER, late.id)] == [*chain, late.id]
    assert await store.conversations.get(OWNER, talk.id) is not None


@pytest.mark.parametrize("ended", [False, True])
async def test_the_sweep_keeps_what_a_number_that_was_free_again_goes_on_from(
    store: Store, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """SQLite gives a new response the number of the newest one once the sweep has deleted that: what the new one says
    would be deleted too, or answer a customer as if nothing had been said."""
    roots = [response(created=100) for _ in range(2)]
    talk = conversation(updated=100)
    await store.conversations.create(talk)
    for record in (*roots, response(created=100, conversation=talk.id)):
        await store.responses.begin(record)
        await making.end(store, ending(record, completed=100))
    run = store._writer.run
    late = response(created=999, previous=roots[0].id)

    async def run_and_begin(*operation: Any, **options: Any) -> Any:
        monkeypatch.undo()
        deleted = await run(*operation, **options)
        await store.responses.begin(late)
        if ended:
            await making.end(store, ending(late, completed=1000))
        return deleted

    monkeypatch.setattr(store._writer, "run", run_and_begin)
    assert await store.sweep(500.0) == 2, "the conversation, and the other root"
    assert [record.id for record in await store.responses.chain(OWNER, late.id)] == [roots[0].id, late.id]


async def test_the_sweep_takes_many(store: Store) -> None:
    """Only the first of several transactions would be made."""
    for _ in range(130):
        await store.conversations.create(conversation(updated=100))
        await store.responses.begin(reply := response(created=100))
        await making.end(store, ending(reply, completed=100))
    assert await store.sweep(101.0) == 260
    assert await rows(store) == {"ledger": 130}


@pytest.mark.parametrize("deleted", [1, 3])
async def test_the_sweep_keeps_what_the_number_of_a_deleted_one_goes_on_from(
    store: Store, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    """A customer deletes the newest responses, and the next one gets the number of one of them on SQLite: what that
    goes on from would be deleted, and the next question answered as if nothing had been said."""
    root, side = response(created=100), response(created=100)
    recent = [response(created=999) for _ in range(deleted)]
    for record in (root, side, *recent):
        await store.responses.begin(record)
        await making.end(store, ending(record, completed=record.created))
    run = store._writer.run
    late = response(created=999, previous=root.id)

    async def run_late(*operation: Any, **options: Any) -> Any:
        monkeypatch.undo()
        for record in recent:
            assert await store.responses.delete(OWNER, record.id)
        await store.responses.begin(late)
        return await run(*operation, **options)

    monkeypatch.setattr(store._writer, "run", run_late)
    assert await store.sweep(500.0) == 1, "the other root"
    assert [record.id for record in await store.responses.chain(OWNER, late.id)] == [root.id, late.id]


CONVERSATIONS = 2000
LINKS = 200
MANY = f"""
INSERT INTO conversations (id, owner, created, updated, metadata, options)
SELECT 'conv_' || md5(i::text), 'key_1', 100, CASE WHEN i % 2 = 0 THEN 100 ELSE 1000 END, '{{}}', '{{}}'
FROM generate_series(1, {CONVERSATIONS}) i;
INSERT INTO responses (id, owner, conversation, previous, status, created, completed, model, background, context,
    parameters, request, input, output, prompt)
SELECT id, 'key_1', talk, previous, 'completed', at, at, 'small', false, '{{}}', '{{}}', '{{}}', '[]', '[]', ''
FROM (
    SELECT md5(i || 'in' || k) id, 'conv_' || md5(i::text) talk, NULL previous,
        CASE WHEN i % 2 = 0 THEN 100 ELSE 1000 END at
    FROM generate_series(1, {CONVERSATIONS}) i, generate_series(1, 3) k
    UNION ALL
    SELECT md5('link' || i), NULL, CASE WHEN i > 1 THEN md5('link' || i - 1) END,
        CASE WHEN i < {LINKS} THEN 100 ELSE 1000 END
    FROM generate_series(1, {LINKS}) i
) said;
ANALYZE;
"""


async def test_the_sweep_reads_a_large_database_a_few_times_only(
    postgres: PostgresServer, postgres_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL would compare each conversation with each response, or read all responses for every link of a chain:
    above some size the statement would be ended by its time limit, and nothing ever be deleted."""
    postgres.execute(postgres_place, MANY)
    store = await open_store(postgres_place)
    plans: list[dict[str, Any]] = []
    read = store._database.read

    async def explained(operation: Any) -> Any:
        return await read(lambda connection: _explained(connection, operation, plans))

    monkeypatch.setattr(store._database, "read", explained)
    assert await store.sweep(500.0) == CONVERSATIONS // 2
    assert len(await store.responses.chain(OWNER, hashlib.md5(f"link{LINKS}".encode()).hexdigest())) == LINKS
    await store.close()
    assert len(plans) >= 2
    for plan in plans:
        assert sum(_handled(plan)) < 50 * 3 * CONVERSATIONS, json.dumps(plan, indent=1)


def _explained(connection: sa.Connection, operation: Any, plans: list[dict[str, Any]]) -> Any:
    """What the operation returns. How PostgreSQL does what it asks comes to `plans`, with so little memory that the
    tables count as large."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    connection.exec_driver_sql("SET LOCAL work_mem = '64kB'")
    event.listen(connection, "before_cursor_execute", note)
    result = operation(connection)
    event.remove(connection, "before_cursor_execute", note)
    for statement, parameters in asked:
        explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}"
        plans.append(connection.exec_driver_sql(explain, parameters).scalar_one()[0]["Plan"])
    return result


def _handled(plan: dict[str, Any]) -> Iterator[float]:
    """How many rows each step of a plan has read or looked at, all its repetitions together."""
    seen = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Join Filter", 0)
    yield seen * plan["Actual Loops"]
    for part in plan.get("Plans", ()):
        yield from _handled(part)


@pytest.mark.parametrize("believed", [False, True], ids=["set right again", "believed after a while"])
async def test_a_clock_that_jumps_ahead_deletes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, believed: bool
) -> None:
    """One wrong answer of a time server would delete all that anybody has ever said; or a machine that slept would keep
    for ever what was to go."""
    now = time.time
    monkeypatch.setattr(server, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(server, "DOUBTS", 3 if believed else 10**6)
    await store.conversations.create(old := conversation(updated=int(now()) - 40 * 86_400))
    await store.conversations.create(fresh := conversation(updated=int(now())))

    async def kept() -> set[str]:
        return {record.id for record in (await store.conversations.list(OWNER)).items}

    with capture_logs() as lines:
        async with server.retention(store, 30.0), asyncio.timeout(60):
            while old.id in await kept():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            monkeypatch.setattr(time, "time", lambda: now() + 365 * 86_400)
            if believed:
                while fresh.id in await kept():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            else:
                await asyncio.sleep(0.2)
                assert await kept() == {fresh.id}
                monkeypatch.setattr(time, "time", now)
                await store.conversations.create(older := conversation(updated=int(now()) - 40 * 86_400))
                while older.id in await kept():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                assert await kept() == {fresh.id}
    doubts = [line for line in lines if line["event"].startswith("the time of day has jumped")]
    assert len(doubts) == 3 if believed else doubts
