"""Orders to records and back, and the two ways to keep a reply.

A stored reply goes through the journal: its tokens are committed before they are seen, its end together with its row
in the ledger. Of any other reply only the ledger row is written, at its end: what the server's death interrupts was
never charged. Knows which wire format a stored request came in, since a later life has to parse it again.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from frontdesk.chat.reply import Done, Order, Outcome, Parameters, Reply
from frontdesk.errors import EngineFailed, FrontdeskError, StorageFailed
from frontdesk.fleet.pool import Backend
from frontdesk.fleet.sameness import Sameness
from frontdesk.generation import ContextReport, Truncation, Turn, Usage
from frontdesk.messages import Item, ItemStatus, Message
from frontdesk.principal import Limits, Principal
from frontdesk.store.records import Account, Ending, JournalEntry, LedgerEntry, ResponseRecord, ResponseStatus
from frontdesk.store.store import Store
from frontdesk.wire import HTTP_FORMATS
from frontdesk.wire._format import Call
from frontdesk.wire._responses_body import ResponsesRequest
from frontdesk.wire.openai_responses import OpenAIResponses
from frontdesk.wire.openai_responses import request_json as responses_json

RETRY_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = 2.0  # at shutdown

log = structlog.stdlib.get_logger("frontdesk.chat")

_FORMATS = {format.name: format for format in HTTP_FORMATS}
_NAMES = {format.request: format.name for format in HTTP_FORMATS}
_STATUS: dict[str | None, ResponseStatus] = {
    "stop": "completed",
    "length": "incomplete",
    "cancelled": "cancelled",
    None: "failed",
}


class Kept(msgspec.Struct, frozen=True):
    """What the store keeps of an order beside its columns."""

    format: str
    parameters: Parameters
    tenant: int
    key_limits: Limits
    visitor_limits: Limits
    conversation_limits: Limits | None
    truncation: Truncation | None
    keyed: bool = False
    paying: str | None = None
    sameness: Sameness = Sameness()  # of the model's file
    public: int = 0


class KeptError(msgspec.Struct, frozen=True):
    code: str
    message: str
    param: str | None = None


class Journalled:
    """The keeper of stored replies. An end that the database does not take is tried again for as long as we live."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owed: dict[str, asyncio.Event] = {}

    def write(self, entry: JournalEntry, done: Done) -> None:
        self._store.journal.write(entry, done)

    def end(self, reply: Reply, outcome: Outcome, done: Done) -> None:
        error = outcome.error
        ending = Ending(
            response=reply.id,
            status=_STATUS[outcome.reason],
            completed=outcome.at,
            usage=outcome.usage,
            output=output_items(reply, outcome),
            error=None if error is None else msgspec.json.encode(KeptError(error.code, error.message, error.param)),
            ledger=ledger_entry(reply, outcome),
            kept_out=reply.order.conversation is None,
        )
        self._store.journal.end(ending, partial(self._ended, ending, done))

    async def paid(self, id: str) -> None:
        """Wait until the end of this reply is written, if it could not be at first."""
        if event := self._owed.get(id):
            await event.wait()

    def _ended(self, ending: Ending, done: Done, error: Exception | None) -> None:
        if isinstance(error, StorageFailed):
            self._owed[ending.response] = asyncio.Event()
            self._again(ending)
        done(error)

    def _again(self, ending: Ending) -> None:
        def written(error: Exception | None) -> None:
            if isinstance(error, StorageFailed):
                self._again(ending)
            else:
                self._owed.pop(ending.response).set()

        again = partial(self._store.journal.end, ending, written)
        asyncio.get_running_loop().call_later(RETRY_SECONDS, again)


