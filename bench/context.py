"""What fitting a long conversation into the window costs, and how much of each prompt the KV cache already has.

    python bench/context.py

Two tables. CPU time of one fit: the first (every message is measured) and a later one (costs are known). Prefix: a
conversation that grows turn by turn; the share of all prompt tokens with which the prompt before began too, so that the
engine need not read them again, for leaving in coarse steps and for leaving one turn at a time. No engine runs: its own
count (`cached_tokens`) is part of the acceptance tests.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from time import process_time

from report import show

from frontdesk.bench.figures import spread
from frontdesk.chat.context import Policy
from frontdesk.chat.fitting import ContextManager, Fitted
from frontdesk.chat.prompts import load_personas
from frontdesk.chat.template import ChatTemplate
from frontdesk.config import prompts_folder, weights_folder
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.tokenizer import open_tokenizer
from frontdesk.messages import Item, Message

RESERVE = 512
QUESTIONS = (
    "How much is the {0}, and is it in stock?",
    "My name is Ann. Could you tell me how long I have to send the {0} back if it does not fit?",
    "Do you ship the {0} to Norway?",
    "And by express?",
    "I bought a {0} last week, number {1}, and one of the handles is loose. What can I do about it?",
)
ANSWERS = (
    "The {0} costs $88.00 and is in stock.",
    "You can return the {0} within 40 days, and return shipping is free. Is there anything else?",
    "I am sorry to hear that. The warranty is 12 years: please send a photo of order {1} to help@larkfield.example.",
    "Express takes 1 to 2 business days and costs $12.90.",
)
THINGS = ("Copper Skillet", "Stovetop Kettle", "Stand Mixer", "Bread Knife")


@dataclass(frozen=True, slots=True)
class Growth:
    """`share` is that of all prompt tokens which were a prefix of the prompt before; `drops` counts the prompts that
    did not begin with the whole one before them."""

    policy: str
    turns: int
    prompt_tokens: int
    share: float
    drops: int
    largest: int


def conversation(turns: int, rng: random.Random) -> list[Item]:
    """Question, answer, question, …"""
    items: list[Item] = []
    for i in range(turns):
        words = (rng.choice(THINGS), rng.randrange(1000, 9999))
        items.append(Item(f"q{i}", "message", Message("user", rng.choice(QUESTIONS).format(*words))))
        items.append(Item(f"a{i}", "message", Message("assistant", rng.choice(ANSWERS).format(*words))))
    return items


class Fitting:
    """Fits conversations of the shipped model with its own persona."""

    def __init__(self, model: Path, window: int) -> None:
        self._template = ChatTemplate(str(read_metadata(model)["tokenizer.chat_template"]), open_tokenizer(model))
        self._system = [Message("system", load_personas(prompts_folder())["demo_shop"].text)]
        self._window = window
        self.manager = ContextManager(self._template)

    def forget(self) -> None:
        self.manager = ContextManager(self._template)

    def fit(self, items: list[Item], policy: Policy) -> Fitted:
        return self.manager.fit(
            system=self._system, items=items[:-1], input=items[-1:], window=self._window, max_tokens=None,
            reserve=RESERVE, policy=policy,
        )  # fmt: skip


def times(fitting: Fitting, items: list[Item], repeat: int) -> tuple[list[float], list[float]]:
    """Milliseconds of CPU time of first and of later fits."""
    first, later = [], []
    for _ in range(repeat):
        fitting.forget()
        for found in (first, later, later, later):
            began = process_time()
            fitting.fit(items, Policy())
            found.append(1000 * (process_time() - began))
    return first, later


def growth(fitting: Fitting, items: list[Item], name: str, policy: Policy) -> Growth:
    total = reused = drops = largest = 0
    before: tuple[int, ...] = ()
    for end in range(1, len(items), 2):
        prompt = fitting.fit(items[:end], policy).tokens
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, prompt, strict=False)))
        total += len(prompt)
        reused += shared
        drops += shared < len(before)
        largest = max(largest, len(prompt))
        before = prompt
    return Growth(name, len(items) // 2, total, reused / total, drops, largest)


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost and prefix stability of fitting a conversation.")
    parser.add_argument("--model", type=Path, default=weights_folder() / "frontdesk-small-q8_0.gguf")
    parser.add_argument("--window", type=int, default=4096)
    parser.add_argument("--turns", type=int, default=200, help="of the timed conversation; twice as many grow")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the JSON here")
    options = parser.parse_args()
    fitting, rng = Fitting(options.model, options.window), random.Random(1)
    first, later = times(fitting, conversation(options.turns, rng), options.repeat)
    row = {"turns": options.turns, "first fit, CPU ms": spread(first), "later fits, CPU ms": spread(later)}
    show(f"Fitting into {options.window} tokens", [row], {"first_ms": first, "later_ms": later}, options.json)
    grown = conversation(2 * options.turns, rng)
    policies = {"coarse steps (low water 0.5)": Policy(), "one turn at a time": Policy(low_water=1.0)}
    found = [growth(fitting, grown, name, policy) for name, policy in policies.items()]
    rows = [
        {
            "what leaves": each.policy,
            "turns": each.turns,
            "prompt tokens": each.prompt_tokens,
            "prefix of the prompt before": f"{each.share:.1%}",
            "drops": each.drops,
            "largest prompt": each.largest,
        }
        for each in found
    ]
    out = options.json.with_suffix(".growth.json") if options.json else None
    show("A growing conversation", rows, [asdict(each) for each in found], out)


if __name__ == "__main__":
    main()
