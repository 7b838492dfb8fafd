"""The database as commands use it: opened beside a running server, for one piece of work, closed again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from frontdesk.cli import options
from frontdesk.cli.serve import load_settings
from frontdesk.errors import ConfigError, FrontdeskError

T = TypeVar("T")

Database = Annotated[
    str | None, typer.Option("--database", metavar="PLACE", help="The server's database. Default: as `serve` finds it.")
]


def with_store(config: str | None, database: str | None, work: Callable[[Any], Awaitable[T]]) -> T:
    """What `work` makes of the open `Store`. What goes wrong is one line: code 2 if it cannot be opened, else 1."""
    settings = load_settings(config, {"database": database})
    if settings.database_place == "memory":
        options.fail("a database in memory belongs to one server alone; give --database a file or a postgresql:// URL")

    async def run() -> T:
        # Imported late: `--help` and a wrong flag are answered in a fraction of the time.
        from frontdesk.store.store import open_store

        store = await open_store(settings.database_place, exclusive=False)
        try:
            return await work(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except ConfigError as error:
        options.fail(error.message)
    except FrontdeskError as error:
        options.fail(error.message, code=1)
