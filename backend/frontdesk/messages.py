"""What was said in a conversation: pure values without identity. Ids belong to the store and to the wire.

Text is kept exactly as it came. Nothing here knows tokens, templates or wire formats.
"""

from __future__ import annotations

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
