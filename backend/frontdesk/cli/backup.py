"""`frontdesk backup` and `frontdesk restore`: a copy of the database, and the way back to it. SQLite only.

PostgreSQL has `pg_dump` and `pg_restore`, which do it better than we could.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frontdesk.cli import options
from frontdesk.cli.database import Database
from frontdesk.cli.serve import load_settings
from frontdesk.errors import ConfigError

To = Annotated[str, typer.Argument(metavar="FILE", help="Where the copy goes; a file of that name is replaced.")]
From = Annotated[str, typer.Argument(metavar="FILE", help="A copy that `frontdesk backup` made.")]


def backup(file: To, database: Database = None, config: options.ConfigFile = None) -> None:
    """Copy the database into one file, whole and of one moment, while the server runs.

    The copy holds conversations, keys' hashes and the secret behind visitors' tokens: keep it as safe as the database.
    """
    place = _sqlite_file(config, database)
    if not place.exists():
        options.fail(f"there is no database {place}")
    target = Path(file).expanduser()
    if target.is_dir():
        options.fail(f"{file} is a folder: name a file in it")
    # Imported late: `--help` and a wrong flag are answered in a fraction of the time.
    from frontdesk.store.copies import back_up

    try:
        size = back_up(place, target)
    except ConfigError as error:
        options.fail(error.message, code=1)
    options.notes.print(f"{place} is copied to {file}: {size / 1e6:.1f} MB", markup=False)


def restore(file: From, database: Database = None, config: options.ConfigFile = None) -> None:
    """Put a copy in the place of the database, which is kept beside it under another name. Stop the server first.

    What happened since the copy was made is undone: keys that were revoked since then are valid again, and
    conversations that were deleted are back.
    """
    place = _sqlite_file(config, database)
    copy = Path(file).expanduser()
    if not copy.is_file():
        options.fail(f"there is no file {file}")
    from frontdesk.store.copies import restore as put_back

    try:
        former = put_back(copy, place)
    except ConfigError as error:
        options.fail(error.message, code=1)
    options.notes.print(f"{place} is as it was when {file} was made", markup=False)
    if former is not None:
        options.notes.print(f"what was there before is {former} now", markup=False)


def _sqlite_file(config: str | None, database: str | None) -> Path:
    place = load_settings(config, {"database": database}).database_place
    if place == "memory":
        options.fail("a database in memory belongs to one server alone; give --database a file")
    if "://" in place:
        options.fail("of a PostgreSQL database `pg_dump` makes copies and `pg_restore` puts them back")
    return Path(place).expanduser().absolute()
