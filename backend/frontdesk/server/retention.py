"""Forgets what is too old, while the server runs. What that means is the store's business."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from frontdesk.chat.stored import kept_for_its_key
from frontdesk.errors import StorageFailed
from frontdesk.store.store import Store

DAY = 86_400.0
EVERY_SECONDS = 600.0
JUMP_SECONDS = 3600.0  # of the time of day, against a clock that nobody sets
DOUBTS = 144  # rounds, a day, after which a time of day that has jumped is believed

log = structlog.stdlib.get_logger("frontdesk.server")


@asynccontextmanager
async def retention(store: Store, days: float | None) -> AsyncIterator[None]:
    """Deletes what nobody touched for `days`, or nothing of that where it is `None`, and what was kept for a retry that
    cannot come any more; at once and then every ten minutes, but not when the time of day has just jumped: one that is
    far ahead would have everything deleted."""
    task = asyncio.create_task(_sweep(store, days))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _sweep(store: Store, days: float | None) -> None:
    ahead, doubts = time.time() - _elapsed(), 0
    while True:
        now = time.time()  # once: it may jump in the middle of a round, too
        jump = now - _elapsed() - ahead
        if abs(jump) > JUMP_SECONDS and doubts < DOUBTS:
            doubts += 1
            log.warning("the time of day has jumped: nothing is deleted for its age", seconds=round(jump))
        else:
            ahead, doubts = ahead + jump, 0
            await _forget(store, None if days is None else now - days * DAY)
        await asyncio.sleep(EVERY_SECONDS)


def _elapsed() -> float:
    """Seconds on a clock that nobody sets, and that goes on while the machine sleeps where there is such a one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


async def _forget(store: Store, before: float | None) -> None:
    try:
        await store.idempotency.forget(kept_for_its_key)
        if before is not None and (count := await store.sweep(before)):
            log.info("deleted what was too old", objects=count)
    except StorageFailed as error:
        log.warning("retention could not be kept", error=error.message)
