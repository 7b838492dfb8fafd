"""What a message costs: the tokens that it adds to a prompt, measured through the chat template and remembered.

A cost is the difference between two renderings of a small conversation, with and without the message. For templates
that write every message between control tokens these add up exactly; for others (shared frames around tool results, a
default system prompt) they are close, and who needs a true total renders it. Knows no window.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

from frontdesk.chat.template import ChatTemplate
from frontdesk.errors import InvalidRequest, TemplateFailed
from frontdesk.messages import Message, ToolCall

MAX_REMEMBERED: Final = 20_000  # costs: about 3 MB
_USER: Final = Message("user", "x")
_ASSISTANT: Final = Message("assistant", "x")


class Costs:
    """For one template. Safe to use from several threads; texts are remembered as digests only."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._known: OrderedDict[bytes, int] = OrderedDict()
        self._empty: dict[tuple[Message, ...], int | None] = {}  # the few conversations to measure in
        self._lock = threading.Lock()
        whole = self._rendered([_USER], add_generation_prompt=True)
        self.overhead = 0 if whole is None else max(0, whole - self.of(_USER))
        """Tokens of a prompt that no message is charged with: BOS, a default system prompt, the answer's opening."""

    def of(self, message: Message) -> int:
        """Tokens, at least 0; those of its text alone where the template refuses every conversation tried. Raises
        `InvalidRequest` for text that is not Unicode."""
        key = hashlib.blake2b(repr(message).encode(errors="surrogatepass"), digest_size=16).digest()
        with self._lock:
            if (cost := self._known.get(key)) is not None:
                self._known.move_to_end(key)
                return cost
        cost = self._measured(message)
        with self._lock:
            self._known[key] = cost
            if len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        return cost

    def _measured(self, message: Message) -> int:
        for before, after in _surroundings(message):
            whole = self._rendered([*before, message, *after])
            if whole is not None and (rest := self._without(before, after)) is not None:
                cost = whole - rest
                if message.role in ("system", "developer"):  # it may have taken the place of the template's own
                    return max(cost, self._template.count(message.content))
                return max(0, cost)
        return self._template.count(message.content)

    def _without(self, before: list[Message], after: list[Message]) -> int | None:
        rest = (*before, *after)
        if any(message.tool_calls for message in rest):  # with an id of its own: not worth remembering
            return self._rendered(rest)
        if rest not in self._empty:
            self._empty[rest] = self._rendered(rest)
        return self._empty[rest]

    def _rendered(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> int | None:
        try:
            return len(self._template.render(messages, add_generation_prompt=add_generation_prompt))
        except (InvalidRequest, TemplateFailed):
            return None


def _surroundings(message: Message) -> Iterator[tuple[list[Message], list[Message]]]:
    """Conversations to measure in, best first. Some templates demand that user and assistant take turns, some treat
    the last message in another way, and some fail without any message."""
    match message.role:
        case "user":
            yield [_USER], []
            yield [_USER, _ASSISTANT], []
            yield [], []
        case "assistant":
            yield [_USER], [_USER]
            yield [_USER], []
        case "tool":
            call = Message("assistant", "", tool_calls=(ToolCall(message.tool_call_id or "", "f", "{}"),))
            yield [_USER, call], [_USER]
            yield [_USER, call], []
        case _:
            yield [], [_USER]
