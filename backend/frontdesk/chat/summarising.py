"""Asks the model for summaries: of what left a conversation, in idle time, and of a whole one on demand.

What to ask and what to make of the answer is `summary`'s; here are only the asking and the moment. A summary that comes
too late costs nothing but itself: the next turn then leaves out what is not summed up yet, and says so.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import structlog
from pydantic import BaseModel

from frontdesk.chat.history import Histories, History
from frontdesk.chat.prompting import Prompting
from frontdesk.chat.prompts import Personas
from frontdesk.chat.reply import Reply
from frontdesk.chat.spending import Paying
from frontdesk.chat.summary import (
    SummaryTask,
    answer_room,
    smallest_question,
    summary_item,
    summary_task,
)
from frontdesk.chat.turns import with_partners
from frontdesk.errors import BudgetExceeded, ContextLengthExceeded, FrontdeskError, InvalidRequest, RequestRefused
from frontdesk.fleet.pool import Backend, Pool
from frontdesk.generation import Failed, Finished, GenerationRequest, Turn, Usage
from frontdesk.messages import Item
from frontdesk.principal import Principal
from frontdesk.store.store import Store
from frontdesk.store.summaries import both_summaries
from frontdesk.wire._format import Call

PERSONA = "summary"
IDLE_POLL_SECONDS = 0.1
PATIENCE_SECONDS = 60.0  # for an idle engine; then the summary is left for after the next turn

MOST_ROUNDS = 64  # questions to the model for one compaction: about a thousand turns

Start = Callable[[Call, Principal, Paying], Awaitable[Reply]]

log = structlog.stdlib.get_logger("frontdesk.chat")


class NoBody(BaseModel):
    """Of a call of the service's own: no client sees it, so there is nothing to echo."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """A conversation made short: `items` stand for all of it: those that are pinned, the summary if there is one, and
    what that does not stand for. `created` is in seconds since 1970."""

    id: str
    created: int
    items: tuple[Item, ...]
    usage: Usage


@dataclass(slots=True)
class _Progress:
    """How far a compaction is: `summary` stands for the beginning of `said`.

    `items` are those of the conversation and, behind them, of the call. `beside` is a summary that the call brings to a
    conversation with one of its own: it is joined to that when all that stands before it, which is `said` until then,
    is summed up. `keeper` is the conversation that keeps each new summary; None for what was not said in it alone.
    """

    history: History
    items: tuple[Item, ...]
    pinned: frozenset[str]
    said: tuple[Item, ...]
    summary: Item | None
    keeper: str | None
    beside: Item | None = None
    asked: bool = False  # the model, at least once
    usage: Usage = field(default_factory=Usage)

    def join(self) -> bool:
        """Put `beside` behind the summary and go on with all items; False where there is none. The conversation has its
        part by then."""
        if self.summary is None or self.beside is None:
            return False
        self.summary = both_summaries(self.summary, self.beside, self.pinned)
        self.said, self.beside, self.keeper = self.items, None, None
        return True

    def answered(self, spent: Usage) -> None:
        used = self.usage
        self.asked = True
        self.usage = Usage(used.prompt + spent.prompt, used.cached + spent.cached, used.completion + spent.completion)

    def made(self) -> tuple[Item, ...]:
        """What stands for all of the items now."""
        pinned = [item for item in self.items if item.id in self.pinned]
        known = self.pinned.union(self.summary.covers if self.summary else ())
        rest = [item for item in self.items if item.kind != "summary" and item.id not in known]
        return (*pinned, *([self.summary] if self.summary else ()), *rest)


def _beginning(history: History, input: tuple[Item, ...], keeper: str | None) -> _Progress:
    """Where a compaction starts from: the conversation's own summary, else one that the call brings, else nothing."""
    items = (*history.items, *input)
    pinned = with_partners(items, history.pinned)
    given = next((item for item in reversed(items) if item.kind == "summary"), None)
    if given is None:
        return _Progress(history, items, pinned, items, history.summary, keeper)
    if history.summary is None:  # it goes on from what was not said in the conversation
        return _Progress(history, items, pinned, items, given, None)
    return _Progress(history, items, pinned, items[: items.index(given)], history.summary, keeper, given)


