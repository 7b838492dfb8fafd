"""Guesses the next tokens of a sequence from what it has said or read: the same three tokens stood there before.

Answers of a support desk quote: the persona, the order, the question. A guess costs a dictionary look-up. Whether it
is worth computing is decided in `engine/scheduler`, from how often guesses of this sequence would have been right
lately and from what steps have cost (`StepCosts`). Knows token ids only.
"""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from typing import Final, Protocol

CONTEXT: Final = 3  # tokens that must have stood there before
WEIGHT: Final = 0.2  # of the latest guess in the running rate
FIRST_RATE: Final = 0.4
LENGTHS: Final = (1, 3, 7, 15)  # tokens of a guess: with its own row, whole groups of four
MOST_ROWS: Final = 64  # of a step with guesses: the logits of each take 600 kB with a vocabulary of 152,000
GAIN: Final = 1.05  # a step must promise this many times the tokens of a plain one for its time


class StepCosts(Protocol):
    """What steps cost, as the clock has told so far. Rows are tokens computed; streams are sequences that decode."""

    def factor(self, streams: int, rows: int) -> float | None:
        """Cost of a step of `rows` rows for so many streams, as a multiple of one with a row each; `None`: unknown."""
        ...


class Guesser:
    """Follows one sequence. `rate` is the share of guesses that were right lately, whether computed or not."""

    def __init__(self) -> None:
        self.rate = FIRST_RATE
        self._last: dict[tuple[int, ...], int] = {}  # where each run of `CONTEXT` tokens stood last: index behind it
        self._seen = 0

    def guess(self, tokens: Tokens[int], most: int) -> list[int]:
        """Up to `most` tokens that may follow `tokens`, which must begin with what was given before."""
        self._follow(tokens)
        at = self._last.get(tuple(tokens[-CONTEXT:]))
        return list(tokens[at : at + most]) if at is not None else []

    def learn(self, guess: Tokens[int], came: Tokens[int]) -> None:
        """`came` was drawn where `guess` had been made."""
        for expected, token in zip(guess, came, strict=False):
            self.rate += WEIGHT * ((expected == token) - self.rate)
            if expected != token:
                break

    def _follow(self, tokens: Tokens[int]) -> None:
        """Enter every run that something already follows."""
        for end in range(max(CONTEXT, self._seen), len(tokens)):
            self._last[tuple(tokens[end - CONTEXT : end])] = end
        self._seen = len(tokens)


def plan_drafts(limits: list[tuple[Guesser, int, int]], costs: StepCosts, *, most_rows: int, equal: bool) -> list[int]:
    """How many guessed tokens each decoding sequence computes in this step.

    `limits` gives for each its guesser, the length of its guess, and the most that it may compute. With `equal` all
    compute the same number of rows, or none; whoever guesses less fills up with anything. The choice is the one that
    brings most tokens for its cost; what has never been tried is worth a try where guesses are good.
    """
    streams = len(limits)
    best, best_value = [0] * streams, streams * GAIN
    for length in LENGTHS:
        if equal:
            choices = [[length] * streams] if all(most >= length for _, _, most in limits) else []
        else:
            choices = _by_rate(limits, length)
        for drafts in choices:
            rows = streams + sum(drafts)
            if rows > min(most_rows, MOST_ROWS) or rows == streams:
                continue
            gains = (
                expected(guesser.rate, min(count, guess))
                for (guesser, guess, _), count in zip(limits, drafts, strict=True)
            )
            tokens = streams + sum(gains)
            factor = costs.factor(streams, rows)
            value = tokens / (factor if factor is not None else hoped(streams, rows))
            if value > best_value:
                best, best_value = drafts, value
    return best


def _by_rate(limits: list[tuple[Guesser, int, int]], length: int) -> list[list[int]]:
    """Drafts for the best guesser alone, for the best two, and so on."""
    order = sorted(range(len(limits)), key=lambda i: -limits[i][0].rate)
    drafts, choices = [0] * len(limits), []
    for i in order:
        _, guess, most = limits[i]
        if count := min(length, guess, most):
            drafts[i] = count
            choices.append(list(drafts))
    return choices


def hoped(streams: int, rows: int) -> float:
    """Cost of a step that has not been tried enough: a little less than on any machine that was measured."""
    more = rows - streams
    return 1 + min(0.1 * more, 0.5 * more / streams)


def expected(rate: float, length: int) -> float:
    """Tokens that a guess of this length brings on average, beside the one that comes anyway."""
    return sum(rate**i for i in range(1, length + 1))
