"""A held engine that works in strides, so that a test finds an answer in its middle on a machine of any speed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Server

WORK_SECONDS = 0.04  # of a stride: some tokens
REST_SECONDS = 0.06  # after it: what was written reaches the page
PATIENCE_SECONDS = 60


async def strides(held: Server, until: Callable[[], Awaitable[bool]]) -> None:
    """Let the engine of a server that is `held()` work until this is true. It stands still again then."""
    engine = held.engine_pid
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await until():
        assert time.monotonic() < deadline, f"it did not come to that in {PATIENCE_SECONDS} s"
        os.kill(engine, signal.SIGCONT)
        await asyncio.sleep(WORK_SECONDS)
        os.kill(engine, signal.SIGSTOP)
        await asyncio.sleep(REST_SECONDS)
