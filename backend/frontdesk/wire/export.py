"""A whole conversation as one file to keep: JSON for programs, Markdown for people. Knows no HTTP and no store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from frontdesk.messages import Item
from frontdesk.wire._items import item_json

JSON = dict[str, Any]

_SPEAKERS = {"user": "User", "assistant": "Assistant", "system": "System", "developer": "Developer"}


def export_json(conversation: JSON, items: Iterable[Item]) -> JSON:
    """Everything that is kept of it; `conversation` is as the API shows it, `items` are the oldest first."""
    return {
        "object": "conversation.export",
        "conversation": conversation,
        "items": [{**item_json(item), "created_at": item.created or None} for item in items],
    }


def export_markdown(conversation: JSON, items: Sequence[Item]) -> str:
    """Each item under a heading. Text is quoted line by line, so that nothing that was said can pose as a heading."""
    head = [f"# Conversation {conversation['id']}", f"Begun {_time(conversation['created_at'])}."]
    if metadata := conversation["metadata"]:
        head.append("\n".join(f"- {_inline(name)}: {_inline(value)}" for name, value in metadata.items()))
    return "\n\n".join([*head, *(_section(item) for item in items)]) + "\n"


def _section(item: Item) -> str:
    heading = f"## {_title(item)}"
    if item.created:
        heading += f" · {_time(item.created)}"
    if item.status != "completed":
        heading += f" ({item.status.replace('_', ' ')})"
    return f"{heading}\n\n{_quoted(_text(item))}"


def _title(item: Item) -> str:
    match item.kind:
        case "function_call":
            return f"Tool call {_inline(item.message.tool_calls[0].name)}"
        case "function_call_output":
            return "Tool result"
        case "summary":
            return "Summary of what came before"
        case "message":
            return _SPEAKERS.get(item.message.role, item.message.role)


def _text(item: Item) -> str:
    return item.message.tool_calls[0].arguments if item.kind == "function_call" else item.message.content


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines() or [""])


def _inline(text: str) -> str:
    """As code, which no character of the text can end or spread over lines."""
    return f"`{' '.join(text.replace('`', chr(0x2019)).split())}`"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
