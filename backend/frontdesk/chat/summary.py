"""The rolling summary: what the model is asked when turns have left a conversation, and the item made of its answer.

What left is summed up once, oldest first and a few turns at a time: a small model loses names and begins to repeat
itself when it is given more. The new sentences are put behind the old summary, each but once. Only when that grows too
long is it condensed itself, together with what left since. Pinned items are never summed up, as they are sent
verbatim; when one is pinned that the summary stands for, the summary is made anew. Pure: who asks the model, and when
there is time for it, is the service's business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from frontdesk.chat.cutting import MARK, cut_to_fit
from frontdesk.chat.turns import number_turns, with_partners, without_reasoning
from frontdesk.generation import GenerationRequest, Sampling
from frontdesk.messages import Item, Message, item_id
from frontdesk.store.summaries import each_once

HEAD: Final = "Summary of the conversation so far: "
OLD: Final = "Summary so far: "
MOST_TOKENS: Final = 768  # of a summary; at most a quarter of the window
ANSWER_TOKENS: Final = 128  # of what is written at once; at most an eighth of the window
BATCH_TOKENS: Final = 128  # of what is summed up at once, unless one turn is longer
MOST_CHARACTERS: Final = 1_000_000  # that are counted; more fit no window, and the template refuses still more


Count = Callable[[Sequence[Message]], int]


@dataclass(frozen=True, slots=True)
class SummaryTask:
    """What to ask the model. `covers` are all items that the summary will stand for, `before` is the text of the old
    one that stays in front of the answer."""

    request: GenerationRequest
    covers: tuple[str, ...]
    before: str = ""


def summary_task(
    items: Sequence[Item],
    left: Collection[str],
    *,
    persona: str,
    old: Item | None,
    pinned: Collection[str],
    window: int,
    count: Count,
    model: str | None = None,
) -> SummaryTask | None:
    """The next thing to sum up, or None when the old summary stands for all that left.

    `items` is the conversation, oldest first; `left` are ids that are not sent any more (a report's `dropped`), or all
    ids to compact a whole conversation; `count` gives the tokens of rendered messages. One task takes a few turns: call
    again with the new summary as `old` until there is None. None too when not even one message can be made to fit.
    """

    def tokens(messages: Sequence[Message]) -> int:
        characters = sum(len(message.content) for message in messages)
        return count(messages) if characters <= MOST_CHARACTERS else window + characters

    pinned = with_partners(items, pinned)
    if old is not None and not pinned.isdisjoint(old.covers):
        left, old = {*left, *old.covers}, None
    known = old.covers if old else ()
    wanted = frozenset(left) - pinned - frozenset(known)
    leaving = [item for item in items if item.id in wanted and item.kind != "summary"]
    answer = answer_room(window)
    text = old.message.content if old else ""
    condense = old is not None and tokens([summary_message(old)]) + answer > summary_room(window)
    head = f"{OLD}{text}\n" if condense else ""

    def asked(transcribed: str) -> tuple[Message, ...]:
        return Message("system", persona), Message("user", head + transcribed)

    def size(transcribed: str) -> int:
        return tokens(asked(transcribed))

    def most(ends: Sequence[int], limit: int) -> int:
        return sum(1 for _ in takewhile(lambda n: size(transcript(leaving[:n])) <= limit, ends))

    limit = window - answer
    turns = _ends(leaving)
    if fitting := most(turns, min(limit, size("") + BATCH_TOKENS)) or most(turns[:1], limit):
        taken = turns[fitting - 1]
    else:  # not even one turn: as many of its messages as there is room for
        taken = most(range(1, len(leaving) + 1), limit)
    if taken:
        messages = asked(transcript(leaving[:taken]))
    elif leaving and (cut := cut_to_fit(transcript(leaving[:1]), size, limit)):
        taken, messages = 1, asked(cut)
    else:
        return None
    request = GenerationRequest(
        model=model, messages=messages, sampling=Sampling(temperature=0.0), max_tokens=answer, persona=False
    )
    covers = (*known, *(item.id for item in leaving[:taken]))
    return SummaryTask(request, covers, "" if condense else text)


def summary_item(task: SummaryTask, answer: str, created: int) -> Item | None:
    """The conversation's new summary, from what the model wrote; None when it wrote nothing. `created` is in seconds
    since 1970."""
    written = without_reasoning(answer).strip()
    if not written:
        return None
    text = each_once(f"{task.before} {written}")
    return Item(item_id("summary"), "summary", Message("system", text), created=created, covers=task.covers)


def smallest_question(persona: str) -> tuple[Message, ...]:
    """The least that the model is ever asked: about a message of which all but the mark is cut out."""
    return Message("system", persona), Message("user", MARK)


def answer_room(window: int) -> int:
    """Tokens that the answer to one question may take."""
    return max(1, min(ANSWER_TOKENS, window // 8))


def summary_room(window: int) -> int:
    """Tokens that a summary may come to take in a prompt. Kept free from the beginning: what is sent of the history
    then does not depend on how long the summary is by now."""
    return min(MOST_TOKENS, window // 4)


def summary_message(item: Item) -> Message:
    """How a summary stands in a prompt."""
    return replace(item.message, content=HEAD + item.message.content)


def transcript(items: Sequence[Item]) -> str:
    """One line for each message, as the persona `summary` knows them."""
    return "\n".join(_line(item.message) for item in items)


def _line(message: Message) -> str:
    match message.role:
        case "user":
            return f"Customer: {message.content}"
        case "assistant":
            calls = [f"{call.name}({call.arguments})" for call in message.tool_calls]
            return f"Assistant: {' '.join(filter(None, [without_reasoning(message.content), *calls]))}"
        case "tool":
            return f"Tool: {message.content}"
    return f"Note: {message.content}"


def _ends(items: Sequence[Item]) -> list[int]:
    """After how many items each turn ends."""
    turns = number_turns([item.message for item in items])
    return [i + 1 for i in range(len(items)) if turns[i + 1 : i + 2] != turns[i : i + 1]]
