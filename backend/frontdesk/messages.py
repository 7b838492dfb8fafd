"""What was said in a conversation: pure values. Nothing here knows tokens, templates, wire formats or the store.

Text is kept exactly as it came. A `Message` has no identity; an `Item` is a message with one, as conversations keep it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "developer", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call that the assistant made earlier in the conversation. `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `tool_call_id` is set on a `tool` message: the call that it answers."""

    role: Role
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


ItemKind = Literal["message", "function_call", "function_call_output", "summary"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]

ITEM_PREFIXES: dict[ItemKind, str] = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "summary": "cmp",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a conversation.

    A `function_call` holds an assistant message with exactly one tool call and no content, a `function_call_output` a
    tool message, a `summary` a system message with the text that stands for the entries named in `covers`.
    `id` is the kind's prefix, "_" and 32 hex digits; `created` is in seconds since 1970.
    """

    id: str
    kind: ItemKind
    message: Message
    status: ItemStatus = "completed"
    created: int = 0
    covers: tuple[str, ...] = ()


def item_id(kind: ItemKind) -> str:
    """A new id, random in its last 32 hex digits."""
    return f"{ITEM_PREFIXES[kind]}_{secrets.token_hex(16)}"