class Passing:
    """The keeper of replies that nobody can come back to: nothing is waited for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writing: set[asyncio.Task[None]] = set()

    def write(self, entry: JournalEntry, done: Done) -> None:
        done(None)

    def end(self, reply: Reply, outcome: Outcome, done: Done) -> None:
        task = asyncio.get_running_loop().create_task(self._add(ledger_entry(reply, outcome)))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        done(None)

    async def flush(self) -> None:
        """Wait until every row is written, or until there is no hope for it."""
        if self._writing:
            _, left = await asyncio.wait(self._writing, timeout=FLUSH_SECONDS)
            for task in left:
                task.cancel()

    async def _add(self, entry: LedgerEntry) -> None:
        while True:
            try:
                await self._store.journal.pay(entry)
                return
            except StorageFailed as error:
                log.warning("a reply is not in the ledger yet", reply=entry.reply, error=error.message)
            await asyncio.sleep(RETRY_SECONDS)


def spent(reply: Reply, usage: Usage) -> int:
    """Tokens that a reply is charged: the prompt counts once the engine has read of it, and for the first of `n`."""
    return (usage.prompt if _pays_prompt(reply) else 0) + usage.completion


def ledger_entry(reply: Reply, outcome: Outcome) -> LedgerEntry:
    order, usage = reply.order, outcome.usage
    charged = _pays_prompt(reply)
    return LedgerEntry(
        reply=order.id,
        at=float(order.created),  # the moment of the hold: budgets charge the minute and the day in which it was made
        owner=order.principal.owner,
        key=order.principal.key,
        visitor=order.principal.visitor,
        conversation=order.conversation or order.paying,
        model=order.backend.card.name,
        prompt=usage.prompt if charged else 0,
        cached=usage.cached if charged else 0,
        completion=usage.completion,
        outcome="failed" if outcome.error else "cancelled" if outcome.reason == "cancelled" else "finished",
    )


def _pays_prompt(reply: Reply) -> bool:
    return (reply.reading or reply.computed) and reply.order.first


def output_items(reply: Reply, outcome: Outcome) -> tuple[Item, ...]:
    """What a reply adds to its conversation: one message. Nothing when it failed or was only a warm-up.

    One that was cancelled before it had any text adds an empty message: without it two questions would follow each
    other, which many chat templates refuse, and clients know by it that the turn was heard.
    """
    if outcome.error is not None or not reply.call.generation.generate:
        return ()
    status: ItemStatus = "completed" if outcome.reason == "stop" else "incomplete"
    return (Item(f"msg_{reply.id}", "message", Message("assistant", reply.log.text()), status, outcome.at),)


def record_of(order: Order, previous: str | None) -> ResponseRecord:
    """The row of an order that begins. Raises nothing."""
    turn = order.call.turn
    return ResponseRecord(
        id=order.id,
        owner=order.principal.owner,
        conversation=order.conversation,
        previous=previous,
        status="in_progress",
        created=order.created,
        completed=None,
        model=order.backend.card.name,
        background=order.background,
        request=request_json(order.call),
        parameters=msgspec.json.encode(_kept(order)),
        prompt=order.prompt,
        input=turn.input if turn else (),
        output=(),
        context=msgspec.json.encode(order.report),
        account=Account(order.principal.key, order.principal.visitor),
        usage=None,
        error=None,
    )


def request_json(call: Call) -> bytes:
    """The request of a call, from which its format makes the same call again."""
    if isinstance(call.body, ResponsesRequest):
        return responses_json(call)
    return call.body.model_dump_json(exclude_unset=True).encode()


def is_response(record: ResponseRecord) -> bool:
    """Whether the row belongs to the Responses API. Others are kept for an `Idempotency-Key` alone."""
    return not kept_for_its_key(record.parameters)


def kept_for_its_key(parameters: bytes) -> bool:
    """The same by a row's `parameters`: whether it is there for an `Idempotency-Key` alone. Unknown ones are not."""
    try:
        return msgspec.json.decode(parameters, type=Kept).format != OpenAIResponses.name
    except msgspec.MsgspecError:
        return False


def wrote(backend: Backend, record: ResponseRecord) -> bool:
    """Whether this is the model that wrote it, or has begun to; its token ids mean nothing to another one. A file that
    took the name of another is another model: to one that has ended, if its vocabulary is another, to one that is to
    go on, if its weights are, too. Rows of former versions know the name alone."""
    if backend.card.name != record.model:
        return False
    try:
        then = msgspec.json.decode(record.parameters, type=Kept).sameness
    except msgspec.MsgspecError:
        return True  # whoever reads on is told
    now = backend.sameness
    return then == Sameness() or (then.vocabulary == now.vocabulary and (record.ended or then.weights == now.weights))


def order_of(record: ResponseRecord, backend: Backend) -> Order:
    """The order that a row describes. Raises `FrontdeskError` when this version cannot read it. Where `backend` is of
    another model than the reply, the order says whose it is; it must not begin then."""
    if backend.card.name != record.model:
        backend = replace(backend, card=replace(backend.card, name=record.model))
    try:
        kept = msgspec.json.decode(record.parameters, type=Kept)
        report = msgspec.json.decode(record.context, type=ContextReport)
        call = _FORMATS[kept.format].parse(msgspec.json.decode(record.request))
    except (KeyError, msgspec.MsgspecError) as error:
        raise EngineFailed(f"a reply of another version cannot be read: {type(error).__name__}") from None
    return Order(
        id=record.id,
        created=record.created,
        call=_with_input(call, record.input),
        backend=backend,
        prompt=record.prompt,
        parameters=kept.parameters,
        report=report,
        principal=Principal(
            record.owner,
            record.account.key,
            record.account.visitor,
            key_limits=kept.key_limits,
            visitor_limits=kept.visitor_limits,
        ),
        tenant=kept.tenant,
        public=kept.public,
        conversation=record.conversation,
        conversation_limits=kept.conversation_limits,
        truncation=kept.truncation,
        stored=True,
        background=record.background,
        keyed=kept.keyed,
        paying=kept.paying,
    )


def outcome_of(record: ResponseRecord) -> Outcome:
    """How a reply ended that has ended."""
    usage = record.usage or Usage(len(record.prompt))
    reason: Any = next(reason for reason, status in _STATUS.items() if status == record.status)
    error: FrontdeskError | None = None
    if record.error is not None:
        kept = msgspec.json.decode(record.error, type=KeptError)
        error = EngineFailed(kept.message, code=kept.code, param=kept.param)
    elif reason is None:
        error = EngineFailed("the reply failed")
    return Outcome(reason, usage, record.completed or record.created, error)


def _kept(order: Order) -> Kept:
    payer = order.principal
    return Kept(
        _NAMES[type(order.call.body)],
        order.parameters,
        order.tenant,
        payer.key_limits,
        payer.visitor_limits,
        order.conversation_limits,
        order.truncation,
        order.keyed,
        order.paying,
        order.backend.sameness,
        order.public,
    )


def _with_input(call: Call, items: tuple[Item, ...]) -> Call:
    """The items keep the ids that they got at first; those that were referred to are among them."""
    turn: Turn | None = call.turn
    return call if turn is None else replace(call, turn=replace(turn, input=items, references=()))

