"""Generates whole conversations: `sample(rng, split, level)`.

    python -m recipe.generator --seed 1 --split held_out     prints a few of every level

The same generator, split and level give the same conversations for the same seed. This file chooses which skills a
conversation shows and how often; it knows nothing about tokens.
"""

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from recipe import orders, skills, smalltalk
from recipe.layout import system_prompt
from recipe.talk import Case, Message, Talk
from recipe.values import Values
from recipe.words import Split
from recipe.world import SIZES, World, make_world

Skill = Callable[[Talk], bool]

PLAIN_SHARE = 0.05  # conversations without a shop
GREETING_SHARE = 0.15
TURNS = (2, 8)
WEIGHTS: dict[Skill, float] = {
    skills.fact: 34,
    skills.two_facts: 7,
    skills.briefly: 4,
    skills.as_list: 2,
    skills.unknown: 11,
    skills.plain_unknown: 5,
    skills.off_topic: 5,
    orders.order: 10,
    orders.order_without_number: 4,
    orders.order_follow_up: 4,
    orders.mention_order_number: 1.5,
    orders.recall_order_number: 3,
    smalltalk.thanks: 2,
    smalltalk.goodbye: 1,
    smalltalk.how_are_you: 1,
    smalltalk.who_are_you: 1.5,
    smalltalk.human: 2,
    smalltalk.give_name: 4,
    smalltalk.recall_name: 3.5,
}


@dataclass(frozen=True)
class Conversation:
    """A finished conversation and how to judge each of its assistant messages."""

    messages: list[Message]
    cases: list[Case]
    world: World


def sample(rng: random.Random, split: Split, level: int, turns: int | None = None) -> Conversation:
    """One conversation of at least one turn; the system message is absent where the prompt is empty."""
    values = Values(rng, split)
    world = World() if rng.random() < PLAIN_SHARE else make_world(values, level)
    talk = Talk(values, world)
    prompt = system_prompt(values, world)
    if prompt:
        talk.messages.append({"role": "system", "content": prompt})
    wanted = turns or rng.randint(*TURNS)
    done = int(rng.random() < GREETING_SHARE and smalltalk.greeting(talk))
    while done < wanted:
        skill = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        done += skill(talk)
    return Conversation(talk.messages, talk.cases, world)


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
