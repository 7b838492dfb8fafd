"""Which origins may come: those of the settings, which stay, and those of the widgets, which may change at any time.

Origins of widgets are looked up at most once in `FRESH_SECONDS`, whoever asks and however often, so one that another
process made or revoked holds after that time. When the database does not answer, what was known last holds. An origin
is compared as the browser writes it. Knows no header.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection
from typing import Protocol

import structlog

from frontdesk.errors import StorageFailed

FRESH_SECONDS = 1.0

log = structlog.stdlib.get_logger("frontdesk.access")


class WidgetTable(Protocol):
    """The part of the store's widgets that is needed here. Raises `StorageFailed`."""

    async def origins(self, now: float) -> frozenset[str]: ...


class Origins:
    """`fixed`: those of the settings; "*" is every origin. Must be used from one event loop."""

    def __init__(self, fixed: Collection[str]) -> None:
        self.every = "*" in fixed
        self._fixed = frozenset(fixed)
        self._names = frozenset(_name(origin.partition("://")[2]) for origin in fixed)
        self._table: WidgetTable | None = None
        self._known: frozenset[str] = frozenset()
        self._looking: tuple[float, asyncio.Task[None]] | None = None

    def open(self, table: WidgetTable) -> None:
        """From now on there are widgets too: the database is open."""
        self._table = table

    def lists(self, origin: str) -> bool:
        """Whether the settings let pages of this origin come."""
        return self.every or origin in self._fixed

    def names(self, host: str) -> bool:
        """Whether the settings list an origin of this host; ports do not count."""
        return self.every or _name(host) in self._names

    async def allows(self, origin: str) -> bool:
        """Whether pages of this origin may come, by the settings or as a widget's."""
        if self.lists(origin):
            return True
        await self._refresh()
        return origin in self._known

    async def _refresh(self) -> None:
        if self._table is None:
            return
        if self._looking is None or time.monotonic() - self._looking[0] > FRESH_SECONDS:
            self._looking = (time.monotonic(), asyncio.create_task(self._look(self._table)))
        await asyncio.shield(self._looking[1])  # one of those who wait may be cancelled, the others not

    async def _look(self, table: WidgetTable) -> None:
        try:
            self._known = await table.origins(time.time())
        except StorageFailed as error:  # what was known last holds until the next look
            log.warning("the origins of widgets cannot be looked up", error=error.message)


def _name(host: str) -> str:
    return re.sub(":[0-9]+$", "", host).lower()
