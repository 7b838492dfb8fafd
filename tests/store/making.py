"""Records to test with: every field that a test does not speak of has some value that is not its default."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

from frontdesk.generation import Usage
from frontdesk.messages import Item, Message, ToolCall, item_id
from frontdesk.principal import Limits
from frontdesk.store.records import (
    Account,
    ConversationRecord,
    Ending,
    JournalEntry,
    KeyRecord,
    LedgerEntry,
    ResponseRecord,
)
from frontdesk.store.store import Store

OWNER = "key_1"
OTHER = "key_2"

random_hex = random.Random(7)


def hex_id() -> str:
    return f"{random_hex.getrandbits(128):032x}"


def conversation(owner: str = OWNER, **changes: Any) -> ConversationRecord:
    values: dict[str, Any] = {
        "id": f"conv_{hex_id()}", "owner": owner, "created": 100, "updated": 200,
        "metadata": {"topic": "refund ☃"}, "options": {"context": {"pinned": ["msg_1"], "keep_last": 2}}, **changes,
    }  # fmt: skip
    return ConversationRecord(**values)


def said(text: str, role: Any = "user") -> Item:
    return Item(item_id("message"), "message", Message(role, text), created=7)


def replace_id(item: Item, id: str) -> Item:
    return replace(item, id=id)


def summary(text: str, *covers: str) -> Item:
    return Item(item_id("summary"), "summary", Message("system", text), created=8, covers=covers)


def calls() -> list[Item]:
    """A tool call and its result, with every field of a message in use."""
    call = Message("assistant", "", name="desk", tool_calls=(ToolCall("call_1", "order", '{"n": "\\u0000"}'),))
    answer = Message("tool", "it\0 is \N{PILE OF POO} \u202e on its way", tool_call_id="call_1")
    return [
        Item(item_id("function_call"), "function_call", call, "incomplete", 9),
        Item(item_id("function_call_output"), "function_call_output", answer, "in_progress", 10),
    ]


def response(owner: str = OWNER, **changes: Any) -> ResponseRecord:
    values: dict[str, Any] = {
        "id": hex_id(), "owner": owner, "conversation": None, "previous": None, "status": "in_progress",
        "created": 300, "model": "small", "background": True, "request": b'{"input": "hi"}',
        "parameters": b'{"seed": 1}', "prompt": (1, 0, 2**31 - 1), "input": (said("hi"),), "context": b'{"window": 9}',
        "account": Account("key_1", "visitor_1"), **changes,
    }  # fmt: skip
    return ResponseRecord(**values)


def ending(record: ResponseRecord, *output: Item, **changes: Any) -> Ending:
    values: dict[str, Any] = {
        "response": record.id, "status": "completed", "completed": 400, "usage": Usage(5, 2, 3), "output": output,
        "error": None, "ledger": entry(reply=record.id, owner=record.owner, conversation=record.conversation),
        **changes,
    }  # fmt: skip
    return Ending(**values)


def entry(**changes: Any) -> LedgerEntry:
    values: dict[str, Any] = {
        "reply": hex_id(), "at": 1000.5, "owner": OWNER, "key": "key_1", "visitor": "visitor_1",
        "conversation": "conv_1", "model": "small", "prompt": 5, "cached": 2, "completion": 3, "outcome": "finished",
        **changes,
    }  # fmt: skip
    return LedgerEntry(**values)


def key(**changes: Any) -> KeyRecord:
    values: dict[str, Any] = {
        "id": hex_id(), "name": "shop", "hash": b"\0\1hash", "scopes": frozenset(["chat", "usage"]),
        "limits": Limits(tokens_per_day=10**12, requests_per_minute=3), "created": 50, "expires": 2**40,
        "revoked": None, "last_used": None, **changes,
    }  # fmt: skip
    return KeyRecord(**values)


def journal_entry(record: ResponseRecord, position: int, *tokens: int, **changes: Any) -> JournalEntry:
    return JournalEntry(record.id, position, tokens, **changes)


async def write(store: Store, entry: JournalEntry) -> None:
    """Write to the journal and wait for the commit; raises what it failed with."""
    await _told(lambda done: store.journal.write(entry, done))


async def end(store: Store, ending: Ending) -> None:
    await _told(lambda done: store.journal.end(ending, done))


async def _told(call: Any) -> None:
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    call(lambda error: told.set_exception(error) if error else told.set_result(None))
    await asyncio.wait_for(told, 30)
