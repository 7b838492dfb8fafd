"""Brings a database's tables to what `schema.py` says, by the ordered steps in `migrations/versions/`.

Every step is a file that says why it was needed; steps are only ever added. All of them run in one transaction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from frontdesk.errors import ConfigError

FOLDER: Final = Path(__file__).parent / "migrations"
ADVISORY_LOCK: Final = 0x66645F6D6967  # "fd_mig": PostgreSQL lets one process at a time through


def migrate(connection: sa.Connection, name: str) -> None:
    """Run the steps that the database lacks. `connection` is in no transaction, and is in none afterwards.

    Raises `ConfigError` when the database is of a newer version; `name` names it there.
    """
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        present = MigrationContext.configure(connection).get_current_revision()
        if present == ScriptDirectory.from_config(config).get_current_head():
            return
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ConfigError(
                f"{name} was written by a newer frontdesk (its tables are of version {present}): "
                "install that version, or give --database another path"
            ) from error