class Summariser:
    """Must be used from one event loop. `start` begins a reply that the service itself wants, at the caller's cost."""

    def __init__(
        self, pool: Pool, personas: Personas, store: Store, histories: Histories, prompting: Prompting, start: Start
    ) -> None:
        self._pool = pool
        self._personas = personas
        self._store = store
        self._histories = histories
        self._prompting = prompting
        self._start = start
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._compacting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._making = asyncio.Lock()  # an idle time is for one: many would stand in line before the next visitor

    def after(self, conversation: str, principal: Principal) -> None:
        """A turn has ended: sum up what left the conversation, when nobody else wants the engine."""
        compacting = self._compacting.get(conversation)
        if conversation not in self._busy and not (compacting and compacting.locked()):
            task = asyncio.create_task(self._catch_up(conversation, principal))
            self._busy[conversation] = task
            task.add_done_callback(lambda _: self._busy.pop(conversation, None))

    async def compact(self, call: Call, principal: Principal) -> Compaction:
        """Sum up all of a conversation and of the call's input. The conversation keeps the summary of what was said in
        it, unless the call says `store: false`, or brings a summary to go on from where there is none. Counts as one
        request. When the budget ends on the way, or the model has nothing to say, the rest stays as it is.

        Raises `RequestRefused`, `Unavailable`, `EngineFailed`.
        """
        assert call.turn is not None
        turn = call.turn
        keeper = turn.conversation if turn.store else None
        if keeper is not None:  # before anything is done to it: is it the caller's?
            await self._histories.conversation(keeper, principal)
        model = call.generation.model
        async with self._alone(keeper):
            progress = _beginning(await self._histories.of(turn, principal), turn.input, keeper)
            backend = self._pool.pick(model)
            for _ in range(MOST_ROUNDS):
                if not await self._round(progress, backend, model, principal):
                    break
        progress.join()
        if progress.summary is None and not progress.asked:
            raise self._refusal(backend, turn, progress.items, progress.pinned)
        return Compaction(secrets.token_hex(16), int(time.time()), progress.made(), progress.usage)

    async def _round(self, progress: _Progress, backend: Backend, model: str | None, principal: Principal) -> bool:
        """Ask the model once, or join the two summaries there are; whether there may be more to sum up."""
        if (task := await self._next(progress, backend, model)) is None:
            return progress.join()
        paying = Paying(progress.history.conversation, progress.history.limits, requests=0 if progress.asked else 1)
        try:
            text, spent = await self._ask(task, principal, paying)
        except BudgetExceeded:
            if not progress.asked:
                raise
            return False
        progress.answered(spent)
        if (summary := summary_item(task, text, int(time.time()))) is None:
            return False
        former, progress.summary = progress.summary, summary
        if progress.keeper is not None and not await self._keep(principal.owner, progress.keeper, former, summary):
            progress.keeper = None
        return True

    async def _next(self, progress: _Progress, backend: Backend, model: str | None) -> SummaryTask | None:
        """First what stands in the conversation, then what comes beside it: a summary of both together could not be
        kept by the conversation."""
        history, said = progress.history, progress.said
        for items in (history.items, said) if len(said) > len(history.items) else (said,):
            everything = {item.id for item in items}
            if task := await self._task(backend, items, everything, progress.summary, history.pinned, model):
                return task
        return None

    def _refusal(
        self, backend: Backend, turn: Turn, items: Sequence[Item], pinned: frozenset[str]
    ) -> RequestRefused:
        """Why the model could not be asked anything."""
        history = "conversation" if turn.conversation else "previous_response_id" if turn.previous else None
        if not items:
            empty = "'input' and the conversation are empty" if history else "'input' is empty"
            return InvalidRequest(f"there is nothing to sum up: {empty}", param="input")
        if all(item.id in pinned for item in items):
            return InvalidRequest("there is nothing to sum up: all of the conversation is pinned", param=history)
        window = backend.engine.window
        least = self._prompting.count(backend, smallest_question(self._personas[PERSONA].text))
        param = "input" if turn.input else history
        return ContextLengthExceeded(least, window, param=param, reserve=answer_room(window))

    @asynccontextmanager
    async def _alone(self, conversation: str | None) -> AsyncIterator[None]:
        """One compaction of it at a time, the next behind it, and meanwhile no summary in idle time: another one that
        was begun earlier would take the place of the longer one. What is being written is written first."""
        if conversation is None:
            yield
            return
        async with self._compacting.setdefault(conversation, asyncio.Lock()):
            if busy := self._busy.get(conversation):
                busy.cancel()
                await asyncio.wait([busy])
            yield

    async def close(self) -> None:
        for task in list(self._busy.values()):
            task.cancel()
        await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def _catch_up(self, conversation: str, principal: Principal) -> None:
        try:
            more = True
            while more and await self._idle():
                try:
                    more = await self._one_more(conversation, principal)
                finally:
                    self._making.release()
        except FrontdeskError as error:  # the conversation is gone, the budget used up, the server stopping
            log.info("no summary", conversation=conversation, error=error.code)

    async def _one_more(self, conversation: str, principal: Principal) -> bool:
        """Sum up the oldest of what left; whether there may be more."""
        history = await self._histories.of_conversation(conversation, principal)
        if not history.policy.summarise or not history.items:
            return False
        backend = self._pool.pick(None)
        turn = Turn((), conversation=conversation)
        report = (await self._prompting.prompt(backend, GenerationRequest(None), turn, history)).report
        task = await self._task(backend, history.items, report.dropped, history.summary, history.pinned, None)
        if task is None:
            return False
        text, _ = await self._ask(task, principal, Paying(conversation, history.limits, requests=0))
        if (item := summary_item(task, text, int(time.time()))) is None:
            return False
        await self._keep(principal.owner, conversation, history.summary, item)
        return True

    async def _keep(self, owner: str, conversation: str, former: Item | None, summary: Item) -> bool:
        """As the store's `replace_summary`. Who is cancelled waits for the commit all the same: nothing takes it back,
        and a compaction that began without having seen it would not be kept."""
        write = asyncio.create_task(self._store.conversations.replace_summary(owner, conversation, former, summary))
        try:
            return await asyncio.shield(write)
        except asyncio.CancelledError:
            await asyncio.gather(write, return_exceptions=True)
            raise

    async def _task(
        self,
        backend: Backend,
        items: Sequence[Item],
        left: Sequence[str] | set[str],
        old: Item | None,
        pinned: frozenset[str],
        model: str | None,
    ) -> SummaryTask | None:
        """In a thread: it renders and counts many prompts."""
        return await asyncio.to_thread(
            summary_task,
            items,
            left,
            persona=self._personas[PERSONA].text,
            old=old,
            pinned=pinned,
            window=backend.engine.window,
            count=lambda messages: self._prompting.count(backend, messages),
            model=model,
        )

    async def _ask(self, task: SummaryTask, principal: Principal, paying: Paying) -> tuple[str, Usage]:
        reply = await self._start(Call(task.request, NoBody()), principal, paying)
        reply.readers.came()
        try:
            last = await reply.log.wait_end()
        finally:
            reply.readers.left()
        if isinstance(last, Failed):
            raise last.error
        assert isinstance(last, Finished)
        return reply.log.text(), last.usage

    async def _idle(self) -> bool:
        """Wait until the engine has nothing to do and nobody else has taken that time: it is then the caller's until
        `_making` is released. False when it takes too long."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._making.acquire()
                try:
                    # A poll: what is waited for are other people's requests, at whatever place they end.
                    while (backend := self._pool.backend) is None or backend.engine.open_requests:  # noqa: ASYNC110
                        await asyncio.sleep(IDLE_POLL_SECONDS)
                except BaseException:  # given up or too late: the idle time is for the next one
                    self._making.release()
                    raise
        except TimeoutError:
            return False
        return True
