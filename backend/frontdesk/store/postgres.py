"""PostgreSQL: one connection that writes, a pool that reads. The server that runs replies holds an advisory lock on the
database as long as its writing connection lives, so two servers cannot both continue the same unfinished replies.

A server whose machine vanishes without a word is found dead by PostgreSQL's keepalives; without them its lock would be
held for two hours.

A commit whose answer was lost with the connection may have happened: everything in the journal may be written again
without harm, and an end happens once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import asyncpg
import sqlalchemy as sa
import structlog
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from frontdesk.errors import ConfigError, StorageFailed
from frontdesk.store.database import Operation, Result, drivers_own, failed, reason, storage_errors, transact
from frontdesk.store.migrate import migrate

log = structlog.stdlib.get_logger("frontdesk.store")

Value = TypeVar("Value")

READERS: Final = 4
CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 30.0  # after which a statement counts as failed
SERVING_LOCK: Final = 0x66645F73727665  # "fd_srve"
SERVING_PATIENCE: Final = 3.0  # seconds that PostgreSQL may need to see that the last server is dead
VANISHED_SECONDS: Final = 25  # and to see it where that server's whole machine or its network is gone
STARTING_SECONDS: Final = 15.0  # that a server waits for PostgreSQL at its own start
STARTING: Final = "57P03"  # what it answers until it takes connections ("cannot_connect_now")

TAKEN: Final = (
    "another server uses it; give --database another one, or, if that one's machine has just vanished, start again in "
    f"{VANISHED_SECONDS} seconds"
)
SETTINGS: Final = {
    "application_name": "frontdesk",
    "jit": "off",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": str(1000 * VANISHED_SECONDS),  # where an answer was on its way, no keepalive is sent
}

ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


class PostgresDatabase:
    """See `Database`. Make it with `open`."""

    dialect = "postgresql"

    def __init__(self, url: sa.URL, *, exclusive: bool) -> None:
        patient = {"timeout": CONNECT_SECONDS, "server_settings": SETTINGS}
        connect = {**patient, "command_timeout": ANSWER_SECONDS}
        self._name = url.set(drivername="postgresql").render_as_string(hide_password=True)
        self._writer = create_async_engine(url, pool_size=1, max_overflow=0, connect_args=connect)
        self._reader = create_async_engine(
            url, pool_size=READERS, max_overflow=0, connect_args=connect, isolation_level="REPEATABLE READ"
        )
        # A step may take long, and so may waiting for another process that takes it.
        self._migrator = create_async_engine(url, poolclass=sa.NullPool, connect_args=patient)
        self._exclusive = exclusive
        self._connection: AsyncConnection | None = None

    @classmethod
    async def open(cls, place: str, *, exclusive: bool, hurry: Callable[[], bool]) -> PostgresDatabase:
        """Connect to a postgresql:// URL and bring the tables up to date. Raises `ConfigError`.

        An exclusive one waits `STARTING_SECONDS` for a server that cannot be reached, or until `hurry`: a machine that
        boots starts both at once. A command does not, since somebody waits for it.
        """
        try:
            database = cls(_for_asyncpg(sa.make_url(place)), exclusive=exclusive)
        except (exc.ArgumentError, ValueError) as error:
            raise ConfigError("the database's URL is not like postgresql://user:password@host:5432/name") from error
        try:
            await database._connected_first(STARTING_SECONDS if exclusive else 0.0, hurry)
            async with database._migrator.connect() as connection:
                await connection.run_sync(migrate, database._name)
        except BaseException as error:  # whatever it is: no connection is left behind
            await database.close()
            if isinstance(error, (exc.SQLAlchemyError, OSError, StorageFailed, *ERRORS)):
                raise ConfigError(f"cannot use {database._name} as a database: {reason(error)}") from error
            raise
        return database

    async def read(self, operation: Operation[Value]) -> Value:
        """Twice, if need be: the pool may hold connections that broke while nobody used them."""
        with storage_errors(*ERRORS):
            try:
                return await self._read(operation)
            except exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return await self._read(operation)

    async def _read(self, operation: Operation[Value]) -> Value:
        async with self._reader.connect() as connection, connection.begin():
            return await connection.run_sync(operation)

    async def write(self, operations: Sequence[Operation[Any]]) -> list[Result[Any]]:
        with storage_errors(*ERRORS):
            try:
                connection = await self._connected()
            except StorageFailed as error:  # another server has it now, which is for the operator to know
                raise failed(error) from error
            try:
                return await connection.run_sync(transact, operations)
            except (exc.SQLAlchemyError, OSError, *ERRORS):
                await self._forget()
                raise

    async def scrub(self) -> bool:
        """Deleted rows are the business of PostgreSQL's own vacuum."""
        return True

    async def close(self) -> None:
        if self._connection:
            await self._connection.close()
        await self._writer.dispose()
        await self._reader.dispose()

    async def _connected(self) -> AsyncConnection:
        """The one that there is, or a new one if that broke while nobody used it."""
        if self._connection and await _broken(self._connection):
            await self._forget()
        if self._connection is None:
            connection = await self._writer.connect()
            try:
                await self._serve(connection)
            except BaseException:  # given up or refused: no connection is left behind
                await connection.close()
                raise
            self._connection = connection
        return self._connection

    async def _connected_first(self, seconds: float, hurry: Callable[[], bool]) -> None:
        """asyncpg says only now, and as a TypeError or a ValueError, that a parameter of the URL is none of its own."""
        clock = asyncio.get_running_loop().time
        deadline, told = clock() + seconds, False
        while True:
            try:
                await self._connected()
                return
            except (TypeError, ValueError) as error:
                raise ConfigError(f"cannot use {self._name} as a database: {error}") from error
            except (exc.SQLAlchemyError, OSError, *ERRORS) as error:
                if not _away(error) or clock() >= deadline or hurry():
                    raise
                if not told:
                    log.warning("waiting for the database", database=self._name, reason=reason(error))
                told = True
            await asyncio.sleep(0.2)

    async def _serve(self, connection: AsyncConnection) -> None:
        deadline = asyncio.get_running_loop().time() + SERVING_PATIENCE
        while self._exclusive and not await connection.scalar(sa.select(sa.func.pg_try_advisory_lock(SERVING_LOCK))):
            if asyncio.get_running_loop().time() > deadline:
                raise StorageFailed(TAKEN)
            await asyncio.sleep(0.05)
        await connection.commit()

    async def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            await connection.invalidate()
            await connection.close()


def _away(error: BaseException) -> bool:
    """Whether nothing listens there, or what does is itself only just starting."""
    error = drivers_own(error)
    return isinstance(error, OSError) or getattr(error, "sqlstate", "") == STARTING


async def _broken(connection: AsyncConnection) -> bool:
    """Whether the driver knows already that nothing can be sent any more."""
    driver = (await connection.get_raw_connection()).driver_connection
    return driver is None or driver.is_closed()


def _for_asyncpg(url: sa.URL) -> sa.URL:
    """The URL with the driver, and with libpq's name for TLS, which providers hand out, as asyncpg calls it."""
    query = {"ssl" if name == "sslmode" else name: value for name, value in url.query.items()}
    return url.set(drivername="postgresql+asyncpg", query=query)
