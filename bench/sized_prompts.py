"""Prompts of about a wanted number of tokens, all different from their first words on, so that no prefix is shared."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from sse_client import Client

WORDS: Final = (
    "order parcel shipping express refund invoice window garden table lamp blue green small large open closed early "
    "late Monday Friday morning evening street station customer account password address email phone number return "
    "exchange damaged missing heavy light wooden metal price discount card cash gift present child school summer "
    "winter because before after during without please thanks could would should where when which whose again never"
)


_LIST: Final = WORDS.split()


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(_LIST) for _ in range(count))


@dataclass(frozen=True, slots=True)
class Prompts:
    """`base` tokens for the template and `per_word` for each word, as this model counts them."""

    base: float
    per_word: float

    def messages(self, rng: random.Random, tokens: int) -> list[dict[str, str]]:
        """Two messages: a system message of the caller keeps the server's own persona out."""
        count = max(2, round((tokens - self.base) / self.per_word))
        return [
            {"role": "system", "content": words(rng, min(6, count - 1))},
            {"role": "user", "content": words(rng, max(1, count - 6))},
        ]


async def calibrate(client: Client) -> Prompts:
    """Ask the server how many tokens two prompts of known length have. Raises RuntimeError when it does not answer."""
    rng, sizes, counts = random.Random(1), (20, 220), []
    for size in sizes:
        messages = [{"role": "system", "content": words(rng, 6)}, {"role": "user", "content": words(rng, size - 6)}]
        answer = await client.chat(messages, 4)
        if not answer.prompt_tokens:
            raise RuntimeError(f"no answer from {client.url}: {answer.error}")
        counts.append(answer.prompt_tokens)
    per_word = (counts[1] - counts[0]) / (sizes[1] - sizes[0])
    return Prompts(counts[0] - per_word * sizes[0], per_word)
