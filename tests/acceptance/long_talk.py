"""One customer who talks for 200 turns: what `test_long_conversation` and `bench/long_conversation.py` have in common.

Prompts are counted a second time from nothing but the ids that each response says it kept: the conversation's items,
the file's own chat template in plain Jinja, and llama.cpp's tokenizer. Knows none of the product's fitting.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import jinja2
from tests.acceptance.asking import MODEL, QUESTIONS, said
from tests.acceptance.books import SHIPPED
from tests.conftest import ROOT

from frontdesk.chat.prompts import load_personas
from frontdesk.fleet.gguf import read_metadata
from frontdesk.llamacpp.vocab import Vocab

NAME = "Rosa"
GREETING = (said(f"Hello, my name is {NAME}."), said(f"Nice to meet you, {NAME}! How can I help?", "assistant"))
SYSTEM = load_personas(ROOT / "prompts")["demo_shop"].text  # what the shipped model gets unless a caller says otherwise
OPENING = "9:30"  # a fact of it
ANSWER = 16  # tokens of an answer, at most
CHATTER = (
    "Thanks, that helps.",
    "I was talking about it with my neighbour yesterday.",
    "My sister bought a pan from you last year and she still uses it.",
    "It is raining here today, so I have time to write.",
    "I cook for four people, sometimes for six on Sundays.",
    "Sorry, I have another question.",
    "The parcel would go to my office, where somebody is always at the desk.",
    "I looked at your page but could not find it.",
)


@dataclass(frozen=True, slots=True)
class Spoken:
    """One turn. Counts are tokens; `kept` are ids of the items that were sent, oldest first, without the summary."""

    prompt: int
    cached: int
    window: int
    reserve: int
    text: str
    kept: tuple[str, ...]
    dropped: int
    summarised: int
    parts: dict[str, int]
    seconds: float  # from the request to the whole answer

    @property
    def left(self) -> int:
        """Items that are not sent any more as they were."""
        return self.dropped + self.summarised

    @property
    def limit(self) -> int:
        return self.window - self.reserve


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation and its turns, in order; `recalled` are those that asked for the name, the last one at the end."""

    conversation: str
    pinned: tuple[str, ...]
    turns: list[Spoken] = field(default_factory=list)
    recalled: list[Spoken] = field(default_factory=list)


def share_cached(turns: Sequence[Spoken]) -> float:
    """Average over the turns of the share of prompt tokens that came from the KV cache."""
    return statistics.mean(turn.cached / turn.prompt for turn in turns)


def line(number: int) -> str:
    """What the customer says in a turn: none to four sentences of chatter and a question."""
    rng = random.Random(number)
    chatter = rng.sample(CHATTER, k=rng.randint(0, 4))
    return " ".join([*chatter, QUESTIONS[number % len(QUESTIONS)]])


async def talk(
    client: Any, turns: int, on_turn: Callable[[], None] = lambda: None, ask_every: int | None = None, **options: Any
) -> Talk:
    """Talk in one stored conversation whose first two lines, with the customer's name, are pinned.

    The name is asked for beside the conversation (the turn is not stored) after every drop and at the end, or after
    every `ask_every` turns; the last turn asks for the opening hours. `options` are more of the conversation's context.
    """
    made = await client.conversations.create(items=GREETING)
    pinned = [item.id async for item in client.conversations.items.list(made.id, order="asc")]
    await client.conversations.update(made.id, metadata={}, extra_body={"context": {"pinned": pinned} | options})
    found = Talk(made.id, tuple(pinned))
    for number in range(turns):
        before = found.turns[-1].left if found.turns else 0
        found.turns.append(await _turn(client, made.id, _question(number, turns)))
        dropped = found.turns[-1].left > before
        if dropped if ask_every is None else number % ask_every == 0:
            found.recalled.append(await _turn(client, made.id, "What is my name?", store=False))
        on_turn()
    found.recalled.append(await _turn(client, made.id, "What is my name?", store=False))
    return found


def _question(number: int, turns: int) -> str:
    return "When are you open?" if number == turns - 1 else line(number)


async def _turn(client: Any, conversation: str, text: str, *, store: bool = True) -> Spoken:
    asked = perf_counter()
    response = await client.responses.create(
        model=MODEL, conversation=conversation, input=text, store=store, max_output_tokens=ANSWER, temperature=0
    )
    seconds = perf_counter() - asked
    context, usage = response.context, response.usage
    return Spoken(
        prompt=usage.input_tokens,
        cached=usage.input_tokens_details.cached_tokens,
        window=context["window"],
        reserve=context["reserve"],
        text=response.output_text,
        kept=tuple(context["kept"]),
        dropped=len(context["dropped"]),
        summarised=len(context["summarised"]),
        parts=context["parts"],
        seconds=seconds,
    )


async def naive(client: Any, turns: int, window: int, on_turn: Callable[[], None] = lambda: None) -> list[Spoken]:
    """The baseline: a client that keeps the conversation itself, sends all of it every time and takes away one oldest
    turn whenever it does not fit. The system prompt and the name stay, as with pins."""
    count = Counter()
    head = [{"role": "system", "content": SYSTEM}, *GREETING]
    history: list[dict[str, str]] = []
    spoken: list[Spoken] = []
    for number in range(turns):
        history.append({"role": "user", "content": _question(number, turns)})
        while count([*head, *history]) > window - ANSWER:
            del history[:2]
        asked = perf_counter()
        response = await client.responses.create(
            model=MODEL, input=[*head, *history], store=False, max_output_tokens=ANSWER, temperature=0
        )
        seconds = perf_counter() - asked
        history.append({"role": "assistant", "content": response.output_text})
        cached = response.usage.input_tokens_details.cached_tokens
        text, prompt = response.output_text, response.usage.input_tokens
        spoken.append(Spoken(prompt, cached, window, ANSWER, text, (), 0, 0, {}, seconds))
        on_turn()
    return spoken


class Counter:
    """Tokens of a prompt by llama.cpp and the file's own template."""

    def __init__(self, model: Path = SHIPPED) -> None:
        metadata = read_metadata(model)
        self._vocab = Vocab(model)
        source = metadata["tokenizer.chat_template"]
        assert isinstance(source, str)
        self._template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(source)

    def __call__(self, messages: Sequence[dict[str, str]]) -> int:
        text = self._template.render(messages=messages, add_generation_prompt=True, bos_token="", eos_token="")
        return len(self._vocab.tokenize(text, parse_special=True))


async def recounted(client: Any, talk: Talk) -> list[int]:
    """The prompt of each turn, counted again from the items that it kept. Not for turns with a summary."""
    count, texts = Counter(), {}
    async for item in client.conversations.items.list(talk.conversation, order="asc", limit=100):
        texts[item.id] = {"role": item.role, "content": item.content[0].text}
    system = {"role": "system", "content": SYSTEM}
    return [count([system, *(texts[id] for id in turn.kept)]) for turn in talk.turns]
