"""Items of a conversation as the model is to see them: which belong together, and the messages that they make.

A turn is a user message and all up to the next one; what comes before the first user message is a turn of its own, so
once anything was dropped a history begins with a user message. Turns that a tool call and its result hold together are
one. The calls of one answer become one message, as the model wrote them, and reasoning is taken out of what the
assistant said. Models without a system role get instructions as the user's. Knows no tokens, no template and no store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from frontdesk.messages import Item, Message

OPEN, CLOSE = "<think>", "</think>"


def number_turns(messages: Sequence[Message]) -> list[int]:
    """The turn of each message, from 0, never falling."""
    turns: list[int] = []
    for message in messages:
        begins = message.role == "user" and bool(turns)
        turns.append((turns[-1] if turns else 0) + begins)
    joined = [0] * (len(messages) + 2)  # how many calls reach over the beginning of a turn, as differences
    for call, result in _pairs(messages):
        joined[turns[call] + 1] += 1
        joined[turns[result] + 1] -= 1
    numbers, open_calls = [], 0
    for turn in range(turns[-1] + 1 if turns else 0):
        open_calls += joined[turn]
        begins = turn > 0 and open_calls == 0
        numbers.append((numbers[-1] if numbers else 0) + begins)
    return [numbers[turn] for turn in turns]


def with_partners(items: Sequence[Item], ids: Collection[str]) -> frozenset[str]:
    """Those of `ids` that are there, and with each tool call its results, with each result its call."""
    found = {item.id for item in items if item.id in ids}
    pairs = list(_pairs([item.message for item in items])) if found else []
    calls = {call for call, result in pairs if items[call].id in found or items[result].id in found}
    for call, result in pairs:
        if call in calls:
            found |= {items[call].id, items[result].id}
    return frozenset(found)


def messages_of(items: Sequence[Item]) -> list[Message]:
    """The messages to render: a tool call directly after something that the assistant said is part of the same one."""
    messages: list[Message] = []
    for item in items:
        if messages and (whole := joined(messages[-1], item)):
            messages[-1] = whole
        else:
            messages.append(for_model(item.message))
    return messages


def joined(message: Message, item: Item) -> Message | None:
    """`message` with the tool call of the item that follows it, or None when the item is a message of its own."""
    if item.kind != "function_call" or message.role != "assistant":
        return None
    return replace(message, tool_calls=message.tool_calls + item.message.tool_calls)


def without_system_role(messages: Sequence[Message]) -> list[Message] | None:
    """`messages` with the system message that they begin with put in front of the first user message, a blank line
    between them; without any user message it becomes one. None when they begin otherwise, or there is another."""
    if [i for i, message in enumerate(messages) if message.role in ("system", "developer")] != [0]:
        return None
    system, *others = messages
    for i, message in enumerate(others):
        if message.role == "user":
            others[i] = replace(message, content=f"{system.content}\n\n{message.content}")
            return others
    return [Message("user", system.content), *others]


def for_model(message: Message) -> Message:
    """The message without reasoning, if it is the assistant's."""
    if message.role != "assistant" or (CLOSE not in message.content and OPEN not in message.content):
        return message
    return replace(message, content=without_reasoning(message.content))


def without_reasoning(text: str) -> str:
    """`text` without its `<think>…</think>`: also without what stands before a `</think>` that nothing opened (the
    template had opened it), and without a reasoning that was cut off before its end."""
    at = 0
    first = text.find(CLOSE)
    if first >= 0 and OPEN not in text[:first]:
        at = _after(text, first)
    kept: list[str] = []
    while (begin := text.find(OPEN, at)) >= 0:
        end = text.find(CLOSE, begin)
        if end < 0:
            if not kept and not text[at:begin].strip():
                return ""
            break
        kept.append(text[at:begin])
        at = _after(text, end)
    return "".join([*kept, text[at:]])


def _after(text: str, tag: int) -> int:
    """Where the text goes on behind a closing tag and the space that follows it."""
    at = tag + len(CLOSE)
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _pairs(messages: Sequence[Message]) -> Iterator[tuple[int, int]]:
    """Indices of each tool result and of the last call before it that has its id."""
    calls: dict[str, int] = {}
    for i, message in enumerate(messages):
        if message.role == "tool" and message.tool_call_id in calls:
            yield calls[message.tool_call_id], i
        calls |= {call.id: i for call in message.tool_calls}
