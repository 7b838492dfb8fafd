"""Asks the model for summaries: of what left a conversation, in idle time, and of a whole one on demand.

What to ask and what to make of the answer is `summary`'s; here are only the asking and the moment. A summary that comes
too late costs nothing but itself: the next turn then leaves out what is not summed up yet, and says so.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from pydantic import BaseModel

from frontdesk.chat.history import Histories
from frontdesk.chat.prompting import Prompting
from frontdesk.chat.prompts import Personas
from frontdesk.chat.reply import Reply
from frontdesk.chat.spending import Paying
from frontdesk.chat.summary import SummaryTask, summary_item, summary_task
from frontdesk.errors import FrontdeskError, InvalidRequest
from frontdesk.fleet.pool import Backend, Pool
from frontdesk.generation import Failed, Finished, GenerationRequest, Turn, Usage
from frontdesk.messages import Item
from frontdesk.principal import Principal
from frontdesk.store.store import Store
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
    """A conversation made short: `items` stand for all of it. `created` is in seconds since 1970."""

    id: str
    created: int
    items: tuple[Item, ...]
    usage: Usage


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

    def after(self, conversation: str, principal: Principal) -> None:
        """A turn has ended: sum up what left the conversation, when nobody else wants the engine."""
        if conversation not in self._busy:
            task = asyncio.create_task(self._catch_up(conversation, principal))
            self._busy[conversation] = task
            task.add_done_callback(lambda _: self._busy.pop(conversation, None))

    async def compact(self, call: Call, principal: Principal) -> Compaction:
        """Sum up all of a conversation and of the call's input.

        Raises `RequestRefused`, `Unavailable`, `EngineFailed`.
        """
        assert call.turn is not None
        history = await self._histories.of(call.turn, principal)
        backend = self._pool.pick(call.generation.model)
        items = (*history.items, *call.turn.input)
        given = [item for item in items if item.kind == "summary"]
        summary, usage = history.summary or (given[-1] if given else None), Usage()
        everything = {item.id for item in items}
        model = call.generation.model
        paying = Paying(call.turn.conversation, history.limits)
        for _ in range(MOST_ROUNDS):
            task = await self._task(backend, items, everything, summary, history.pinned, model)
            if task is None:
                break
            text, spent = await self._ask(task, principal, paying)
            usage = Usage(usage.prompt + spent.prompt, usage.cached + spent.cached, usage.completion + spent.completion)
            if (new := summary_item(task, text, int(time.time()))) is None:
                break
            summary = new
        if summary is None:
            raise InvalidRequest("there is nothing to sum up: 'input' and the conversation are empty", param="input")
        pinned = tuple(item for item in items if item.id in history.pinned)
        return Compaction(secrets.token_hex(16), int(time.time()), (*pinned, summary), usage)

    async def close(self) -> None:
        for task in list(self._busy.values()):
            task.cancel()
        await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def _catch_up(self, conversation: str, principal: Principal) -> None:
        try:
            while await self._idle() and await self._one_more(conversation, principal):
                pass
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
        text, _ = await self._ask(task, principal, Paying(conversation, history.limits))
        if (item := summary_item(task, text, int(time.time()))) is None:
            return False
        await self._store.conversations.replace_summary(principal.owner, conversation, item)
        return True

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
        """Wait until the engine has nothing to do; False when that takes too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (backend := self._pool.backend) is None or backend.engine.open_requests:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(IDLE_POLL_SECONDS)
        return True
