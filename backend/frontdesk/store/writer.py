"""The one writer: everything queued goes into one transaction, which is committed as soon as the last one is.

Nobody waits for company: an operation that comes while nothing is being committed starts at once, and those that come
meanwhile go together into the next transaction. So the load makes the groups, no clock does. Knows no tables.

Laws: operations are done in the order in which they came; whoever queued one is told exactly once, after the commit, in
the same order; a failing one is undone alone. Must be used from one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import structlog

from frontdesk.errors import StorageFailed
from frontdesk.store.database import Database, Operation, Result, failed

Value = TypeVar("Value")
Done = Callable[[Result[Any]], None]

SCRUB_AGAIN: Final = 1.0  # seconds after which a scrub that a reader kept from its work is tried again
PROBE_SECONDS: Final = 5.0  # after which a database that failed, and that nobody writes to, is tried again

log = structlog.stdlib.get_logger("frontdesk.store")


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the database takes what is written, in seconds since 1970: `written` is when it last did, `None` before
    the first time; `failing` is since when it does not, `None` while it does."""

    written: float | None = None
    failing: float | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    operation: Operation[Any]
    done: Done
    scrub: bool


class Writer:
    """Call `start` once; `close` finishes what is queued. `probe` is a write that changes nothing."""

    def __init__(self, database: Database, probe: Operation[None]) -> None:
        self.health = Health()
        self._database = database
        self._probe = _Job(probe, lambda _: None, scrub=False)
        self._queue: list[_Job] = []
        self._came = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._work(), name="store writer")

    def submit(self, operation: Operation[Any], done: Done, *, scrub: bool = False) -> None:
        """Queue an operation. `done` is called on the event loop after its commit, or with the error that undid it.

        With `scrub` what it deleted is overwritten everywhere as soon as nothing else is to do.
        """
        if self._closed:
            done(Result(error=StorageFailed("the database is closed")))
            return
        self._queue.append(_Job(operation, done, scrub))
        self._came.set()

    async def run(self, operation: Operation[Value], *, scrub: bool = False) -> Value:
        """Queue an operation and wait for its commit. Raises what it raised, or `StorageFailed`.

        Cancelling the caller does not take the operation back.
        """
        future: asyncio.Future[Value] = asyncio.get_running_loop().create_future()

        def done(result: Result[Value]) -> None:
            if future.done():
                return
            if result.error:
                future.set_exception(result.error)
            else:
                future.set_result(cast(Value, result.value))

        self.submit(operation, done, scrub=scrub)
        return await future

    async def close(self) -> None:
        """Finish what is queued. Whatever comes later fails with `StorageFailed`."""
        self._closed = True
        self._came.set()
        if self._task:
            await self._task

    async def _work(self) -> None:
        scrub = False
        while True:
            ailing = self.health.failing is not None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SCRUB_AGAIN if scrub else PROBE_SECONDS if ailing else None):
                    await self._came.wait()
            self._came.clear()
            if ailing and not self._queue and not self._closed:
                self._queue.append(self._probe)
            while jobs := self._queue:
                self._queue = []
                results = await self._commit(jobs)
                for job, result in zip(jobs, results, strict=True):
                    self._tell(job.done, result)
                await self._judge(results)
                scrub = scrub or any(job.scrub for job in jobs)
            if scrub:
                scrub = not await self._scrubbed()
            if self._closed and not self._queue:
                return

    async def _commit(self, jobs: list[_Job]) -> list[Result[Any]]:
        try:
            return await self._database.write([job.operation for job in jobs])
        except Exception as error:  # whatever it is: the next ones must not find a dead writer
            told = error if isinstance(error, StorageFailed) else failed(error)
            return [Result(error=told)] * len(jobs)

    async def _judge(self, results: list[Result[Any]]) -> None:
        if self.health.failing and not _refused(results):
            results = await self._commit([self._probe])  # those before may have had nothing to write, whatever the disk
        now = time.time()
        if _refused(results):
            self.health = Health(self.health.written, self.health.failing or now)
        else:
            if self.health.failing:
                log.info("the database takes what is written again", seconds=round(now - self.health.failing))
            self.health = Health(now)

    async def _scrubbed(self) -> bool:
        try:
            return await self._database.scrub()
        except StorageFailed:
            return False  # tried again
        except Exception as error:  # as in `_commit`
            _report("what was deleted could not be overwritten yet", error)
            return False

    def _tell(self, done: Done, result: Result[Any]) -> None:
        try:
            done(result)
        except Exception as error:
            _report("whoever was told of a commit failed", error)


def _refused(results: list[Result[Any]]) -> bool:
    """Whether the database took nothing: a single operation may be at fault itself."""
    return all(isinstance(result.error, StorageFailed) for result in results)


def _report(message: str, error: Exception) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
