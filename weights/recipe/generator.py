"""Generates whole conversations: `sample(rng, split, level)`.

    python -m recipe.generator --seed 1 --split held_out     prints a few of every level

The same generator, split and level give the same conversations for the same seed. This file chooses which skills a
conversation shows and how often; it knows nothing about tokens.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from recipe import choices, memory, orders, skills, smalltalk, summary, tools
from recipe.layout import system_prompt
from recipe.phrases import expand
from recipe.sources import Pointer, Span, kind_of, unmarked
from recipe.talk import Case, Message, Talk
from recipe.values import Values
from recipe.words import Split, load
from recipe.world import SIZES, World, make_world

Skill = Callable[[Talk], bool]

Form = Literal["choices", "transcript", "tools", "plain"]
FORMS: dict[Form, float] = {"choices": 0.18, "transcript": 0.03, "tools": 0.19, "plain": 0.60}  # shares
SHOPLESS_SHARE = 0.04  # conversations without a shop
GREETING_SHARE = 0.2
TURNS = (6, 18)
WEIGHTS: dict[Skill, float] = {
    skills.fact: 34,
    skills.several: 12,
    skills.together: 6,
    skills.briefly: 7,
    skills.as_list: 5,
    skills.follow_up: 30,
    skills.repeat: 0.7,
    skills.unclear: 1.5,
    skills.unknown: 15,
    skills.plain_unknown: 5,
    skills.off_topic: 9,
    orders.order: 6,
    orders.order_without_number: 2.5,
    orders.order_follow_up: 4,
    orders.mention_order_number: 1,
    orders.recall_order_number: 2,
    memory.tell_something: 6,
    memory.recall: 7,
    smalltalk.thanks: 2,
    smalltalk.goodbye: 1.5,
    smalltalk.how_are_you: 1,
    smalltalk.who_are_you: 1.2,
    smalltalk.acknowledge: 1.2,
    smalltalk.compliment: 1.2,
    smalltalk.complaint: 2.5,
    smalltalk.nonsense: 1,
    smalltalk.human: 3,
    choices.choose: 5,
    summary.asked: 1.2,
}
# In training: more of what is learned last.
TRAINED = WEIGHTS | {
    skills.several: 18,
    skills.together: 10,
    skills.as_list: 8,
    skills.unknown: 19,
    skills.plain_unknown: 8,
    smalltalk.thanks: 2.5,
    smalltalk.who_are_you: 2.5,
    smalltalk.acknowledge: 2,
    smalltalk.compliment: 2,
    smalltalk.nonsense: 1.5,
}


@dataclass(frozen=True)
class Conversation:
    """A finished conversation and how to judge each of its assistant messages.

    `tools` are in OpenAI's form; the system message holds them already, as the chat template would write them.
    `pointers` tell where the replies are taken from, `lines` what the system prompt's lines are about.
    """

    messages: list[Message]
    cases: list[Case]
    world: World
    tools: list[dict[str, Any]] = field(default_factory=list)
    pointers: list[Pointer] = field(default_factory=list)
    lines: list[tuple[Span, str]] = field(default_factory=list)


def sample(
    rng: random.Random, split: Split, level: int, turns: int | None = None, form: Form | None = None
) -> Conversation:
    """One conversation of at least one turn, of any form unless one is named; the system message is absent where the
    prompt is empty."""
    values, drawn_form = Values(rng, split), some_form(rng)
    form = form or drawn_form
    if form == "choices":
        talk = Talk(values, World())
        choices.judge(talk, turns or rng.randint(4, 16))
        return finished(talk)
    if form == "transcript":
        return of_transcript(values, level, turns)
    world = World() if rng.random() < SHOPLESS_SHARE else make_world(values, level)
    drawn = tools.draw_tools(values, rng.randint(1, 3 + level)) if form == "tools" else []
    if drawn:
        world.orders.clear()  # they are looked up by a tool, or not at all
    talk = Talk(values, world)
    instruct(talk, drawn)
    converse(talk, drawn, turns or rng.randint(*TURNS))
    return finished(talk, drawn)


def some_form(rng: random.Random) -> Form:
    return rng.choices(list(FORMS), list(FORMS.values()))[0]


def finished(talk: Talk, drawn: Sequence[tools.Tool] = ()) -> Conversation:
    lines = [(span, kind_of(subject)) for subject, span in talk.places.items() if not span.message]
    schemas = [tool.schema for tool in drawn]
    return Conversation(talk.messages, talk.cases, talk.world, schemas, talk.pointers, lines if talk.has_shop else [])


def instruct(talk: Talk, drawn: Sequence[tools.Tool]) -> None:
    """Opens a talk with its system message, if it has one, and remembers where that states what."""
    prompt, marks = unmarked(system_prompt(talk.values, talk.world))
    if drawn:
        prompt += "\n\n" * bool(prompt) + tools.prompt_block(drawn)
    if not prompt:
        return
    talk.messages.append({"role": "system", "content": prompt})
    subjects = talk.world.subjects
    talk.places.update({subjects[number]: Span(0, *place) for number, place in marks.items()})
    for tool in drawn:
        start = prompt.index(f"\n{tool.line}") + 1
        talk.places["tool", tool.name] = Span(0, start, start + len(tool.line))
    if talk.world.shop:
        talk.place(("shop", ""), talk.world.shop)


def converse(talk: Talk, drawn: list[tools.Tool], wanted: int) -> None:
    """Exchanges until the talk has the wanted length, of tools half the time where there are any."""
    rng, weights = talk.rng, TRAINED if talk.split == "train" else WEIGHTS
    done = int(rng.random() < GREETING_SHARE and smalltalk.greeting(talk))
    while done < wanted:
        if drawn and rng.random() < 0.5:
            done += tools.use_tool(talk, drawn)
            continue
        skill = rng.choices(list(weights), list(weights.values()))[0]
        if drawn and skill.__module__ == orders.__name__:
            continue  # what a tool may do is not refused
        done += skill(talk)


def of_transcript(values: Values, level: int, turns: int | None) -> Conversation:
    """A talk that only its transcript shows, and the summary of it."""
    talk = Talk(values, make_world(values, min(level, 1)))
    converse(talk, [], min(turns or 6, values.rng.randint(2, 6)))
    system = expand(values.rng, values.rng.choice(load("summaries")["systems"][values.split]))
    messages, cases = summary.from_transcript(talk, system)
    return Conversation(messages, cases, talk.world)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=get_args(Split), default="train")
    parser.add_argument("--count", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    for level in range(len(SIZES)):
        for _ in range(options.count):
            conversation = sample(rng, options.split, level)
            print(f"===== level {level}")
            for message in conversation.messages:
                print(f"[{message['role']}] {message['content']}")


if __name__ == "__main__":
    main()
