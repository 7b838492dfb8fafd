"""What the two databases have in common: how operations become one transaction, and what their errors mean.

An operation is a plain function over an SQLAlchemy connection that is already in a transaction. It may be run twice
(see `transact`), so it must do nothing but talk to the connection.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, Final, Generic, Protocol, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy import exc

from frontdesk.errors import Conflict, StorageFailed

Value = TypeVar("Value")
Operation = Callable[[sa.Connection], Value]

FAILED: Final = "the database cannot be used now; the server's log says why"
FULL: Final = "the database's disk is full"
QUIET_SECONDS: Final = 10.0  # between two lines of the log about a database that fails

_FULL: Final = re.compile(r"disk is full|No space left|quota exceeded", re.IGNORECASE)

log = structlog.stdlib.get_logger("frontdesk.store")


@dataclass(frozen=True, slots=True)
class Insert:
    """The operation that inserts one row, of values that the driver takes as they are. Neighbours with the same
    statement go to the database in one call."""

    statement: Any
    row: dict[str, Any]

    def __call__(self, connection: sa.Connection) -> None:
        connection.execute(self.statement, self.row)


@dataclass(frozen=True, slots=True)
class Result(Generic[Value]):
    """What became of one operation: `error` is set when it was undone."""

    value: Value | None = None
    error: Exception | None = None


class Database(Protocol):
    """One database, reached from one event loop. Every method raises `StorageFailed` when it does not answer, and tries
    again to reach it at the next call."""

    dialect: str

    async def read(self, operation: Operation[Value]) -> Value:
        """Run one operation on a snapshot. It cannot write."""
        ...

    async def write(self, operations: Sequence[Operation[Any]]) -> list[Result[Any]]:
        """Run the operations in order in one transaction and commit it. The results are in the same order."""
        ...

    async def scrub(self) -> bool:
        """Overwrite what was deleted also where the database keeps older copies; whether that could be done now."""
        ...

    async def close(self) -> None: ...


def transact(connection: sa.Connection, operations: Sequence[Operation[Any]]) -> list[Result[Any]]:
    """One transaction of many operations, none of which can undo another.

    First all together, which is fast. If one fails, everything is undone and done again, each behind a savepoint.
    Raises what the transaction itself failed with; then nothing was written.
    """
    try:
        with connection.begin():
            return _together(connection, operations)
    except Exception as error:  # an operation may raise what it likes: below, each is told its own
        if is_lost(connection, error):
            raise
    with connection.begin():
        return [_alone(connection, operation) for operation in operations]


def _together(connection: sa.Connection, operations: Sequence[Operation[Any]]) -> list[Result[Any]]:
    results: list[Result[Any]] = []
    for _, group in groupby(operations, lambda operation: isinstance(operation, Insert) and id(operation.statement)):
        several = list(group)
        inserts = [operation for operation in several if isinstance(operation, Insert)]
        if inserts:
            _insert(connection, inserts)
            results += [Result()] * len(inserts)
        else:
            results += [Result(operation(connection)) for operation in several]
    return results


def _insert(connection: sa.Connection, inserts: Sequence[Insert]) -> None:
    """On SQLite straight to the driver, at half the cost: every token of every stored reply comes through here."""
    statement = inserts[0].statement
    if connection.dialect.name != "sqlite":
        connection.execute(statement, [insert.row for insert in inserts])
        return
    sql, names = _driver_form(statement, connection.dialect, tuple(inserts[0].row))
    connection.exec_driver_sql(sql, [tuple([insert.row[name] for name in names]) for insert in inserts])


@lru_cache(64)
def _driver_form(statement: Any, dialect: sa.Dialect, columns: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The statement's SQL, and the order in which it wants a row's values."""
    compiled = statement.compile(dialect=dialect, column_keys=columns)
    return str(compiled), tuple(compiled.positiontup)


def _alone(connection: sa.Connection, operation: Operation[Any]) -> Result[Any]:
    """A savepoint that cannot be left means that the database has undone the whole transaction by itself (as SQLite
    does when the disk is full): that error is the transaction's."""
    savepoint = connection.begin_nested()
    try:
        value = operation(connection)
    except Exception as error:  # it is told to whoever asked for this operation, not to the others
        if is_lost(connection, error):
            raise
        try:
            savepoint.rollback()
        except exc.SQLAlchemyError:
            raise error from None
        return Result(error=plain(error))
    savepoint.commit()
    return Result(value)


def is_lost(connection: sa.Connection, error: Exception) -> bool:
    """Whether nothing more can be done on this connection."""
    return connection.invalidated or (isinstance(error, exc.DBAPIError) and error.connection_invalidated)


def plain(error: Exception) -> Exception:
    """The error for whoever asked: ours as they are, a database's as `StorageFailed`, or as `Conflict` when it only
    says that the data contradict what is there."""
    if isinstance(error, exc.IntegrityError):
        return Conflict("this contradicts what the database holds by now")
    if isinstance(error, exc.SQLAlchemyError | OSError):
        return failed(error)
    return error


def failed(error: BaseException) -> StorageFailed:
    """For whoever asked, who need not know where the database is and as whom it is asked: that is for the log."""
    said = reason(error)
    _complaints.tell(type(error).__name__ if _quotes(error, said) else said)
    return StorageFailed(FULL if _FULL.search(said) else FAILED)


def reason(error: BaseException) -> str:
    """The first line of what the database itself said."""
    said = str(drivers_own(error)) or type(error).__name__
    return said.splitlines()[0]


def drivers_own(error: BaseException) -> BaseException:
    """What the database's driver raised, without SQLAlchemy's wrapping."""
    return getattr(error, "orig", None) or error


@contextmanager
def storage_errors(*classes: type[Exception]) -> Iterator[None]:
    """Turn SQLAlchemy's errors, `OSError` and `classes` into `StorageFailed`, and tell the log of it."""
    try:
        yield
    except (exc.SQLAlchemyError, OSError, *classes) as error:
        raise failed(error) from error
    except StorageFailed as error:
        _complaints.tell(error.message)
        raise


class _Complaints:
    """Why the database fails, for the log: at once, but not for every token and request anew."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def tell(self, reason: str) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_SECONDS
            log.warning("the database failed", reason=reason)


_complaints = _Complaints()  # one for the process, as the log is


def _quotes(error: BaseException, said: str) -> bool:
    """Whether PostgreSQL or its driver refuses a value and quotes it: a user may have written it."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", "")).startswith("22") or "query argument" in said
