"""A database that fails: what is said of it, where, and how the server finds out that it works again."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs
from tests.store.making import OWNER, conversation
from tests.store.postgres_server import PostgresServer

from frontdesk.errors import ConfigError, StorageFailed
from frontdesk.store import database, writer
from frontdesk.store import postgres as postgres_module
from frontdesk.store.copies import back_up
from frontdesk.store.migrate import ADVISORY_LOCK
from frontdesk.store.store import Store, open_store

MOVES: dict[str, Callable[[Path, Path], Any]] = {
    "removed": lambda file, copy: file.unlink(),
    "replaced": lambda file, copy: copy.replace(file),
    "restored": lambda file, copy: (file.rename(file.with_name("former.db")), shutil.copy(copy, file)),
}


@pytest.fixture(autouse=True)
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log hears of the first failure in each test."""
    monkeypatch.setattr(database, "_complaints", database._Complaints())


@pytest.mark.parametrize("move", MOVES)
async def test_a_file_that_was_moved_away_takes_nothing(tmp_path: Path, move: str) -> None:
    """What customers write would go into a file that has no name any more, and be lost at the next start."""
    file, copy = tmp_path / "test.db", tmp_path / "copy.db"
    store = await open_store(str(file))
    await store.conversations.create(old := conversation())
    back_up(file, copy)
    await store.conversations.create(conversation())
    MOVES[move](file, copy)
    with capture_logs() as lines:
        for _ in range(2):
            with pytest.raises(StorageFailed, match="start the server again"):
                await store.conversations.create(conversation())
            with pytest.raises(StorageFailed, match="start the server again"):
                await store.conversations.get(OWNER, old.id)
    assert [line["event"] for line in lines] == ["the database failed"]
    assert store.health.failing
    await store.close()
    again = await open_store(str(file))
    found = (await again.conversations.list(OWNER)).items
    assert [record.id for record in found] == ([] if move == "removed" else [old.id])
    await again.close()


@pytest.mark.parametrize("tried", [True, False])
async def test_a_file_that_was_put_in_the_place_stays_whole(tmp_path: Path, tried: bool) -> None:
    """A copy that an operator moves over the database while the server runs would be broken by what the server had not
    yet copied into the former file, whether or not anything was written in between."""
    file, copy = tmp_path / "test.db", tmp_path / "copy.db"
    store = await open_store(str(file))
    for _ in range(20):
        await store.conversations.create(conversation(options={"x": "y" * 5000}))
    back_up(file, copy)
    for _ in range(50):
        await store.conversations.create(conversation(options={"x": "z" * 5000}))
    copy.replace(file)
    if tried:
        with pytest.raises(StorageFailed):
            await store.conversations.create(conversation())
    await store.close()
    with closing(sqlite3.connect(file)) as found:
        assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert found.execute("SELECT count(*) FROM conversations").fetchone() == (20,)
    aside = [name for name in os.listdir(tmp_path) if name.startswith("test.db.replaced-") and name.endswith("-wal")]
    assert aside, "the former file may be somewhere, and wants it"


