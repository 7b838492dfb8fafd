"""Judges a GGUF file as users meet it: served by Frontdesk, asked by the `openai` client, greedy.

    python -m recipe.evaluate                              held-out conversations of the generator, accuracy by skill
    python -m recipe.evaluate --file build/model-q8_0.gguf --conversations 300 --show
    python -m recipe.evaluate --handwritten ponds          a shop and messages written by hand, data/handwritten_*.toml
    python -m recipe.evaluate --demo                       questions about the demo shop, data/demo.toml

Generated: conversations of 1 to 8 turns with phrasings, shops, products and numbers that training never saw. Every
reply is given the right history, so that one wrong answer spoils no other. A reply is right if it holds the values
and signs that its case names (tool calls and letters must be exact); wording is not judged.
Hand-written: the model's own earlier answers are the history, and every transcript is printed.
"""

import argparse
import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI
from tqdm import tqdm

from frontdesk.chat.prompts import load_personas
from recipe import paths
from recipe.generator import sample
from recipe.phrases import signs
from recipe.serving import served
from recipe.talk import Case, Message
from recipe.words import load
from recipe.world import SIZES

TURNS = (1, 8)
LONGEST_REPLY = 400  # tokens
SHOPS = ("bicycles", "ponds")  # of the messages written by hand
AT_ONCE = 8
ANSWERABLE = {"fact", "several questions", "style", "follow-up"}  # where an abstention is a false one


@dataclass
class Result:
    """One judged reply."""

    case: Case
    level: int
    history: list[Message]
    wanted: str
    reply: str = ""

    @property
    def right(self) -> bool:
        return self.case.holds(self.reply)

    @property
    def abstains(self) -> bool:
        """Whether the reply says that it does not know, where an answer was to be had."""
        wants_it = any(sign in self.wanted for sign in signs("unknown"))
        return not wants_it and any(sign in self.reply for sign in (*signs("unknown"), *signs("off_topic")))


def cases(conversations: int, seed: int, split: str = "held_out") -> Iterator[Result]:
    """The judged replies of so many conversations of each level."""
    for level in range(len(SIZES)):
        rng = random.Random(seed + level)
        for _ in range(conversations):
            conversation = sample(rng, split, level, rng.randint(*TURNS))
            for case in conversation.cases:
                history = conversation.messages[: case.index]
                yield Result(case, level, history, conversation.messages[case.index]["content"])


def for_api(messages: list[Message]) -> list[dict[str, Any]]:
    """Messages as OpenAI's API has them: calls as `tool_calls`, results with the id of their call."""
    sent: list[dict[str, Any]] = []
    for message in messages:
        if call := message.get("call"):
            tool_call = {"id": f"call_{len(sent)}", "type": "function", "function": call}
            sent.append({"role": "assistant", "content": None, "tool_calls": [tool_call]})
        elif message["role"] == "tool":
            sent.append({"role": "tool", "content": message["content"], "tool_call_id": f"call_{len(sent) - 1}"})
        else:
            sent.append({"role": message["role"], "content": message["content"]})
    return sent


async def reply(client: AsyncOpenAI, model: str, messages: list[Message]) -> str:
    done = await client.chat.completions.create(
        model=model, messages=for_api(messages), temperature=0, max_tokens=LONGEST_REPLY
    )
    return done.choices[0].message.content or ""


async def ask_all(client: AsyncOpenAI, model: str, results: list[Result]) -> None:
    with tqdm(total=len(results), desc="asking", mininterval=2) as bar:
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(result: Result) -> None:
            async with gate:
                result.reply = await reply(client, model, result.history)
                bar.update()

        await asyncio.gather(*(ask(result) for result in results))


def cell(results: list[Result]) -> str:
    right = sum(result.right for result in results)
    return f"{right}/{len(results)} ({right / len(results):.1%})" if results else ""


