"""The one writer: everything queued goes into one transaction, which is committed as soon as the last one is.

Nobody waits for company: an operation that comes while nothing is being committed starts at once, and those that come
meanwhile go together into the next transaction. So the load makes the groups, no clock does. Knows no tables.

Laws: operations are done in the order in which they came; whoever queued one is told exactly once, after the commit, in
the same order; a failing one is undone alone. Must be used from one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from frontdesk.errors import StorageFailed
from frontdesk.store.database import Database, Operation, Result

Value = TypeVar("Value")
Done = Callable[[Result[Any]], None]

SCRUB_AGAIN: Final = 1.0  # seconds after which a scrub that a reader kept from its work is tried again


@dataclass(frozen=True, slots=True)
class _Job:
    operation: Operation[Any]
    done: Done
    scrub: bool


class Writer:
    """Call `start` once; `close` finishes what is queued."""

    def __init__(self, database: Database) -> None:
        self._database = database
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
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SCRUB_AGAIN if scrub else None):
                    await self._came.wait()
            self._came.clear()
            while jobs := self._queue:
                self._queue = []
                results = await self._commit(jobs)
                for job, result in zip(jobs, results, strict=True):
                    self._tell(job.done, result)
                scrub = scrub or any(job.scrub for job in jobs)
            if scrub:
                scrub = not await self._scrubbed()
            if self._closed and not self._queue:
                return

    async def _commit(self, jobs: list[_Job]) -> list[Result[Any]]:
        try:
            return await self._database.write([job.operation for job in jobs])
        except Exception as error:  # whatever it is: the next ones must not find a dead writer
            failed = error if isinstance(error, StorageFailed) else StorageFailed(f"the database failed: {error}")
            return [Result(error=failed)] * len(jobs)

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


def _report(message: str, error: Exception) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
