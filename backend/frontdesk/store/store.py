"""The store as one object: opened once, handed to whoever remembers something, closed at the end.

The place decides the database; nothing above this line can tell which one it is.
"""

from __future__ import annotations

from collections.abc import Callable

from frontdesk.errors import ConfigError
from frontdesk.store.conversations import Conversations
from frontdesk.store.database import Database
from frontdesk.store.feedback import Feedback
from frontdesk.store.handoffs import Handoffs
from frontdesk.store.journal import Journal
from frontdesk.store.keys import Keys, Secrets, probe
from frontdesk.store.ledger import Ledger
from frontdesk.store.responses import Idempotencies, Responses
from frontdesk.store.retention import sweep
from frontdesk.store.sqlite import SqliteDatabase
from frontdesk.store.widgets import Widgets
from frontdesk.store.writer import Health, Writer


class Store:
    """Must be used from one event loop. Make it with `open_store`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = Writer(database, probe)
        self._writer.start()
        self._closed = False
        self.conversations = Conversations(database, self._writer)
        self.responses = Responses(database, self._writer)
        self.journal = Journal(database, self._writer)
        self.ledger = Ledger(database)
        self.keys = Keys(database, self._writer)
        self.feedback = Feedback(database, self._writer)
        self.widgets = Widgets(database, self._writer)
        self.handoffs = Handoffs(database, self._writer)
        self.idempotency = Idempotencies(database, self._writer)
        self.secrets = Secrets(self._writer)

    @property
    def health(self) -> Health:
        """As of the last transaction. While writes fail, one that changes nothing is tried every few seconds."""
        return self._writer.health

    async def sweep(self, before: float) -> int:
        """Delete conversations, and responses outside of one, that were last used before `before`, in seconds since
        1970. Returns how many of both. What is unfinished stays, and what a newer response goes on from.
        """
        return await sweep(self._database, self._writer, before)

    async def close(self) -> None:
        """Finish what is queued and let go of the database. A second call does nothing."""
        if not self._closed:
            self._closed = True
            await self._writer.close()
            await self._database.close()


async def open_store(place: str, *, exclusive: bool = True, hurry: Callable[[], bool] = lambda: False) -> Store:
    """Open a database and bring its tables up to date.

    `place` is a path (its folders and the file are made), "memory" (forgotten at the end), or a postgresql:// URL. The
    server is exclusive: only one at a time uses a database. Commands may open it beside the server. `hurry` ends a
    server's waiting for a database that cannot be reached.

    Raises `ConfigError` with one line that says what is wrong.
    """
    scheme, found, _ = place.partition("://")
    if not found:
        return Store(await SqliteDatabase.open(place, exclusive=exclusive))
    if scheme not in ("postgresql", "postgres"):
        raise ConfigError(f"{scheme}:// is no database; write a path, memory, or postgresql://user:password@host/name")
    # Imported late: its driver takes a tenth of the time in which the package is imported, and few need it.
    from frontdesk.store.postgres import PostgresDatabase

    return Store(await PostgresDatabase.open(place, exclusive=exclusive, hurry=hurry))
