"""Orders and their outcomes as the store keeps them, and back.

A row has the request in its format's own JSON, which a later life of the server parses again, and beside its columns
what else the order was. Pure: who writes rows, and when, is `keeping`'s.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from frontdesk.chat.reply import Order, Outcome, Parameters, Reply
from frontdesk.errors import EngineFailed, FrontdeskError
from frontdesk.fleet.pool import Backend
from frontdesk.fleet.sameness import Sameness
from frontdesk.generation import ContextReport, Truncation, Usage
from frontdesk.messages import Item, ItemStatus, Message
from frontdesk.principal import Limits, Principal
from frontdesk.store.records import Account, Ending, LedgerEntry, ResponseRecord, ResponseStatus
from frontdesk.wire import HTTP_FORMATS
from frontdesk.wire._format import Call, HttpFormat

_FORMATS = {format.name: format for format in HTTP_FORMATS}
_FORMAT_OF = {format.request: format for format in HTTP_FORMATS}
_STATUS: dict[str | None, ResponseStatus] = {
    "stop": "completed",
    "length": "incomplete",
    "cancelled": "cancelled",
    None: "failed",
}


class StoredOrder(msgspec.Struct, frozen=True):
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


class StoredError(msgspec.Struct, frozen=True):
    code: str
    message: str
    param: str | None = None


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
        parameters=msgspec.json.encode(_stored(order)),
        prompt=order.prompt,
        input=turn.input if turn else (),
        output=(),
        context=msgspec.json.encode(order.report),
        account=Account(order.principal.key, order.principal.visitor),
        usage=None,
        error=None,
    )


def ending_of(reply: Reply, outcome: Outcome, ledger: LedgerEntry) -> Ending:
    """How the row of a reply ends, together with what it is charged."""
    error = outcome.error
    return Ending(
        response=reply.id,
        status=_STATUS[outcome.reason],
        completed=outcome.at,
        usage=outcome.usage,
        output=_output(reply, outcome),
        error=None if error is None else msgspec.json.encode(StoredError(error.code, error.message, error.param)),
        ledger=ledger,
        kept_out=reply.order.conversation is None,
    )


def order_of(record: ResponseRecord, backend: Backend) -> Order:
    """The order that a row describes. Raises `FrontdeskError` when this version cannot read it. Where `backend` is of
    another model than the reply, the order says whose it is; it must not begin then."""
    if backend.card.name != record.model:
        backend = replace(backend, card=replace(backend.card, name=record.model))
    try:
        stored = msgspec.json.decode(record.parameters, type=StoredOrder)
        report = msgspec.json.decode(record.context, type=ContextReport)
        call = _FORMATS[stored.format].parse(msgspec.json.decode(record.request))
    except (KeyError, msgspec.MsgspecError) as error:
        raise EngineFailed(f"a reply of another version cannot be read: {type(error).__name__}") from None
    return Order(
        id=record.id,
        created=record.created,
        call=_with_input(call, record.input),
        backend=backend,
        prompt=record.prompt,
        parameters=stored.parameters,
        report=report,
        principal=Principal(
            record.owner,
            record.account.key,
            record.account.visitor,
            key_limits=stored.key_limits,
            visitor_limits=stored.visitor_limits,
        ),
        tenant=stored.tenant,
        public=stored.public,
        conversation=record.conversation,
        conversation_limits=stored.conversation_limits,
        truncation=stored.truncation,
        stored=True,
        background=record.background,
        keyed=stored.keyed,
        paying=stored.paying,
    )


def outcome_of(record: ResponseRecord) -> Outcome:
    """How a reply ended that has ended."""
    usage = record.usage or Usage(len(record.prompt))
    reason: Any = next(reason for reason, status in _STATUS.items() if status == record.status)
    error: FrontdeskError | None = None
    if record.error is not None:
        stored = msgspec.json.decode(record.error, type=StoredError)
        error = EngineFailed(stored.message, code=stored.code, param=stored.param)
    elif reason is None:
        error = EngineFailed("the reply failed")
    return Outcome(reason, usage, record.completed or record.created, error)


def request_json(call: Call) -> bytes:
    """The request of a call, from which its format makes the same call again."""
    return _format_of(call).request_json(call)


def kept_for_its_key(parameters: bytes) -> bool:
    """By a row's `parameters`: whether it is there for an `Idempotency-Key` alone, and cannot be found by its id as a
    response. What this version cannot read is not."""
    try:
        return not _FORMATS[msgspec.json.decode(parameters, type=StoredOrder).format].has_turns
    except (KeyError, msgspec.MsgspecError):
        return False


def wrote(backend: Backend, record: ResponseRecord) -> bool:
    """Whether this is the model that wrote it, or has begun to; its token ids mean nothing to another one. A file that
    took the name of another is another model: to one that has ended, if its vocabulary is another, to one that is to
    go on, if its weights are, too. Rows of former versions know the name alone."""
    if backend.card.name != record.model:
        return False
    try:
        then = msgspec.json.decode(record.parameters, type=StoredOrder).sameness
    except msgspec.MsgspecError:
        return True  # whoever reads on is told
    now = backend.sameness
    return then == Sameness() or (then.vocabulary == now.vocabulary and (record.ended or then.weights == now.weights))


def _stored(order: Order) -> StoredOrder:
    payer = order.principal
    return StoredOrder(
        _format_of(order.call).name,
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


def _output(reply: Reply, outcome: Outcome) -> tuple[Item, ...]:
    """What a reply adds to its conversation: one message. Nothing when it failed or was only a warm-up.

    One that was cancelled before it had any text adds an empty message: without it two questions would follow each
    other, which many chat templates refuse, and clients know by it that the turn was heard.
    """
    if outcome.error is not None or not reply.call.generation.generate:
        return ()
    status: ItemStatus = "completed" if outcome.reason == "stop" else "incomplete"
    return (Item(f"msg_{reply.id}", "message", Message("assistant", reply.log.text()), status, outcome.at),)


def _format_of(call: Call) -> HttpFormat:
    return _FORMAT_OF[type(call.body)]


def _with_input(call: Call, items: tuple[Item, ...]) -> Call:
    """The items keep the ids that they got at first; those that were referred to are among them."""
    turn = call.turn
    return call if turn is None else replace(call, turn=replace(turn, input=items, references=()))

