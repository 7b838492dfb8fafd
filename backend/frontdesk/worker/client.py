"""The service's end of one engine: spawns it, hands it requests, passes on what it says, replaces it when it dies.

A request lives here, not in the engine: its prompt and the tokens that it already has are kept, so when the engine dies
a new one continues every open reply behind its last token. Knows token ids only. Must be used from one event loop.

Who is to blame for a death is found by trying. Whoever had shown life in the dead engine goes to the next one at once;
the others follow one at a time, each after the former has shown life. One that kills `STRIKES` engines so fails.
An engine that dies of SIGILL before it has answered anybody is no request's fault: every other would die of it too, so
all fail.

A model file that has been replaced is another model: no reply is continued with it, and nothing begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog

from frontdesk.errors import EngineDied, EngineFailed, EngineNotReady, FrontdeskError, ModelLoadFailed
from frontdesk.worker.identity import Identity, identity
from frontdesk.worker.protocol import (
    Abort,
    Load,
    LoadFailed,
    Loading,
    Ready,
    SamplingParams,
    SequenceOutput,
    Stepped,
    StepStats,
    Stop,
    Submit,
    ToParent,
)
from frontdesk.worker.spawn import DAMAGED, Child, how_it_ended, spawn

PROCESS: Final = "frontdesk.worker.process"  # the engine's module
STRIKES: Final = 2  # deaths that one request may cause before it fails
BACKOFF: Final = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds before the n-th restart in a row without progress
SHELVING_SECONDS: Final = 10.0  # that an engine gets to keep its conversations on disk when it is told to stop


log = structlog.stdlib.get_logger("frontdesk.worker")


@dataclass(slots=True)
class Request:
    """One open request: everything that another engine needs to go on with it."""

    submit: Submit
    on_output: Callable[[SequenceOutput], None]
    on_failed: Callable[[FrontdeskError], None]
    emitted: list[int] = field(default_factory=list)
    cached_told: bool = False
    lively: bool = False  # the engine that has it now, or had it last, has said something of it
    begun: bool = False  # the same, or that it reads the prompt
    strikes: int = 0

    def continuation(self) -> Submit:
        return msgspec.structs.replace(self.submit, emitted=tuple(self.emitted))


class EngineClient:
    """One model's engine, kept alive. `load` is how it is opened, also after a death; `window` is in tokens."""

    def __init__(self, load: Load, environment: Mapping[str, str] | None = None) -> None:
        self.load = load
        self._environment = environment
        self._ids = itertools.count(1)
        self._requests: dict[int, Request] = {}
        self._open: Counter[int] = Counter()  # requests by tenant; none with zero
        self._places: dict[int, int] | None = None  # of all who wait, until something changes
        self._suspects: list[int] = []  # ids that the engine does not get before all on trial have shown life
        self._on_trial: set[int] = set()
        self._deaths = 0  # in a row, without progress
        self._progress = False
        self._child: Child | None = None  # the engine that was started last; it may be loading, or dead
        self._supervisor: asyncio.Task[None] | None = None
        self._over: FrontdeskError | None = None  # why nothing is begun any more
        self._file: Identity | None = None  # of the model, as it was opened first
        self.alive = False  # is there an engine that takes requests?
        self.ready: Ready | None = None
        self.stats: StepStats | None = None
        self.restarts = 0
        self.preempted = 0

    @property
    def window(self) -> int:
        return self.load.window

    @property
    def pid(self) -> int | None:
        return self._child.process.pid if self._child else None

    @property
    def open_requests(self) -> int:
        return len(self._requests)

    def open_of(self, tenant: int) -> int:
        """How many of the open requests are this tenant's."""
        return self._open[tenant]

    async def start(self, on_progress: Callable[[float], None] | None = None) -> Ready:
        """Spawn the engine and wait until the model is open. Raises `ModelLoadFailed`."""
        self._file = await asyncio.to_thread(identity, self.load.path)
        child = await self._spawn(on_progress)
        self._supervisor = asyncio.create_task(self._supervise(child))
        assert self.ready is not None
        return self.ready

    def submit(
        self,
        prompt: tuple[int, ...],
        *,
        sampling: SamplingParams,
        max_tokens: int,
        stop_tokens: tuple[int, ...],
        top_logprobs: int,
        tenant: int,
        public: int = 0,
        on_output: Callable[[SequenceOutput], None],
        on_failed: Callable[[FrontdeskError], None],
        emitted: tuple[int, ...] = (),
    ) -> int:
        """Start a reply; returns its ticket. It ends in an output with a `finish`, in `on_failed`, or by `abort`.

        `emitted` are tokens that a former life of this service has of it already: the reply goes on behind them.
        """
        id = next(self._ids)
        message = Submit(id, prompt, emitted, max_tokens, stop_tokens, sampling, top_logprobs, tenant, public)
        self._requests[id] = Request(message, on_output, on_failed, list(emitted))
        self._open[tenant] += 1
        self._places = None
        if self._suspects or self._on_trial or not self.alive:
            self._suspects.append(id)
        else:
            self._send(message)
        if self._over:  # nobody else would tell it
            asyncio.get_running_loop().call_soon(self._fail, id, self._over)
        return id

    def abort(self, id: int) -> None:
        """Stop a reply; nothing more is heard of it. Unknown tickets are ignored."""
        if self._forget(id) is None:
            return
        if id in self._suspects:
            self._suspects.remove(id)
        else:
            self._send(Abort(id))
            self._acquit(id)

    def place(self, id: int) -> int:
        """A reply's place in the waiting line as of the last step: 1 is next, 0 is being worked on or over.

        The line is in the scheduler's order, as it would be if nobody who is worked on ended before; so whoever has
        fewer replies in work may still come in front of others. Who has had to step back is told 0, but stands before
        all others. Where the engine has counted nobody who waits, there is a line as soon as the slots are taken.
        """
        if self._places is None:
            self._places = self._line()
        return self._places.get(id, 0)

    def _line(self) -> dict[int, int]:
        """The places of all whom the engine has not begun."""
        working = self.stats.running if self.stats and self.stats.waiting else self.load.slots
        taken = Counter(request.submit.tenant for request in self._requests.values() if request.begun)
        ahead = taken.total() - working
        waiting: list[tuple[int, int]] = []  # how many of its tenant's go before, and the id: the order of arrival
        for id, request in self._requests.items():
            if not request.begun:
                waiting.append((taken[request.submit.tenant], id))
                taken[request.submit.tenant] += 1
        return {id: max(0, ahead + rank) for rank, (_, id) in enumerate(sorted(waiting), start=1)}

    def _forget(self, id: int) -> Request | None:
        """It is over; `None` if it was before."""
        if request := self._requests.pop(id, None):
            self._open[request.submit.tenant] -= 1
            if not self._open[request.submit.tenant]:
                del self._open[request.submit.tenant]
            self._places = None
        return request

    async def close(self) -> None:
        """Stop the engine. Open replies fail with `EngineNotReady`."""
        self._over = EngineNotReady("the server is shutting down")
        if self._supervisor:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        if self.load.shelf:
            await self._let_go()
        self._hang_up()
        if self._child:
            await self._child.kill()
        for id in list(self._requests):
            self._fail(id, self._over)

    async def _let_go(self) -> None:
        """Give the engine time to put its conversations on the shelf."""
        self._send(Stop())
        if self._child and self.alive:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._child.process.wait(), SHELVING_SECONDS)

    # --- the engine's life --------------------------------------------------------------------------------------------

    async def _spawn(self, on_progress: Callable[[float], None] | None = None) -> Child:
        """Start a process and wait until it is ready. Raises `ModelLoadFailed`."""
        self._child = child = await spawn(PROCESS, self._environment)
        try:
            child.send(self.load)
            while not isinstance(message := await child.receive(), Ready):
                if isinstance(message, Loading) and on_progress:
                    on_progress(message.progress)
                if isinstance(message, LoadFailed):
                    raise ModelLoadFailed(message.message)
        except (asyncio.IncompleteReadError, ConnectionError):
            how = how_it_ended(await child.exit_code(), DAMAGED)
            raise ModelLoadFailed(f"the engine died while it loaded {self.load.path}: {how}") from None
        except BaseException:
            await child.kill()
            raise
        self.ready, self.alive = message, True
        return child

    async def _supervise(self, child: Child) -> None:
        """Hand out messages; when the engine dies, start another and go on. A bug in here ends every reply, aloud."""
        try:
            while True:
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
                    while True:
                        self._deliver(await child.receive())
                await self._bury(child)
                child = await self._respawn()
        except EngineNotReady as error:
            log.error("nothing is answered any more", error=error.message, path=self.load.path)
            self._give_up(error)
        except Exception as error:
            self._report(error)
            self._give_up(EngineDied("the engine's supervision failed"))

    def _give_up(self, why: FrontdeskError) -> None:
        self._hang_up()
        self._over = why
        self._fail_all(why.message)

    async def _bury(self, child: Child) -> None:
        """The engine is dead: note who might have done it."""
        self._hang_up()
        code = await child.exit_code()
        how = how_it_ended(code)
        log.warning("engine died, starting another", how=how, open=len(self._requests), restarts=self.restarts)
        self.restarts += 1
        if code == -signal.SIGILL and not self._progress:
            self._fail_all(f"the engine died: {how}")
        self._deaths = 0 if self._progress else self._deaths + 1
        alone, self._on_trial = self._on_trial, set()
        if len(alone) == 1 and (request := self._requests.get(culprit := alone.pop())):
            request.strikes += 1
            if request.strikes >= STRIKES:
                self._fail(culprit, EngineDied(f"the engine died every time it worked on this request: {how}"))
        self._suspects = [id for id, request in self._requests.items() if not request.lively]

    async def _respawn(self) -> Child:
        """The next engine, with all who may go to it at once. Raises `EngineNotReady` for another model's."""
        while True:
            await asyncio.sleep(BACKOFF[min(self._deaths, len(BACKOFF) - 1)])
            await self._check_file()
            try:
                child = await self._spawn()
            except (ModelLoadFailed, OSError, ValueError) as error:
                self._deaths += 1
                log.warning("engine could not be started", error=str(error), attempts=self._deaths)
                if self._deaths >= len(BACKOFF):
                    self._fail_all(f"the engine cannot be started again: {error}")
                continue
            await self._check_file()  # or it was replaced just before it was opened
            self._progress = False
            for request in self._requests.values():
                if request.lively:
                    self._try(request)
            self._try_next()
            return child

    async def _check_file(self) -> None:
        """Raises `EngineNotReady` if it has been replaced. One that is missing may come back."""
        found = await asyncio.to_thread(identity, self.load.path)
        if found is not None and found != self._file:
            raise EngineNotReady("the model's file has been replaced: start the server again", retry_after=math.inf)

    def _hang_up(self) -> None:
        self.alive = False
        if self._child:
            self._child.writer.close()

    # --- messages -----------------------------------------------------------------------------------------------------

    def _deliver(self, message: ToParent) -> None:
        if not isinstance(message, Stepped):
            return
        self.stats = message.stats
        self.preempted += message.stats.preempted
        for output in message.outputs:
            if request := self._requests.get(output.id):
                self._output(request, output)
        self._places = None

    def _output(self, request: Request, output: SequenceOutput) -> None:
        request.begun = True
        if not output.reading:  # the rest of its prompt may still kill the engine
            self._note(request, output)
        if request.cached_told and output.cached >= 0:
            output = msgspec.structs.replace(output, cached=-1)
        request.cached_told = request.cached_told or output.cached >= 0
        try:
            request.on_output(output)
        except Exception as error:
            self._report(error)
            self.abort(output.id)
            self._tell(request, EngineFailed("the engine's answer could not be used"))

    def _note(self, request: Request, output: SequenceOutput) -> None:
        """It has shown life, and has these tokens whatever happens to the engine."""
        self._progress = request.lively = True
        request.strikes = 0
        request.emitted.extend(output.tokens)
        if output.finish:
            self._forget(output.id)
        self._acquit(output.id)

    def _report(self, error: Exception) -> None:
        """A fault of ours in one reply must not end the others; asyncio's handler shows it to whoever keeps the log."""
        asyncio.get_running_loop().call_exception_handler({"message": "a reply was broken off", "exception": error})

    def _acquit(self, id: int) -> None:
        """One on trial has shown life or is gone: after the last of them the next suspect may come."""
        if id in self._on_trial:
            self._on_trial.remove(id)
            self._try_next()

    def _try_next(self) -> None:
        if self._suspects and not self._on_trial and self.alive:
            self._try(self._requests[self._suspects.pop(0)])

    def _try(self, request: Request) -> None:
        request.lively = request.begun = False
        self._on_trial.add(request.submit.id)
        self._send(request.continuation())

    def _fail(self, id: int, error: FrontdeskError) -> None:
        if request := self._forget(id):
            if id in self._suspects:
                self._suspects.remove(id)
            self._tell(request, error)

    def _tell(self, request: Request, error: FrontdeskError) -> None:
        try:
            request.on_failed(error)
        except Exception as bug:
            self._report(bug)

    def _fail_all(self, message: str) -> None:
        for id in list(self._requests):
            self._fail(id, EngineDied(message))

    def _send(self, message: Submit | Abort | Stop) -> None:
        """Send now, or not at all: a dead engine's requests are sent to the next one."""
        if self._child and self.alive:
            self._child.send(message)
