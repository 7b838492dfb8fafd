"""Prompts of about a wanted number of tokens, all different from their first words on, so that no prefix is shared."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

_LIST: Final = (
    "order parcel shipping express refund invoice window garden table lamp blue green small large open closed early "
    "late Monday Friday morning evening street station customer account password address email phone number return "
    "exchange damaged missing heavy light wooden metal price discount card cash gift present child school summer "
    "winter because before after during without please thanks could would should where when which whose again never"
)
WORDS: Final = _LIST.split()
LETTERS: Final = "abcdefghiklmnoprstuvwy"
OPENING: Final = 6  # words of a system message that only keeps the server's own persona out
SAMPLES: Final = (20, 100)  # words of the two prompts that tell how long a word is; small contexts hold them too


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def unlike_words(rng: random.Random, count: int) -> str:
    """Groups of letters that hardly ever come twice, so that a part of such a text stands at only one place of it."""
    return " ".join("".join(rng.choice(LETTERS) for _ in range(7)) for _ in range(count))


@dataclass(frozen=True, slots=True)
class Sizes:
    """`base` tokens for the template and `per_word` for each word, as the measured model counts them."""

    base: float
    per_word: float

    def text(self, rng: random.Random, tokens: float) -> str:
        """About so many tokens of text, without the template's."""
        return words(rng, max(1, round(tokens / self.per_word)))

    def prompt(self, rng: random.Random, tokens: int) -> tuple[str, str]:
        """(system, user) of a prompt that has about so many tokens in all."""
        count = max(2, round((tokens - self.base) / self.per_word))
        return words(rng, min(OPENING, count - 1)), words(rng, max(1, count - OPENING))

    def messages(self, rng: random.Random, tokens: int) -> list[dict[str, str]]:
        system, user = self.prompt(rng, tokens)
        return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def samples() -> list[list[dict[str, str]]]:
    """The two prompts of known length that `sizes` wants the token counts of."""
    rng, unit = random.Random(1), Sizes(0, 1)
    return [unit.messages(rng, count) for count in SAMPLES]


def sizes(counts: tuple[int, int]) -> Sizes:
    """From the tokens that `samples` have. Raises ValueError when the longer one has not more."""
    per_word = (counts[1] - counts[0]) / (SAMPLES[1] - SAMPLES[0])
    if per_word <= 0:
        raise ValueError(f"{SAMPLES[1]} words cannot have {counts[1]} tokens when {SAMPLES[0]} have {counts[0]}")
    return Sizes(counts[0] - per_word * SAMPLES[0], per_word)