async def test_it_is_found_out_that_the_database_works_again(
    file_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that gets no requests while it is said to fail would be said to fail for ever."""
    monkeypatch.setattr(writer, "PROBE_SECONDS", 0.01)
    await file_store.conversations.create(conversation())
    assert file_store.health.failing is None
    before = file_store.health.written
    assert before is not None
    file, away = tmp_path / "test.db", tmp_path / "away.db"
    file.rename(away)
    with capture_logs() as lines:
        with pytest.raises(StorageFailed):
            await file_store.conversations.create(conversation())
        failing = file_store.health.failing
        assert failing is not None
        await asyncio.sleep(0.1)
        assert file_store.health.failing == failing, "since the first failure"
        assert file_store.health.written == before
        away.rename(file)
        async with asyncio.timeout(30):
            while file_store.health.failing:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert [line["event"] for line in lines] == ["the database failed", "the database takes what is written again"]
    assert (file_store.health.written or 0.0) > before
    await file_store.conversations.create(conversation())
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("test.db", "test.db-wal"):  # as they would lie there after a kill
        shutil.copy(tmp_path / name, killed)
    with closing(sqlite3.connect(killed / "test.db")) as found:
        (count,) = found.execute("SELECT count(*) FROM conversations").fetchone()
    assert count == len((await file_store.conversations.list(OWNER)).items) >= 2


async def test_what_writes_nothing_proves_nothing(file_store: Store, tmp_path: Path) -> None:
    """A full disk would be told as one that is well again, since a request that had nothing to delete went through."""
    await file_store.conversations.create(conversation())
    await file_store._writer.run(lambda connection: connection.execute(sa.text("DROP TABLE secrets")).close())
    with pytest.raises(StorageFailed):
        await file_store.secrets.get_or_create("x", lambda: b"x")
    assert not await file_store.conversations.delete(OWNER, "conv_gone")
    await asyncio.sleep(0.1)  # what was deleted is told before it is judged
    assert file_store.health.failing


async def test_the_probe_leaves_nothing(store: Store) -> None:
    """Every outage would add a row, or a second one find the first one's in its way."""
    probe = store._writer._probe.operation
    for _ in range(2):
        await store._writer.run(probe)
    names = await store._database.read(lambda connection: list(connection.scalars(sa.text("SELECT name FROM secrets"))))
    assert "probe" not in names


async def test_where_the_database_is_stays_inside(postgres: PostgresServer, postgres_place: str) -> None:
    """A visitor of a shop would read the address of its database and the name of its user."""
    store = await open_store(postgres_place)
    postgres.stop()
    try:
        with capture_logs() as lines:
            with pytest.raises(StorageFailed) as written:
                await store.conversations.create(conversation())
            with pytest.raises(StorageFailed) as read:
                await store.conversations.get(OWNER, "conv_1")
    finally:
        postgres.start()
    assert written.value.message == read.value.message == database.FAILED
    assert [line["event"] for line in lines] == ["the database failed"], "not anew for every token"
    assert "Errno" in lines[0]["reason"] or "connection" in lines[0]["reason"]
    await store.close()


async def test_what_a_user_wrote_stays_out_of_the_log(postgres_place: str) -> None:
    """The server's log would hold what somebody wrote, because PostgreSQL could not take it."""
    store = await open_store(postgres_place)
    with capture_logs() as lines:
        for refused in (sa.text("SELECT 'my secret'::int"), sa.select(sa.cast("my secret", sa.Integer))):
            database._complaints._quiet_until = 0.0
            with pytest.raises(StorageFailed):
                await store._database.read(lambda connection, refused=refused: connection.scalar(refused))
    assert len(lines) == 2
    assert "secret" not in str(lines)
    await store.close()


async def test_a_long_step_of_the_tables_is_waited_for(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new version whose first start takes long, such as for an index over all that was said, could never start; and
    neither could a command beside it."""
    monkeypatch.setattr(postgres_module, "ANSWER_SECONDS", 0.5)
    place = postgres.new_database()
    other = await asyncpg.connect(place)
    await other.execute(f"SELECT pg_advisory_lock({ADVISORY_LOCK})")
    opening = asyncio.create_task(open_store(place))
    await asyncio.sleep(2)
    assert not opening.done()
    await other.close()
    store = await opening
    with pytest.raises(StorageFailed):
        await store._database.read(lambda connection: connection.execute(sa.text("SELECT pg_sleep(2)")))
    await store.close()


async def test_a_vanished_server_is_found_dead(postgres_place: str) -> None:
    """A server that takes over from one whose machine is gone would be refused for two hours."""
    store = await open_store(postgres_place)
    asked = sa.text("SELECT name, reset_val, source FROM pg_settings WHERE name LIKE 'tcp_%'")
    rows = await store._writer.run(lambda connection: connection.execute(asked).all())
    told = {name: (int(value), source) for name, value, source in rows}
    assert told.keys() >= {"tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout"}
    assert {source for _, source in told.values()} == {"client"}
    idle, interval, count = (told[f"tcp_keepalives_{name}"][0] for name in ("idle", "interval", "count"))
    assert idle + interval * count == postgres_module.VANISHED_SECONDS == told["tcp_user_timeout"][0] / 1000
    with pytest.raises(ConfigError, match=f"{postgres_module.VANISHED_SECONDS} seconds"):
        await open_store(postgres_place)
    await store.close()
