"""Takes the middle out of a text that is too long, as little of it as possible. Knows no tokens: its caller counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MARK: Final = " […] "


def without_middle(text: str, kept: int) -> str:
    """The first and last characters of `text`, `kept` of them together, and a mark between them."""
    tail = kept // 2
    return text[: kept - tail] + MARK + text[len(text) - tail :]


def cut_to_fit(text: str, count: Callable[[str], int], limit: int) -> str | None:
    """The text without its middle, so that `count` of it is at most `limit`, but with one character more is not (where
    `limit` itself is not reached). None when not even the mark fits.

    `count` must grow with the text, or nearly so; it is called about ten times.
    """
    low, high = 0, len(text)  # characters: `low` of them fit, `high` do not
    least, most = count(without_middle(text, 0)), count(text)
    if least > limit:
        return None
    halve = False
    while high - low > 1 and least < limit:
        share = 0.5 if halve or most <= least else (limit - least) / (most - least)
        middle = min(high - 1, max(low + 1, low + int((high - low) * share)))
        found = count(without_middle(text, middle))
        if found <= limit:
            low, least = middle, found
        else:
            high, most = middle, found
        halve = not halve
    return without_middle(text, low)
