"""Several processes, and their deaths."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT
from tests.store import making
from tests.store.crash_writer import token
from tests.store.making import OWNER, journal_entry, response
from tests.store.postgres_server import PostgresServer

from frontdesk.errors import ConfigError, StorageFailed
from frontdesk.store import sqlite
from frontdesk.store.locks import FileLock
from frontdesk.store.store import Store, open_store

PATHS = os.pathsep.join([str(ROOT), str(ROOT / "backend")])

SECOND_SERVER = """
import asyncio, sys
from frontdesk.store.store import open_store
async def main():
    store = await open_store(sys.argv[1])
    print("open", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""

KEY_WRITER = """
import asyncio, sys
from frontdesk.store.store import open_store
from tests.store.making import key
async def main():
    for number in range(12):
        store = await open_store(sys.argv[1], exclusive=False)
        for turn in range(5):
            await store.keys.add(key(id=f"{sys.argv[2]}-{number}-{turn}"))
        await store.close()
asyncio.run(main())
"""


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": PATHS}
    child = subprocess.Popen(
        [sys.executable, *arguments], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        assert child.stdout
        child.stdout.close()


@pytest.mark.parametrize(("kind", "seed"), [*[("sqlite", n) for n in range(6)], ("postgresql", 0), ("postgresql", 1)])
def test_a_killed_writer_loses_nothing_that_it_told(
    kind: str, seed: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A reader that comes back after a crash would find that tokens which it has seen were never there; or a reply
    would be half ended."""
    place = str(tmp_path / "test.db")
    if kind == "postgresql":
        place = request.getfixturevalue("postgres_place")
    numbers = random.Random(seed)
    with process("-m", "tests.store.crash_writer", place, str(seed)) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(numbers.randrange(20, 1500))]
        time.sleep(numbers.random() * 0.02)
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    acknowledged: defaultdict[str, list[Any]] = defaultdict(list)
    for kind, *facts in (json.loads(line) for line in lines if line.endswith("\n")):
        acknowledged[kind].append(facts)
    assert acknowledged["written"], lines
    asyncio.run(check(place, acknowledged))
    if "://" not in place:
        with closing(sqlite3.connect(place)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def check(place: str, acknowledged: dict[str, list[Any]]) -> None:
    store = await open_store(place)
    written: defaultdict[str, list[int]] = defaultdict(list)
    for id, position, tokens in acknowledged["written"]:
        assert position == len(written[id]), "told out of order"
        written[id] += tokens
    unfinished = {record.id for record in await store.responses.unfinished()}
    for (id,) in acknowledged["begun"]:
        kept = [number for entry in await store.journal.read(id) for number in entry.tokens]
        assert kept[: len(written[id])] == written[id]
        assert kept == [token(id, position) for position in range(len(kept))]
    items = []
    for owner, id in acknowledged["created"]:
        items += await store.conversations.all_items(owner, id)
    ended = await store.ledger.sums()
    requests = ended[0]["requests"] if ended else 0
    assert len(items) == 2 * requests, "an end is all or nothing"
    assert requests >= len(acknowledged["ended"])
    assert not unfinished & {id for (id,) in acknowledged["ended"]}
    for (id,) in acknowledged["ended"]:
        record = await store.responses.get(OWNER, id)
        assert record is not None
        assert record.status == "completed"
    await store.close()


def test_one_server_at_a_time(tmp_path: Path) -> None:
    """Two servers would both continue the same unfinished replies; or a dead one would keep the next from starting."""
    place = str(tmp_path / "test.db")
    with process("-c", SECOND_SERVER, place) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        with pytest.raises(ConfigError, match=r"another server uses .*test.db; give --database another path"):
            asyncio.run(opened(place))
        asyncio.run(opened(place, exclusive=False))
        first.send_signal(signal.SIGKILL)
        first.wait()
        asyncio.run(opened(place))


async def test_one_server_at_a_time_on_postgresql(postgres_place: str) -> None:
    """As above, where no file can be locked."""
    with process("-c", SECOND_SERVER, postgres_place) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        with pytest.raises(ConfigError, match="another server uses it"):
            await opened(postgres_place)
        await opened(postgres_place, exclusive=False)
        first.send_signal(signal.SIGKILL)
        first.wait()
        await opened(postgres_place)


async def opened(place: str, exclusive: bool = True) -> None:
    await (await open_store(place, exclusive=exclusive)).close()


async def test_commands_write_beside_the_server(file_store: Store, tmp_path: Path) -> None:
    """`frontdesk keys create` would fail while the server streams, or break its file."""
    place = str(tmp_path / "test.db")
    record = response()
    await file_store.responses.begin(record)
    with process("-c", KEY_WRITER, place, "a") as one, process("-c", KEY_WRITER, place, "b") as two:
        position = 0
        while one.poll() is None or two.poll() is None:
            await making.write(file_store, journal_entry(record, position, position))
            position += 1
            await asyncio.sleep(0.0005)
        assert (one.returncode, two.returncode) == (0, 0)
    assert len(await file_store.keys.list()) == 120
    assert [entry.tokens for entry in await file_store.journal.read(record.id)] == [(n,) for n in range(position)]
    with closing(sqlite3.connect(place)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_process_that_does_not_stop_writing(
    file_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for another process would stand still the whole server, or never end."""
    monkeypatch.setattr(sqlite, "PATIENCE", 2.0)
    record = response()
    await file_store.responses.begin(record)
    other = FileLock(tmp_path / "test.db.writing")
    assert other.take()
    waiting = asyncio.create_task(making.write(file_store, journal_entry(record, 0, 1)))
    turns = 0
    while not waiting.done():
        await asyncio.sleep(0.01)
        turns += 1
        assert await file_store.responses.get(OWNER, record.id) == record, "reading goes on"
    assert turns > 5
    with pytest.raises(StorageFailed) as refused:
        await waiting
    assert "another process" in str(refused.value.__cause__)
    other.close()
    await making.write(file_store, journal_entry(record, 0, 1))


async def test_a_connection_that_broke_unused_is_replaced(postgres: PostgresServer, postgres_place: str) -> None:
    """The first write after a restart of PostgreSQL would fail, which may be the one that a reply goes on with."""
    store = await open_store(postgres_place)
    database: Any = store._database
    used = database._connection
    mine = "application_name = 'frontdesk' AND datname = current_database()"
    postgres.execute(postgres_place, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
    async with asyncio.timeout(30):
        while not (await used.get_raw_connection()).driver_connection.is_closed():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await store.responses.begin(record := response())
    assert await store.responses.get(OWNER, record.id) == record
    with pytest.raises(ConfigError, match="another server uses it"):
        await opened(postgres_place)
    await store.close()


async def test_postgresql_comes_back(postgres: PostgresServer, postgres_place: str) -> None:
    """After a restart of its database the server would have to be restarted too."""
    store = await open_store(postgres_place)
    record = response()
    await store.responses.begin(record)
    postgres.stop()
    try:
        with pytest.raises(StorageFailed):
            await making.write(store, journal_entry(record, 0, 1))
        with pytest.raises(StorageFailed):
            await store.responses.get(OWNER, record.id)
    finally:
        postgres.start()
    await making.write(store, journal_entry(record, 0, 1))
    assert await store.responses.get(OWNER, record.id) == record
    assert len(await store.journal.read(record.id)) == 1
    await store.close()
