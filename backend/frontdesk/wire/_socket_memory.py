"""What one WebSocket remembers of replies that nobody keeps (`store: false`), so that a turn can follow them.

Bounded in number and in characters; the oldest are forgotten first. Knows no lanes and no frames.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace

from frontdesk.generation import Turn
from frontdesk.messages import Item

MAX_REMEMBERED = 64  # responses
MAX_REMEMBERED_CHARACTERS = 16_000_000


@dataclass(frozen=True, slots=True)
class Remembered:
    """Everything said up to a response: `items`, which follow the kept response `previous` if there is one."""

    items: tuple[Item, ...]
    previous: str | None = None


@dataclass(slots=True)
class Memory:
    """Conversations by the id of their last response (32 hex digits), without instructions."""

    _said: OrderedDict[str, Remembered] = field(default_factory=OrderedDict)
    _characters: int = 0

    def add(self, id: str, said: Remembered) -> None:
        self._said[id] = said
        self._characters += _size(said)
        while len(self._said) > 1 and self._is_full():
            _, dropped = self._said.popitem(last=False)
            self._characters -= _size(dropped)

    def recall(self, turn: Turn) -> Turn:
        """The same turn for someone who does not have this memory. One that follows nothing remembered is unchanged."""
        if turn.previous is None or (said := self._said.get(turn.previous)) is None:
            return turn
        input = said.items + turn.input
        return replace(turn, input=input, previous=said.previous, remembered=len(said.items))

    def _is_full(self) -> bool:
        return len(self._said) > MAX_REMEMBERED or self._characters > MAX_REMEMBERED_CHARACTERS


def _size(said: Remembered) -> int:
    return sum(
        len(item.message.content) + sum(len(call.arguments) for call in item.message.tool_calls) for item in said.items
    )