def table(results: list[Result]) -> str:
    """A Markdown table: a row for each skill, a column for each level and one for all."""
    by_skill: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_skill[result.case.skill].append(result)
    heads = ["short", "usual", "large", "long"]
    lines = ["| skill | all | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    for skill, group in [*sorted(by_skill.items()), ("**all**", results)]:
        levels = [cell([result for result in group if result.level == level]) for level in range(len(heads))]
        lines.append(f"| {skill} | {cell(group)} | " + " | ".join(levels) + " |")
    answerable = [result for result in results if result.case.skill in ANSWERABLE]
    false = sum(result.abstains for result in answerable)
    lines.append(
        f"\nFalse abstentions: {false} of {len(answerable)} answerable questions ({false / len(answerable):.1%})."
    )
    return "\n".join(lines)


async def generated(client: AsyncOpenAI, model: str, options: argparse.Namespace) -> None:
    results = list(cases(options.conversations, options.seed, options.split))
    await ask_all(client, model, results)
    if options.show:
        for result in results:
            if not result.right:
                asked = result.history[-1]["content"]
                print(
                    f"[{result.case.skill} {result.level}] {asked!r}\n   got {result.reply!r}\n   for {result.wanted!r}"
                )
    print(table(results))
    if options.json:
        rows = [{"skill": r.case.skill, "level": r.level, "right": r.right} for r in results]
        options.json.write_text(json.dumps(rows))


def acceptable(case: dict[str, Any], text: str) -> bool:
    lower = text.lower()
    has_all = all(any(part.lower() in lower for part in parts) for parts in case["all"])
    return has_all and not any(part.lower() in lower for part in case.get("none", ()))


async def handwritten(client: AsyncOpenAI, model: str, shop: str) -> None:
    """Every case as a transcript in Markdown, then the count."""
    data, right = load(f"handwritten_{shop}"), 0
    for number, case in enumerate(data["case"], 1):
        messages: list[Message] = [{"role": "system", "content": data["system"].strip()}]
        for turn in case["turns"]:
            messages.append({"role": "user", "content": turn})
            messages.append({"role": "assistant", "content": await reply(client, model, messages)})
        good = acceptable(case, messages[-1]["content"])
        right += good
        print(f"\n**{number}. {'acceptable' if good else 'FAILED'}** ({case['about']})\n")
        for message in messages[1:]:
            lines = message["content"].replace("\n", "\n> ")
            print(f"> {'customer' if message['role'] == 'user' else '**reply**'}: {lines}  ")
    print(f"\n{right} of {len(data['case'])} acceptable ({right / len(data['case']):.0%})")


async def demo(client: AsyncOpenAI, model: str) -> None:
    """Every question and answer as a row of a Markdown table, then the count."""
    system = load_personas(paths.PROMPTS)["demo_shop"].text
    questions, right = load("demo")["question"], 0
    print("| | question | answer |\n|---|---|---|")
    for question in questions:
        asked: list[Message] = [{"role": "user", "content": question["ask"]}]
        text = await reply(client, model, [{"role": "system", "content": system}, *asked])
        good = any(all(part.lower() in text.lower() for part in parts) for parts in question["any"])
        right += good
        print(f"| {'right' if good else '**wrong**'} | {question['ask']} | {' '.join(text.split())} |")
    print(f"\n{right} of {len(questions)} right")


async def run(options: argparse.Namespace) -> None:
    with served(options.file) as url:
        client = AsyncOpenAI(base_url=url + "/v1", api_key="none", timeout=300)
        model = (await client.models.list()).data[0].id
        if options.handwritten:
            await handwritten(client, model, options.handwritten)
        elif options.demo:
            await demo(client, model)
        else:
            await generated(client, model, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=paths.shipped("q8_0"))
    parser.add_argument("--handwritten", choices=SHOPS, help="a hand-written shop instead")
    parser.add_argument("--demo", action="store_true", help="questions about the demo shop instead")
    parser.add_argument("--split", choices=("train", "held_out"), default="held_out")
    parser.add_argument("--conversations", type=int, default=100, help="of each of the four levels")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--show", action="store_true", help="print the wrong replies")
    parser.add_argument("--json", type=Path, help="where to write skill and outcome of every case")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
