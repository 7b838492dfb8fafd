"""Copies of an SQLite database: taken beside a running server, and put in the place of another one.

A plain `cp` does neither right: what was committed last may still lie in `<file>-wal`, and an old one beside a file
that was put back would be taken for its continuation. Blocking; knows neither tables nor settings.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from frontdesk.errors import ConfigError
from frontdesk.store.locks import FileLock

PATIENCE: Final = 10.0  # seconds that another process may write before we give up
REPLACED: Final = ".replaced-%Y%m%dT%H%M%S"
BESIDE: Final = ("-wal", "-shm")  # SQLite's own files beside a database, which belong to it


def back_up(database: Path, target: Path) -> int:
    """Write all that is committed by now into one new file, `target`, whole or not at all; its size in bytes.

    A reader among others: nobody waits for it. Deleted rows are not in it. Raises `ConfigError`.
    """
    _refuse_same(database, target)
    try:
        with _copied(database, target) as part:
            _put(part, target)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(f"cannot copy {database} to {target}: {_reason(error)}") from error
    return target.stat().st_size


def restore(copy: Path, database: Path) -> Path | None:
    """Put what `copy` holds in the place of `database`; where what was there before is now, if anything was.

    Raises `ConfigError`: a server uses the database, `copy` is no whole database of ours, or the disk refuses.
    """
    _refuse_same(database, copy)
    former: Path | None = None
    try:
        _check(copy)
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        serving, writing = (FileLock(database.with_name(database.name + kind)) for kind in (".serving", ".writing"))
        with contextlib.closing(serving), contextlib.closing(writing):
            if not serving.take():
                raise ConfigError(f"a server uses {database}: stop it first")
            with writing.held(PATIENCE), _copied(copy, database) as part:
                former = _move_away(database)
                _put(part, database)
    except (OSError, sqlite3.Error) as error:
        moved = f"; what was there is {former} now" if former else ""
        raise ConfigError(f"cannot put {copy} in the place of {database}: {_reason(error)}{moved}") from error
    return former


@contextlib.contextmanager
def _copied(source: Path, target: Path) -> Iterator[Path]:
    """A copy of a database, with what its WAL holds: on the disk, beside `target`, for the block to name it."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # SQLite fills an empty file, too
        with contextlib.closing(_read_only(source)) as connection:
            connection.execute("VACUUM INTO ?", (str(part),))
        _sync(part)
        yield part
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _check(copy: Path) -> None:
    with contextlib.closing(_read_only(copy)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if "alembic_version" not in tables:
            raise ConfigError(f"{copy} is no database of frontdesk")
        ((found,),) = connection.execute("PRAGMA quick_check(1)")
        if found != "ok":
            raise ConfigError(f"{copy} is damaged ({found.splitlines()[-1]})")


def _move_away(database: Path) -> Path | None:
    """The database and its files under another name, where together they are a database still."""
    former = database.with_name(database.name + time.strftime(REPLACED))
    if former.exists():
        raise ConfigError(f"{former} is there already: try again in a second")
    moved = False
    for suffix in (*BESIDE, ""):  # the file itself last: a WAL must not stay behind for what comes in its place
        source = database.with_name(database.name + suffix)
        if source.exists():
            source.replace(former.with_name(former.name + suffix))
            moved = True
    return former if moved else None


def _put(part: Path, target: Path) -> None:
    part.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_only(file: Path) -> sqlite3.Connection:
    """Such a connection neither writes nor checkpoints, also when it is the last one to leave."""
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=PATIENCE)


def _refuse_same(database: Path, copy: Path) -> None:
    if copy.resolve() == database.resolve():
        raise ConfigError(f"{copy} is the database itself: name another file")


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
