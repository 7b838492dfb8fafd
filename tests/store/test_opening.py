"""Opening a database: what is made, what is refused and with which line."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from tests.store import making
from tests.store.making import OWNER, conversation, journal_entry, response, said

from frontdesk.errors import ConfigError, StorageFailed
from frontdesk.store import schema
from frontdesk.store.store import Store, open_store


async def refusal(place: str, *, exclusive: bool = True) -> str:
    with pytest.raises(ConfigError) as refused:
        await open_store(place, exclusive=exclusive)
    assert "\n" not in refused.value.message
    return refused.value.message


async def test_folders_and_a_private_file_are_made(tmp_path: Path) -> None:
    """The first start would fail, or other users of the machine could read what was said."""
    file = tmp_path / "a" / "b" / "my 100% desk.db"
    store = await open_store(str(file))
    await store.conversations.create(conversation())
    assert {path.name.removeprefix(file.name) for path in file.parent.iterdir()} == {
        "", "-wal", "-shm", ".serving", ".writing"
    }  # fmt: skip
    for path in file.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    await store.close()
    assert not list(file.parent.glob("*-wal")), "a closed database is one file"


async def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~/desk.db` in a settings file would make a folder called ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    await (await open_store("~/desk.db")).close()
    assert (tmp_path / "desk.db").is_file()


async def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """A wrong path would give a traceback, or be overwritten."""
    text = tmp_path / "notes.txt"
    text.write_bytes(b"buy milk\n" * 1000)
    assert str(text) in await refusal(str(text))
    assert text.read_bytes() == b"buy milk\n" * 1000
    assert "not a database" in await refusal(str(text))
    assert "directory" in (await refusal(str(tmp_path))).lower()
    assert "directory" in (await refusal(str(text / "below.db"))).lower()
    assert "mysql" in await refusal("mysql://localhost/x")


@pytest.mark.parametrize("cut", [3000, 5000, 0.5])
async def test_a_cut_file_is_refused(tmp_path: Path, cut: float) -> None:
    """A half copied backup would be served until somebody asks for what is missing."""
    file = tmp_path / "test.db"
    store = await open_store(str(file))
    for _ in range(50):
        await store.conversations.create(conversation(), [said("x" * 3000)])
    await store.close()
    os.truncate(file, int(cut if cut > 1 else cut * file.stat().st_size))
    assert str(file) in await refusal(str(file))


async def test_a_damaged_page_is_found_at_the_start(tmp_path: Path) -> None:
    """A server would run on a broken disk until somebody asks for the page, and write more onto it."""
    file = tmp_path / "test.db"
    store = await open_store(str(file))
    await store.conversations.create(conversation(), [said("x" * length) for length in (10, 3000, 30_000)])
    await store.close()
    whole = file.read_bytes()
    for page in range(len(whole) // 4096):
        file.write_bytes(whole[: 4096 * page] + b"\xff" * 4096 + whole[4096 * (page + 1) :])
        assert str(file) in await refusal(str(file)), f"page {page + 1} is all ones"
    file.write_bytes(whole)
    await (await open_store(str(file))).close()


async def test_tables_of_a_newer_version_are_refused(new_place: str) -> None:
    """An old server would write what the new one cannot read."""
    store = await open_store(new_place)
    newer = sa.text("UPDATE alembic_version SET version_num = '9999'")
    await store._writer.run(lambda connection: connection.execute(newer) and None)
    await store.close()
    assert "newer frontdesk" in await refusal(new_place)


async def test_postgresql_that_does_not_answer_is_refused(postgres: Any, tmp_path: Path) -> None:
    """A wrong URL would give a traceback, or show the password in a log."""
    assert "secret" not in await refusal("postgresql://desk:secret@127.0.0.1:1/desk", exclusive=False)
    assert "does not exist" in await refusal(postgres.url("nothing"))
    assert "host" in await refusal("postgresql://host:port/desk")
    assert await refusal(f"postgresql:///desk?host={tmp_path}", exclusive=False)
    assert "colour" in await refusal(postgres.url("nothing") + "&colour=red")
    assert await refusal(postgres.url("nothing") + "&prepared_statement_cache_size=x")


async def test_a_server_waits_for_postgresql(postgres: Any) -> None:
    """Of a machine that boots, the chat would stay away: PostgreSQL takes longer to start than the server does. Or a
    command would keep a person waiting who has forgotten to start it."""
    place = postgres.new_database()
    postgres.stop()
    opening = asyncio.create_task(open_store(place))
    try:
        assert await refusal(place, exclusive=False)
        assert not opening.done()
    finally:
        await asyncio.to_thread(postgres.start)
    await (await opening).close()


async def test_a_server_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with a wrong address would look as if it ran."""
    monkeypatch.setattr("frontdesk.store.postgres.STARTING_SECONDS", 0.5)
    assert "127.0.0.1:1" in await refusal("postgresql://desk:secret@127.0.0.1:1/desk")


async def test_postgresql_with_the_usual_name_for_tls(postgres: Any) -> None:
    """The URL that a provider of databases hands out would not work."""
    store = await open_store(postgres.new_database() + "&sslmode=prefer")
    await store.close()


async def test_the_steps_make_the_tables(new_place: str) -> None:
    """A column that the code uses would be missing in an installed database."""
    store = await open_store(new_place)

    def differences(connection: sa.Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(connection), schema.metadata)

    assert await store._writer.run(differences) == []
    await store.close()


async def test_a_database_is_opened_again(tmp_path: Path) -> None:
    """A restart would forget everything, or run the first step twice."""
    record = conversation()
    for number in range(3):
        store = await open_store(str(tmp_path / "test.db"))
        if number == 0:
            await store.conversations.create(record, [said("x")])
        assert await store.conversations.get(OWNER, record.id) == record
        await store.close()


async def test_memory_is_forgotten() -> None:
    """Two servers in memory would see each other's talks."""
    one, two = await open_store("memory"), await open_store("memory")
    record = conversation()
    await one.conversations.create(record)
    assert await two.conversations.get(OWNER, record.id) is None
    await one.close()
    await two.close()


async def test_readers_cannot_write(file_store: Store) -> None:
    """A write from a reader's connection would go past the one writer, and could damage the file."""
    with pytest.raises(StorageFailed) as refused:
        await file_store._database.read(lambda connection: connection.execute(sa.delete(schema.items)))
    assert "readonly" in str(refused.value.__cause__)


async def test_a_full_disk_is_survived(file_store: Store, tmp_path: Path) -> None:
    """The server would have to be restarted once there is room again, or half a batch would be written."""
    record = response()
    await file_store.responses.begin(record)
    await making.write(file_store, journal_entry(record, 0, 1))
    await limit_pages(file_store, 1)
    big = [conversation(options={"x": "y" * 100_000}) for _ in range(3)]
    results = await asyncio.gather(
        *(file_store.conversations.create(each) for each in big),
        making.write(file_store, journal_entry(record, 1, 2, logprobs=b"z" * 100_000)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [StorageFailed] * 4
    assert "full" in str(results[0])
    assert await file_store.responses.get(OWNER, record.id) == record
    await limit_pages(file_store, 2**30)
    await making.write(file_store, journal_entry(record, 1, 2))
    assert [entry.tokens for entry in await file_store.journal.read(record.id)] == [(1,), (2,)]
    assert (await file_store.conversations.list(OWNER)).items == []
    with closing(sqlite3.connect(tmp_path / "test.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def limit_pages(store: Store, pages: int) -> None:
    """Make SQLite answer "database or disk is full" beyond so many pages, or beyond those that there are."""
    await store._writer.run(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").close())
