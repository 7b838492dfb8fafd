"""The four states of a server: loading, ready, stopping, failed; and the way from one to the next.

The model loads in the background, so that probes are answered at once. Stopping refuses new requests, gives running
replies their time, leaves stored ones that still run to the server's next life, then closes the engine, which ends what
else runs with an error event. Knows no socket, no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeVarTuple

import structlog

from frontdesk.errors import EngineFailed, FrontdeskError
from frontdesk.fleet.pool import Backend, Pool
from frontdesk.fleet.registry import verify
from frontdesk.telemetry.logs import where
from frontdesk.worker.protocol import Load

State = Literal["loading", "ready", "stopping", "failed"]
Ts = TypeVarTuple("Ts")
Opening = Callable[[Callable[[str, float], None]], Awaitable[Load]]
POLL_SECONDS = 0.05

log = structlog.stdlib.get_logger("frontdesk.server")


class Replies(Protocol):
    """What there is to carry from one life of the server to the next."""

    async def recover(self, backend: Backend) -> int: ...

    def suspend(self) -> int: ...

    async def close(self) -> None: ...


def _ignore(*_: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Watch:
    """What the starter of a server wants to hear: what is measured and how far that is (0..1), progress of loading
    (0..1), then exactly one of the other two."""

    tuning: Callable[[str, float], None] = _ignore
    progress: Callable[[float], None] = _ignore
    ready: Callable[[Backend], None] = _ignore
    failed: Callable[[FrontdeskError], None] = _ignore


def _tell(callback: Callable[[*Ts], None], *values: *Ts) -> None:
    """A watcher that breaks must not take the server with it."""
    try:
        callback(*values)
    except Exception as error:
        log.error("a watcher of the server failed", stack=where(error))


class Lifetime:
    """Must be used from one event loop, after `start`. `opening` says how to open the model, which may take a while: it
    is handed a callback for what it does and how far that is."""

    def __init__(self, pool: Pool, opening: Opening, drain_seconds: float, watch: Watch) -> None:
        self.pool = pool
        self.progress = 0.0
        self.stopping = asyncio.Event()
        self._opening = opening
        self._drain_seconds = drain_seconds
        self._watch = watch
        self._failed = False
        self._loading: asyncio.Task[None] | None = None
        self._replies: Replies | None = None

    @property
    def state(self) -> State:
        if self.stopping.is_set():
            return "stopping"
        if self._failed:
            return "failed"
        return "ready" if self.pool.ready else "loading"

    @asynccontextmanager
    async def running(self, replies: Replies) -> AsyncIterator[None]:
        """From the loading of the model to the end of everything."""
        self._replies = replies
        self._loading = asyncio.create_task(self._open_model(replies))
        try:
            yield
        finally:
            await self.stop()

    def refuse(self) -> None:
        """Take no new requests from now on; a start that is going on is in a hurry (`stopping`)."""
        self.stopping.set()
        self.pool.refuse()

    async def drain(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Refuse new requests and wait for the running ones, `drain_seconds` at most; then `stop`."""
        self.refuse()
        deadline = time.monotonic() + self._drain_seconds
        # A poll, since what ends the wait are a count, a clock and a signal at once; it runs once in a server's life.
        while self._open_requests() and time.monotonic() < deadline and not hurry():  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        if self._replies is not None and (left := self._replies.suspend()):
            log.info("replies left to the next start", replies=left)
        if left := self._open_requests():
            log.warning("replies cut short by shutdown", replies=left)
        await self.stop()

    async def stop(self) -> None:
        """Close the engine; replies that still run and are not stored end with an error. May be called again."""
        self.stopping.set()
        if self._replies is not None:
            self._replies.suspend()  # first: a loading that is given up closes the engine, which ends what still runs
        if self._loading is not None:
            self._loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loading
        await self.pool.close()
        if self._replies is not None:
            await self._replies.close()

    async def _open_model(self, replies: Replies) -> None:
        try:
            await asyncio.to_thread(verify, self.pool.cards[0])
            load = await self._opening(partial(_tell, self._watch.tuning))
            backend = await self.pool.start(load, self._on_progress, replies.recover)
        except Exception as error:  # whatever it is: in a task of its own nobody would hear of it
            self._failed = True
            if not isinstance(error, FrontdeskError):
                log.error("unexpected exception while loading", stack=where(error))
                error = EngineFailed(f"the model could not be loaded: {type(error).__name__}")
            _tell(self._watch.failed, error)
        else:
            self.progress = 1.0
            _tell(self._watch.ready, backend)

    def _on_progress(self, progress: float) -> None:
        self.progress = progress
        _tell(self._watch.progress, progress)

    def _open_requests(self) -> int:
        backend = self.pool.backend
        return backend.engine.open_requests if backend else 0
