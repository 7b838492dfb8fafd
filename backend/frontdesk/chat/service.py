"""Starts replies, finds them again, and carries them over the death of the server.

A stored reply is written into the store before its engine hears of it, and lives on in the store when it has ended.
While it runs it is one object here, whoever reads it. Knows no socket and no HTTP; what a wire format says arrives as a
`Call`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from frontdesk.access.budgets import Hold
from frontdesk.chat.asking import check_said
from frontdesk.chat.history import Histories
from frontdesk.chat.keeping import FLUSH_SECONDS, Journalled, Passing, spent
from frontdesk.chat.line import Line
from frontdesk.chat.metering import Metering
from frontdesk.chat.ordering import fingerprint, limit_of, order_for, stamped
from frontdesk.chat.prompting import Prompting
from frontdesk.chat.prompts import Personas
from frontdesk.chat.recovery import Recovery
from frontdesk.chat.reply import Order, Reply
from frontdesk.chat.spending import Paying, Spending
from frontdesk.chat.stored import kept_for_its_key, order_of, outcome_of, record_of, wrote
from frontdesk.chat.summarising import Compaction, Summariser
from frontdesk.chat.talking import Locks, Talking
from frontdesk.errors import (
    Conflict,
    EngineFailed,
    EngineNotReady,
    FrontdeskError,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    StorageFailed,
)
from frontdesk.fleet.pool import Backend, Pool
from frontdesk.generation import ContextReport, GenerationRequest, Turn
from frontdesk.messages import Item
from frontdesk.principal import ANONYMOUS, Principal
from frontdesk.store.records import Idempotency, JournalEntry, ResponseRecord
from frontdesk.store.store import Store
from frontdesk.telemetry.recent import Recent
from frontdesk.wire._format import Call


@dataclass(frozen=True, slots=True)
class Rules:
    """How the service treats replies. `grace`: seconds that a stored reply goes on without readers; `None` = to its
    end. `answer_reserve` is in tokens."""

    max_waiting: int = 512
    answer_reserve: int = 512
    summarise: bool = False
    grace: float | None = None
    idempotency_hours: float = 24.0


class ChatService:
    """One per process; must be used from its event loop."""

    def __init__(
        self,
        pool: Pool,
        personas: Personas,
        store: Store,
        spending: Spending,
        rules: Rules | None = None,
        recent: Recent | None = None,
    ) -> None:
        self.pool = pool
        self.store = store
        self._metering = Metering(recent)
        self._spending = spending
        self._rules = rules or Rules()
        self._prompting = Prompting(personas, self._rules.answer_reserve)
        self._histories = Histories(store, summarise=self._rules.summarise)
        self._summariser = Summariser(pool, personas, store, self._histories, self._prompting, self._start_own)
        self._journalled = Journalled(store)
        self._passing = Passing(store)
        self._running: dict[str, Reply] = {}
        self._watching: set[asyncio.Task[None]] = set()
        self._starting: set[asyncio.Task[list[Reply]]] = set()
        self._stopping = False
        self._line = Line(self._rules.max_waiting)
        self._talking = Talking()
        self._recovery = Recovery(store, self._talking, self._continue)
        self._one_at_a_time = Locks()

    # --- starting -----------------------------------------------------------------------------------------------------

    async def start(
        self, call: Call, principal: Principal = ANONYMOUS, *, idempotency: str | None = None
    ) -> list[Reply]:
        """Start the `n` replies of a call; they share the prompt's KV. With an `idempotency` key that the caller used
        before: the reply that it started then, whether it runs or has ended.

        Raises `RequestRefused`, `Unavailable`, `TemplateFailed`; then nothing was started and nothing is charged.
        Cancelling the caller does not cut the start in two: what it began is a reply that its reader has left.
        """
        starting = asyncio.create_task(self._start_once(call, principal, idempotency))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_left_unread)
            raise
        except FrontdeskError:
            self._metering.refused()
            raise

    async def _start_once(self, call: Call, principal: Principal, idempotency: str | None) -> list[Reply]:
        check_said(call, principal)
        if idempotency is None:
            return await self._start(call, principal)
        if call.n > 1:
            raise InvalidRequest("an Idempotency-Key needs 'n' to be 1", param="n")
        if call.turn is not None and not (call.turn.store and call.generation.generate):
            raise InvalidRequest("an Idempotency-Key needs 'store' to be true: nothing is found again", param="store")
        expires = time.time() + 3600 * self._rules.idempotency_hours
        key = Idempotency(idempotency, fingerprint(call), expires)
        async with self._one_at_a_time(principal.owner, idempotency):
            if (known := await self.store.idempotency.find(principal.owner, key)) is not None:
                return [await self._find(principal, known, anew=True)]
            return await self._start(call, principal, key)

    async def _start_own(self, call: Call, principal: Principal, paying: Paying) -> Reply:
        """A reply that the service itself wants; nobody but it ever sees it."""
        return (await self._start(call, principal, paying=paying))[0]

    async def _start(
        self, call: Call, principal: Principal, key: Idempotency | None = None, paying: Paying | None = None
    ) -> list[Reply]:
        began = time.time()
        backend = self.pool.pick(call.generation.model)
        conversation = call.turn.conversation if call.turn else None
        with self._line.entering(backend.engine, principal, call.n):
            self._talking.take(principal.owner, conversation)
            try:
                replies = await self._prepared(call, principal, key, backend, paying)
            except BaseException:  # a cancelled start too must not lock its conversation
                self._talking.give_back(principal.owner, conversation)
                raise
            for reply in replies:
                self._metering.follow(reply, began)
                if self._stopping and reply.order.stored:
                    reply.suspend()  # it is written down: the next life begins it
                else:
                    reply.begin()
        return replies

    async def _prepared(
        self, call: Call, principal: Principal, key: Idempotency | None, backend: Backend, paying: Paying | None
    ) -> list[Reply]:
        call = stamped(await self._histories.resolved(call, principal))
        history = await self._histories.of(call.turn, principal) if call.turn else None
        prompt = await self._prompting.prompt(backend, call.generation, call.turn, history)
        if paying is None:
            paying = Paying(history.conversation, history.limits) if history else Paying()
        accounts = await self._spending.accounts(principal, paying)
        reserve = self._rules.answer_reserve if any(account.limits for account in accounts) else prompt.room
        limit = limit_of(call, prompt, reserve, self._spending.remaining(accounts))
        most = len(prompt.tokens) + call.n * limit  # the replies share the prompt
        holds = self._spending.hold(accounts, most, call.n * paying.requests)
        created = int(holds[0].at if holds else time.time())  # so that hold and ledger mean the same minute and day
        headers = self._spending.headers(accounts) if accounts else {}
        truncation = history.policy.truncation if history else None
        keyed = key is not None
        orders = [
            order_for(
                call, index, principal, prompt, limit,
                created=created, paying=paying, truncation=truncation, idempotent=keyed,
            )
            for index in range(call.n)
        ]
        replies = [self._reply(order) for order in orders]
        async with self._one_at_a_time(principal.owner, replies[0].id):
            try:
                if replies[0].order.stored:
                    await self._keep(replies[0], call.turn, key)
            except BaseException:  # a cancelled start too must not keep its budget
                self._spending.refund(holds)
                raise
            for reply in replies:
                reply.headers = headers
            self._watch(replies, holds)
        return replies

    async def _keep(self, reply: Reply, turn: Turn | None, key: Idempotency | None) -> None:
        record = record_of(reply.order, turn.previous if turn else None)
        try:
            taken = await self.store.responses.begin(record, idempotency=key)
        except StorageFailed:
            self._recovery.undo(record)
            raise
        if taken is not None:  # another process of the same database was faster
            raise Conflict("a request with this Idempotency-Key is being started", code="idempotency_conflict")

    def _reply(self, order: Order) -> Reply:
        return Reply(order, self._journalled if order.stored else self._passing, self._grace(order))

    def _grace(self, order: Order) -> float | None:
        if not order.stored:
            return 0.0
        return None if order.background or order.keyed else self._rules.grace

    # --- watching -----------------------------------------------------------------------------------------------------

    def _watch(self, replies: Sequence[Reply], holds: Sequence[Hold]) -> None:
        for reply in replies:
            if reply.order.stored or reply.order.conversation:
                self._running[reply.id] = reply
        task = asyncio.create_task(self._until_end(replies, holds))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _until_end(self, replies: Sequence[Reply], holds: Sequence[Hold]) -> None:
        for reply in replies:
            if await reply.log.wait_end() is None:
                return  # suspended: it is neither over nor paid for
        for reply in replies:
            await self._journalled.paid(reply.id)  # until then it holds its budget, and its conversation's turn
        self._spending.settle(holds, sum(spent(reply, reply.usage) for reply in replies))
        for reply in replies:
            self._running.pop(reply.id, None)
            if conversation := reply.order.conversation:
                self._talking.give_back(reply.order.principal.owner, conversation)
                if reply.call.generation.generate:  # a warm-up adds nothing to it
                    self._summariser.after(conversation, reply.order.principal)

    # --- finding again ------------------------------------------------------------------------------------------------

    async def open(self, principal: Principal, id: str, *, anew: bool = False) -> Reply:
        """A stored response, running or ended. Raises `NotFound`; `EngineNotReady` while it waits to be continued.

        `anew`: the caller has none of its events yet. Then one that another model wrote can be told, though not in the
        events that it had; otherwise it is `ModelNotFound`.
        """
        return await self._find(principal, id, responses_only=True, anew=anew)

    async def cancel(self, principal: Principal, id: str) -> Reply:
        """Stop a response and wait for its end; one that has ended stays as it is. Raises `NotFound`."""
        async with self._one_at_a_time(principal.owner, id):
            record = await self._record(principal, id, responses_only=True)
            reply = await (self._given_up(record) if self._waits(record) else self.open(principal, id, anew=True))
            reply.cancel()
            await reply.log.wait_end()
        return reply

    async def delete(self, principal: Principal, id: str) -> None:
        """Stop a response and forget it. What it said in a conversation stays there. Raises `NotFound`."""
        await self._stop(principal, id, responses_only=True)
        if not await self.store.responses.delete(principal.owner, id):
            raise _not_found(id)

    async def stop_conversation(self, principal: Principal, conversation: str) -> None:
        """Stop what is being said in a conversation of the caller's, and wait for its end: it is to be deleted."""
        for reply in list(self._running.values()):  # the store knows nothing of those that it does not keep
            order = reply.order
            if not order.stored and (order.principal.owner, order.conversation) == (principal.owner, conversation):
                reply.cancel()
                await reply.log.wait_end()
        for record in await self.store.responses.unfinished(conversation):
            if record.owner == principal.owner:
                with suppress(NotFound):  # deleted meanwhile
                    await self._stop(principal, record.id)

    async def _stop(self, principal: Principal, id: str, *, responses_only: bool = False) -> None:
        """Before it is deleted, a reply is charged what it has used, also one that waits to be continued. Raises
        `NotFound`; `EngineNotReady` for one that waits while the model loads."""
        async with self._one_at_a_time(principal.owner, id):
            reply = self._running.get(id)  # before the store is asked: what has ended since is not given up
            record = await self._record(principal, id, responses_only=responses_only)
            if reply is None and not record.ended:
                with suppress(EngineFailed, InvalidRequest):  # of another version: nobody can say what it cost
                    reply = await self._given_up(record, deleted=True)
            if reply:
                reply.cancel()
                await reply.log.wait_end()

    async def input_of(self, principal: Principal, id: str) -> tuple[Item, ...]:
        """What a stored response was asked. Raises `NotFound`."""
        return (await self._record(principal, id, responses_only=True)).input

    async def preview(self, principal: Principal, conversation: str) -> tuple[ContextReport, dict[str, str]]:
        """What the next turn of a conversation would send, but for what the customer says in it; and the headers that
        say what the budgets it would draw on have left now."""
        history = await self._histories.of_conversation(conversation, principal)
        turn = Turn((), conversation=conversation)
        prompt = await self._prompting.prompt(self.pool.pick(None), GenerationRequest(None), turn, history)
        accounts = await self._spending.accounts(principal, Paying(conversation, history.limits))
        return prompt.report, self._spending.headers(accounts)

    async def count(self, call: Call, principal: Principal) -> ContextReport:
        """What a call would send, without starting it."""
        check_said(call, principal)
        call = await self._histories.resolved(call, principal)
        history = await self._histories.of(call.turn, principal) if call.turn else None
        backend = self.pool.pick(call.generation.model)
        return (await self._prompting.prompt(backend, call.generation, call.turn, history)).report

    async def compact(self, call: Call, principal: Principal) -> Compaction:
        """A summary that stands for the call's conversation and input."""
        check_said(call, principal)
        return await self._summariser.compact(await self._histories.resolved(call, principal), principal)

    async def _find(self, principal: Principal, id: str, *, responses_only: bool = False, anew: bool = False) -> Reply:
        for _ in range(2):  # what runs when it is looked for in the store may have ended when it is looked for here
            record = await self._record(principal, id, responses_only=responses_only)
            if reply := self._running.get(id):
                return reply
            if record.ended:
                return await self._restored(record, anew)
            if not self._serves(record):
                why = f"the reply waits until model {record.model!r}, as it was, is served again; cancelling ends it"
                raise EngineNotReady(why, retry_after=60.0)
        raise EngineNotReady("the reply is about to be continued", retry_after=1.0)

    async def _record(self, principal: Principal, id: str, *, responses_only: bool = False) -> ResponseRecord:
        record = await self.store.responses.get(principal.owner, id)
        if record is None or principal.conversation not in (None, record.conversation):
            raise _not_found(id)
        if responses_only and kept_for_its_key(record.parameters):
            raise _not_found(id)
        return record

    def _serves(self, record: ResponseRecord) -> bool:
        """Whether the model that wrote it is served, as far as is known before it is loaded."""
        backend = self.pool.backend
        return wrote(backend, record) if backend else any(card.name == record.model for card in self.pool.cards)

    def _waits(self, record: ResponseRecord) -> bool:
        """Whether it is unfinished and goes on only when its model is served again."""
        return not (record.ended or record.id in self._running or self._serves(record))

    async def _restored(self, record: ResponseRecord, anew: bool) -> Reply:
        backend = self.pool.pick(None)
        foreign = not wrote(backend, record)
        if foreign and not anew:
            raise ModelNotFound(f"model {record.model!r} is not served here as it was: its events cannot be told again")
        reply = self._reply(order_of(record, backend))
        if foreign:
            reply.recite("".join(item.message.content for item in record.output), outcome_of(record))
            return reply
        # In a thread, as it decodes all of it; nobody else has this reply yet.
        await asyncio.to_thread(reply.restore, await self.store.journal.read(record.id), outcome_of(record))
        return reply

    # --- over the death of the server ---------------------------------------------------------------------------------

    async def recover(self, backend: Backend) -> int:
        """Go on with every reply that a former life of this server left unfinished; how many there were.

        What another model has begun waits until that model is served again.
        """
        return await self._recovery.run(backend)

    async def _continue(self, record: ResponseRecord, backend: Backend) -> None:
        if not wrote(backend, record):
            raise ModelNotFound(f"model {record.model!r} is not served here as it was")
        order = order_of(record, backend)
        async with self._one_at_a_time(record.owner, record.id):
            now = await self.store.responses.get(record.owner, record.id)
            if now is None or now.ended or record.id in self._running:
                return  # it was given up while it waited
            reply, kept = await self._taken_over(order, self._talking.resume)
            self._metering.follow(reply, order.created, kept)
            try:
                reply.begin(kept)
                reply.readers.cut_off()
            except Exception:  # undone whatever it is; `recover` logs it
                reply.suspend()
                self._running.pop(reply.id, None)
                self._talking.give_back(order.principal.owner, order.conversation)
                raise

    async def _given_up(self, record: ResponseRecord, *, deleted: bool = False) -> Reply:
        """An unfinished reply that is not gone on with, to be cancelled: it costs its tokens, and nobody reads them."""
        order = order_of(record, self.pool.pick(None))
        if deleted:  # then it adds nothing to its conversation, so no turn of it is in the way
            order = replace(order, conversation=None, paying=order.conversation or order.paying)
        reply, kept = await self._taken_over(order, self._talking.take)
        reply.charge(kept)
        return reply

    async def _taken_over(
        self, order: Order, take_turn: Callable[[str, str | None], None]
    ) -> tuple[Reply, list[JournalEntry]]:
        """A reply of a former life, with what was kept of it and what it had reserved; it is yet to begin or to end."""
        kept = await self.store.journal.resume(order.id)
        paying = Paying(order.conversation or order.paying, order.conversation_limits)
        accounts = await self._spending.accounts(order.principal, paying)
        take_turn(order.principal.owner, order.conversation)
        reply = self._reply(order)
        most = len(order.prompt) + order.parameters.max_tokens
        self._watch([reply], self._spending.adopt(accounts, most, order.created))
        return reply, kept

    def suspend(self) -> int:
        """The server stops: stored replies are left to its next life, their readers sent away; how many there were."""
        self._stopping = True
        self._recovery.stop()
        replies = [reply for reply in self._running.values() if reply.order.stored and not reply.log.ended]
        for reply in replies:
            reply.suspend()
        return len(replies)

    async def close(self) -> None:
        """Wait until what has ended is written. The engine must be closed before, the store after."""
        await self._summariser.close()
        await asyncio.gather(*self._starting, return_exceptions=True)
        self._recovery.stop()  # again: a start may have failed since `suspend`
        if self._watching:  # what the database does not take now is unfinished for the next life
            _, left = await asyncio.wait(self._watching, timeout=FLUSH_SECONDS)
            for task in left:
                task.cancel()
        await self.flush()

    async def flush(self) -> None:
        """Wait until the ledger has what has ended so far."""
        await self._passing.flush()


def _left_unread(starting: asyncio.Task[list[Reply]]) -> None:
    """Whoever asked for these replies went away while they were being started."""
    if starting.cancelled() or starting.exception():
        return
    for reply in starting.result():
        reply.readers.came()
        reply.readers.left()


def _not_found(id: str) -> NotFound:
    return NotFound(f"response 'resp_{id}' was not found", param="response_id")
