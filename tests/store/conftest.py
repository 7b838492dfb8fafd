"""Stores on every kind of database. A test that takes `store` or `place` runs on each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.store.postgres_server import PostgresServer, in_a_thread, reason_against, running_postgres

from frontdesk.store.schema import metadata
from frontdesk.store.store import Store, open_store


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    if reason := reason_against():
        pytest.skip(f"NOT TESTED ON POSTGRESQL: {reason}")
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def shared_database(postgres: PostgresServer) -> str:
    """URL of a PostgreSQL database that has its tables."""
    url = postgres.new_database()

    async def migrate() -> None:
        await (await open_store(url)).close()

    in_a_thread(migrate)
    return url


@pytest.fixture
def postgres_place(postgres: PostgresServer, shared_database: str) -> str:
    """The shared database without rows: a new one for each test takes long to make and longer to remove."""
    tables = ", ".join(table.name for table in metadata.sorted_tables)
    postgres.execute(shared_database, f"TRUNCATE {tables} RESTART IDENTITY")
    return shared_database


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without rows."""
    match request.param:
        case "memory":
            return "memory"
        case "sqlite":
            return str(tmp_path / "test.db")
        case _:
            return request.getfixturevalue("postgres_place")


@pytest.fixture(params=["sqlite", "postgresql"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return str(tmp_path / "test.db")
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture
async def store(place: str) -> AsyncIterator[Store]:
    opened = await open_store(place)
    yield opened
    await opened.close()


@pytest.fixture
async def file_store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store in the SQLite file `test.db` of `tmp_path`."""
    opened = await open_store(str(tmp_path / "test.db"))
    yield opened
    await opened.close()
