"""SQLite: a file with one writing connection and a few reading ones, or a database in memory with a single one.

Beside `<file>` lie two locks. `<file>.serving` is held by the one server that uses the file, for as long as it does.
`<file>.writing` is held around everything that writes or checkpoints, by every process: SQLite before 3.51.3 can
corrupt a WAL file when two connections do that at once (its "WAL-reset bug"). Readers can do neither: `query_only`
keeps them from writing, and without a commit there is no checkpoint. So the writer is the only checkpointer.

A file that was removed or replaced under its name is neither read nor written any more: it is gone at the next start.

Each connection works in a thread; nothing here blocks the event loop. A commit survives the death of the process at
any instruction; the last ones before a power cut may be lost (`synchronous=NORMAL`), without harm to the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc

from frontdesk.errors import ConfigError, StorageFailed
from frontdesk.store.copies import BESIDE, REPLACED
from frontdesk.store.database import Operation, Result, reason, storage_errors, transact
from frontdesk.store.locks import FileLock
from frontdesk.store.migrate import migrate

Value = TypeVar("Value")
_Identity = tuple[int, int]

MEMORY: Final = "memory"
GONE: Final = "the database's file was removed or replaced while the server runs: start the server again"
READERS: Final = 2
PATIENCE: Final = 10.0  # seconds that another process may write before we give up
CHECKED_BYTES: Final = 256 * 2**20  # a larger file is not looked through at the start: it takes about 4 ms a MB
SCRUB_PATIENCE: Final = 5  # milliseconds that a scrub waits for readers of an old snapshot; tokens wait behind it

WRITER_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "secure_delete = ON",
    "foreign_keys = ON",
    "wal_autocheckpoint = 4000",  # pages; a checkpoint holds up the tokens behind it for some milliseconds
)
READER_PRAGMAS: Final = ("query_only = ON", "wal_autocheckpoint = 0")


class SqliteDatabase:
    """See `Database`. Make it with `open`."""

    dialect = "sqlite"

    def __init__(self, file: Path | None) -> None:
        file = file and file.expanduser().absolute()
        name = str(file) if file else ":memory:"
        self._name = name
        self._writer = _engine(name, "BEGIN IMMEDIATE" if file else "BEGIN", WRITER_PRAGMAS, size=1)
        self._writing_thread = ThreadPoolExecutor(1, "store-writer")
        self._reader: sa.Engine | None = None
        self._reading_threads = self._writing_thread
        self._connection: sa.Connection | None = None
        self._serving: FileLock | None = None
        self._writing: FileLock | None = None
        self._file = file
        self._ours: dict[str, _Identity | None] = {}  # by suffix, what the connections opened
        self._gone = False  # another file has come in the place of ours
        if file:
            self._reader = _engine(name, "BEGIN", READER_PRAGMAS, size=READERS)
            self._reading_threads = ThreadPoolExecutor(READERS, "store-reader")

    @classmethod
    async def open(cls, place: str, *, exclusive: bool) -> SqliteDatabase:
        """Open `place`, a path or "memory", and bring its tables up to date. Raises `ConfigError`."""
        database = cls(None if place == MEMORY else Path(place))
        try:
            await database._in(database._writing_thread, lambda: database._open(exclusive))
        except BaseException:
            await database.close()
            raise
        return database

    async def read(self, operation: Operation[Value]) -> Value:
        return await self._in(self._reading_threads, lambda: self._read(operation))

    async def write(self, operations: Sequence[Operation[Any]]) -> list[Result[Any]]:
        return await self._in(self._writing_thread, lambda: self._write(operations))

    async def scrub(self) -> bool:
        return await self._in(self._writing_thread, self._scrub)

    async def close(self) -> None:
        """Copy the WAL into the file and let go of it."""
        try:
            await self._in(self._writing_thread, self._close)
        finally:
            self._reading_threads.shutdown(wait=False)
            self._writing_thread.shutdown(wait=False)

    async def _in(self, threads: ThreadPoolExecutor, call: Callable[[], Value]) -> Value:
        try:
            future = asyncio.get_running_loop().run_in_executor(threads, call)
        except RuntimeError as error:  # the threads are shut down
            raise StorageFailed("the database is closed") from error
        return await future

    # --- everything below runs in the threads -----------------------------------------------------------------------

    def _open(self, exclusive: bool) -> None:
        try:
            if self._file:
                _make_folder(self._file.parent)
                _make_private(self._file)
                self._serving = FileLock(self._beside(".serving")) if exclusive else None
                self._writing = FileLock(self._beside(".writing"))
            if self._serving and not self._serving.take():
                self._serving.close()
                self._serving = None
                raise ConfigError(f"another server uses {self._name}; give --database another path")
            with self._locked():
                if exclusive:
                    self._check()
                migrate(self._connected(), self._name)
        except (OSError, exc.SQLAlchemyError, sqlite3.Error) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else reason(error)
            raise ConfigError(f"cannot use {self._name} as a database: {said}") from error

    def _check(self) -> None:
        if self._file and self._file.stat().st_size <= CHECKED_BYTES:
            with self._connected().begin():
                found = self._connected().exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
            if found != "ok":
                said = found.splitlines()[-1]
                raise ConfigError(
                    f"{self._name} is damaged ({said}): put a backup in its place, "
                    "or give --database another path"
                )

    def _read(self, operation: Operation[Value]) -> Value:
        with storage_errors(sqlite3.Error):
            if self._reader is None:
                with self._connected().begin():
                    return operation(self._connected())
            self._stay_in_place()
            with self._reader.connect() as connection, connection.begin():
                return operation(connection)

    def _write(self, operations: Sequence[Operation[Any]]) -> list[Result[Any]]:
        with storage_errors(sqlite3.Error):
            try:
                with self._locked():
                    self._stay_in_place()
                    return transact(self._connected(), operations)
            except (exc.SQLAlchemyError, sqlite3.Error):
                self._forget()
                raise

    def _scrub(self) -> bool:
        """The driver's own connection: a checkpoint must not be inside a transaction."""
        if self._file is None:
            return True
        with storage_errors(sqlite3.Error), self._locked():
            self._stay_in_place()
            driver: Any = self._connected().connection.dbapi_connection
            driver.execute(f"PRAGMA busy_timeout = {SCRUB_PATIENCE}").close()
            ((busy, _, _),) = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            driver.execute(f"PRAGMA busy_timeout = {int(1000 * PATIENCE)}").close()
            return not busy

    def _close(self) -> None:
        """Readers first: the last connection to leave makes the final checkpoint, and that must be the writer."""
        if self._reader:
            self._reader.dispose()
        try:
            with storage_errors(sqlite3.Error), self._locked():
                if self._replaced():
                    self._set_aside()
                if self._connection:
                    self._connection.close()
                self._writer.dispose()
        finally:
            for lock in (self._writing, self._serving):
                if lock:
                    lock.close()

    def _connected(self) -> sa.Connection:
        if self._connection is None:
            self._connection = self._writer.connect()
            with self._connection.begin():  # only now does SQLite make what lies beside the file
                self._remember()
        return self._connection

    def _forget(self) -> None:
        """Let the next transaction begin on a new connection. What is in memory lives in the old one and keeps it."""
        if self._file and self._connection:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None

    def _remember(self) -> None:
        """What our files are. What lies in the database's place later, at a new connection, is not ours for that."""
        if self._file:
            found = {suffix: _identity(self._beside(suffix)) for suffix in ("", *BESIDE)}
            self._ours = found | {"": self._ours.get("", found[""])}

    def _stay_in_place(self) -> None:
        """Raises `StorageFailed` where our file is not what its name stands for: for good if another one is there, else
        until it is back, since then its WAL still lies beside it."""
        if not self._gone:
            if not self._replaced():
                return
            if _identity(self._beside("")) is not None:
                self._gone = True
                self._set_aside()
        raise StorageFailed(GONE)

    def _replaced(self) -> bool:
        return bool(self._file and self._ours) and _identity(self._beside("")) != self._ours[""]

    def _set_aside(self) -> None:
        """SQLite would take our WAL for the continuation of the file that came in the place of ours, and break it."""
        former = time.strftime(REPLACED)
        for suffix in BESIDE:
            path = self._beside(suffix)
            if (found := _identity(path)) and found == self._ours[suffix]:
                with contextlib.suppress(FileNotFoundError):  # another thread's doing
                    path.rename(self._beside(former + suffix))

    def _locked(self) -> Any:
        return self._writing.held(PATIENCE) if self._writing else contextlib.nullcontext()

    def _beside(self, suffix: str) -> Path:
        assert self._file
        return self._file.with_name(self._file.name + suffix)


def _identity(file: Path) -> _Identity | None:
    """Device and inode; `None` for a file that is not there."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, f"{error.filename} is not a directory") from None


def _make_private(file: Path) -> None:
    """Only a new file is touched: to open and close one that is in use would take SQLite's locks off it."""
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _engine(name: str, begin: str, pragmas: Sequence[str], size: int) -> sa.Engine:
    """`isolation_level` None: the driver begins nothing by itself, so `begin` is what a transaction begins with."""
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=name),
        poolclass=sa.QueuePool,
        pool_size=size,
        max_overflow=0,
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": PATIENCE},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
