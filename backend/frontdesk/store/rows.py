"""Records to rows and back. Pure; the only place that knows how a field is spelt in a column."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import msgspec
import sqlalchemy as sa

from frontdesk.generation import Usage
from frontdesk.messages import Item, Message
from frontdesk.principal import Limits
from frontdesk.store.records import (
    Account,
    ConversationRecord,
    FeedbackRecord,
    HandoffRecord,
    JournalEntry,
    KeyRecord,
    LedgerEntry,
    ResponseRecord,
    WidgetRecord,
)
from frontdesk.store.schema import items, responses

SECONDS_A_DAY = 86_400
ITEM_COLUMNS: Sequence[sa.Column[Any]] = [
    column for column in items.c if column.name not in ("conversation", "position")
]
RESPONSE_COLUMNS: Sequence[sa.Column[Any]] = [column for column in responses.c if column.name != "number"]

_json = msgspec.json.Encoder()
_message = msgspec.json.Decoder(Message)
_items = msgspec.json.Decoder(tuple[Item, ...])
_names = msgspec.json.Decoder(tuple[str, ...])
_limits = msgspec.json.Decoder(Limits)
_comment = msgspec.json.Decoder(str | None)
_metadata = msgspec.json.Decoder(dict[str, str])
_object = msgspec.json.Decoder(dict[str, Any])

to_json = _json.encode


def pack_tokens(tokens: Sequence[int]) -> bytes:
    """Little-endian int32, four bytes a token."""
    return struct.pack(f"<{len(tokens)}i", *tokens)


def unpack_tokens(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 4}i", data)


def conversation_row(record: ConversationRecord) -> dict[str, Any]:
    return {
        "id": record.id, "owner": record.owner, "created": record.created, "updated": record.updated,
        "metadata": to_json(record.metadata), "options": to_json(record.options),
    }  # fmt: skip


def conversation_record(row: sa.RowMapping) -> ConversationRecord:
    return ConversationRecord(
        id=row["id"], owner=row["owner"], created=row["created"], updated=row["updated"],
        metadata=_metadata.decode(row["metadata"]), options=_object.decode(row["options"]),
    )  # fmt: skip


def item_row(conversation: str, position: int, item: Item) -> dict[str, Any]:
    return {
        "conversation": conversation, "position": position, "id": item.id, "kind": item.kind, "status": item.status,
        "created": item.created, "covers": to_json(item.covers), "message": to_json(item.message),
    }  # fmt: skip


def item_record(row: sa.RowMapping) -> Item:
    return Item(
        id=row["id"], kind=row["kind"], status=row["status"], created=row["created"],
        covers=_names.decode(row["covers"]), message=_message.decode(row["message"]),
    )  # fmt: skip


def response_row(record: ResponseRecord) -> dict[str, Any]:
    return {
        "id": record.id, "owner": record.owner, "conversation": record.conversation, "previous": record.previous,
        "status": record.status, "created": record.created, "completed": record.completed, "model": record.model,
        "background": record.background, "key": record.account.key, "visitor": record.account.visitor,
        **usage_row(record.usage), "error": record.error, "context": record.context, "parameters": record.parameters,
        "request": record.request, "input": to_json(record.input), "output": to_json(record.output),
        "prompt": pack_tokens(record.prompt),
    }  # fmt: skip


def usage_row(usage: Usage | None) -> dict[str, int | None]:
    prompt, cached, completion = (usage.prompt, usage.cached, usage.completion) if usage else (None, None, None)
    return {"usage_prompt": prompt, "usage_cached": cached, "usage_completion": completion}


def response_record(row: sa.RowMapping) -> ResponseRecord:
    """`row` may lack `prompt`."""
    usage = None
    if row["usage_prompt"] is not None:
        usage = Usage(row["usage_prompt"], row["usage_cached"], row["usage_completion"])
    return ResponseRecord(
        id=row["id"], owner=row["owner"], conversation=row["conversation"], previous=row["previous"],
        status=row["status"], created=row["created"], completed=row["completed"], model=row["model"],
        background=row["background"], account=Account(row["key"], row["visitor"]), usage=usage, error=row["error"],
        context=row["context"], parameters=row["parameters"], request=row["request"], input=item_tuple(row["input"]),
        output=item_tuple(row["output"]), prompt=unpack_tokens(row.get("prompt", b"")),
    )  # fmt: skip


def name_tuple(data: bytes) -> tuple[str, ...]:
    return _names.decode(data)


def item_tuple(data: bytes) -> tuple[Item, ...]:
    return _items.decode(data)


def journal_row(entry: JournalEntry) -> dict[str, Any]:
    return {
        "response": entry.response, "position": entry.position, "tokens": pack_tokens(entry.tokens),
        "finish": entry.finish, "cached": entry.cached, "logprobs": entry.logprobs,
    }  # fmt: skip


def journal_entry(row: sa.RowMapping) -> JournalEntry:
    return JournalEntry(
        response=row["response"], position=row["position"], tokens=unpack_tokens(row["tokens"]),
        finish=row["finish"], cached=row["cached"], logprobs=row["logprobs"],
    )  # fmt: skip


def ledger_row(entry: LedgerEntry) -> dict[str, Any]:
    return {**asdict(entry), "day": int(entry.at // SECONDS_A_DAY)}


def key_row(record: KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id, "name": record.name, "hash": record.hash, "scopes": to_json(sorted(record.scopes)),
        "limits": to_json(record.limits), "created": record.created, "expires": record.expires,
        "revoked": record.revoked, "last_used": record.last_used,
    }  # fmt: skip


def key_record(row: sa.RowMapping) -> KeyRecord:
    return KeyRecord(
        id=row["id"], name=row["name"], hash=row["hash"], scopes=frozenset(_names.decode(row["scopes"])),
        limits=_limits.decode(row["limits"]), created=row["created"], expires=row["expires"], revoked=row["revoked"],
        last_used=row["last_used"],
    )  # fmt: skip


def feedback_row(record: FeedbackRecord) -> dict[str, Any]:
    return {**asdict(record), "comment": to_json(record.comment)}


def feedback_record(row: sa.RowMapping) -> FeedbackRecord:
    return FeedbackRecord(
        id=row["id"], conversation=row["conversation"], item=row["item"], rating=row["rating"],
        comment=_comment.decode(row["comment"]), created=row["created"],
    )  # fmt: skip


def widget_row(record: WidgetRecord) -> dict[str, Any]:
    return {
        "id": record.id, "key": record.key.id, "persona": record.persona, "identified_only": record.identified_only,
        "origins": to_json(record.origins), "visitor_limits": to_json(record.visitor_limits),
    }  # fmt: skip


def widget_record(row: sa.RowMapping, key: KeyRecord) -> WidgetRecord:
    return WidgetRecord(
        id=row["id"], key=key, origins=_names.decode(row["origins"]), persona=row["persona"],
        identified_only=row["identified_only"], visitor_limits=_limits.decode(row["visitor_limits"]),
    )  # fmt: skip


def handoff_row(record: HandoffRecord) -> dict[str, Any]:
    return {
        "id": record.id, "conversation": record.conversation, "state": record.state, "created": record.created,
        "said": to_json({"contact": record.contact, "message": record.message}),
    }  # fmt: skip


def handoff_record(row: sa.RowMapping) -> HandoffRecord:
    return HandoffRecord(
        id=row["id"], conversation=row["conversation"], state=row["state"], created=row["created"],
        **_object.decode(row["said"]),
    )  # fmt: skip
