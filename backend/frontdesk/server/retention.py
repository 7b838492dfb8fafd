"""Forgets what is too old, while the server runs. What that means is the store's business."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from frontdesk.chat.keeping import kept_for_its_key
from frontdesk.errors import StorageFailed
from frontdesk.store.store import Store

DAY = 86_400.0
EVERY_SECONDS = 600.0

log = structlog.stdlib.get_logger("frontdesk.server")


@asynccontextmanager
async def retention(store: Store, days: float | None) -> AsyncIterator[None]:
    """Deletes what nobody touched for `days`, or nothing of that where it is `None`, and what was kept for a retry that
    cannot come any more; at once and then every ten minutes."""
    task = asyncio.create_task(_sweep(store, days))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _sweep(store: Store, days: float | None) -> None:
    while True:
        try:
            await store.idempotency.forget(kept_for_its_key)
            if days is not None and (count := await store.sweep(time.time() - days * DAY)):
                log.info("deleted what was too old", objects=count)
        except StorageFailed as error:
            log.warning("retention could not be kept", error=error.message)
        await asyncio.sleep(EVERY_SECONDS)
