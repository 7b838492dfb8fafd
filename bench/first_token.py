"""How soon a new conversation with the server's own persona gets its first token, and how fast it then streams alone.

    python bench/first_token.py --url http://127.0.0.1:8000 --count 100

Each conversation is one question without a system message, so the server puts the model's persona before it. The very
first one computes the persona's prompt; the others find it in the KV cache. The replies go on for `--new-tokens`, past
their own end, so that the speed is that of a stream and not of a short answer.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from pathlib import Path

from report import show

from frontdesk.bench.client import Target
from frontdesk.bench.figures import percentile, spread

QUESTIONS = (
    "When are you open?",
    "Do you ship with express?",
    "hi, how long can i return a pan",
    "What does the {} kettle cost?",
    "My name is visitor {}. Where are you?",
    "Is order {} on its way?",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One conversation: milliseconds to the first token, and tokens/s after it."""

    prompt_tokens: int
    cached_tokens: int
    first: float
    speed: float


async def ask(client: Target, number: int, new_tokens: int) -> Asked:
    question = QUESTIONS[number % len(QUESTIONS)].format(number)
    answer = await client.chat([{"role": "user", "content": question}], new_tokens)
    if answer.error:
        raise SystemExit(answer.error)
    speed = (answer.tokens - 1) / (answer.last - answer.first)
    return Asked(answer.prompt_tokens, answer.cached_tokens, answer.ttft * 1000, speed)


async def measure(client: Target, count: int, new_tokens: int) -> list[Asked]:
    return [await ask(client, number, new_tokens) for number in range(count)]


def row(name: str, asked: list[Asked]) -> dict[str, object]:
    first = [each.first for each in asked]
    return {
        "conversations": f"{name}, {len(asked)}",
        "prompt tokens": spread([each.prompt_tokens for each in asked], 0),
        "of it cached": spread([each.cached_tokens for each in asked], 0),
        "first token ms": spread(first),
        "P95": f"{percentile(first, 95):.1f}",
        "tokens/s alone": spread([each.speed for each in asked], 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the first token of new conversations on a running server.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", help="unset: the server's default")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--json", type=Path, help="write the JSON here")
    options = parser.parse_args()
    asked = asyncio.run(measure(Target(options.url, options.model), max(2, options.count), options.new_tokens))
    rows = [row("the first", asked[:1]), row("later ones", asked[1:])]
    show("New conversations, one after the other", rows, rows, options.json)


if __name__ == "__main__":
    main()
