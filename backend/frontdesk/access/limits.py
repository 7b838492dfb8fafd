"""The arithmetic under budgets: which windows of time there are, and what one account used in each. Whole numbers only.

Windows are fixed: a minute of the clock, a day in UTC, and one that never ends. Knows no request and no account's name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

from frontdesk.principal import Limits

Period = Literal["minute", "day", "total"]
Unit = Literal["tokens", "requests"]

SECONDS: dict[Period, int] = {"minute": 60, "day": 86_400}
PERIODS: tuple[Period, ...] = ("minute", "day", "total")


@dataclass(frozen=True, slots=True)
class Budget:
    """One limit of an account; `name` is its field in `Limits`."""

    name: str
    unit: Unit
    period: Period
    limit: int


@dataclass(slots=True)
class Window:
    """What one account used in one window: `tokens` are spent, `held` ones reserved; `requests` counts both kinds.

    `number` counts windows of this length since 1970.
    """

    number: int
    tokens: int = 0
    requests: int = 0
    held: int = 0

    def used(self, unit: Unit) -> int:
        return self.tokens + self.held if unit == "tokens" else self.requests


class Spent:
    """What one account spent: its windows that are open now.

    When time enters a new window, a fresh one takes the old one's place. Whoever still holds the old one writes into
    it in vain: a refund can not reach a window in which nothing was taken.
    """

    def __init__(self, now: float) -> None:
        self.open_holds = 0
        self.has_total = False  # the total was begun with what the ledger says; without a limit nobody asks
        self.wanted = False  # somebody is about to charge it
        self.seen = now  # when it was last charged or settled
        self._windows = {period: Window(number_of(period, now)) for period in PERIODS}

    def window(self, period: Period, now: float) -> Window:
        """The open one. A clock that steps back into the window before does not open that one again; if it steps back
        further, it was wrong, and a fresh one is opened: else none would be until it is as late again."""
        number = number_of(period, now)
        if not 0 <= self._windows[period].number - number <= 1:
            self._windows[period] = Window(number)
        return self._windows[period]

    def window_of(self, period: Period, at: float, now: float) -> Window:
        """The one to charge for `at`: the open one, or one that is over by now and counts for nothing any more."""
        over = number_of(period, at) < number_of(period, now)
        return Window(number_of(period, at)) if over else self.window(period, now)


def budgets_of(limits: Limits) -> Iterator[Budget]:
    """Its limits, one by one; those that are `None` are none."""
    if limits.requests_per_minute is not None:
        yield Budget("requests_per_minute", "requests", "minute", limits.requests_per_minute)
    if limits.tokens_per_minute is not None:
        yield Budget("tokens_per_minute", "tokens", "minute", limits.tokens_per_minute)
    if limits.tokens_per_day is not None:
        yield Budget("tokens_per_day", "tokens", "day", limits.tokens_per_day)
    if limits.tokens_total is not None:
        yield Budget("tokens_total", "tokens", "total", limits.tokens_total)


def over(limits: Limits, defaults: Limits) -> Limits:
    """`limits`, and where it has none, the default."""
    pairs = {field.name: (getattr(limits, field.name), getattr(defaults, field.name)) for field in fields(Limits)}
    return Limits(**{name: default if own is None else own for name, (own, default) in pairs.items()})


def number_of(period: Period, now: float) -> int:
    return int(now // SECONDS[period]) if period in SECONDS else 0


def start_of(period: Period, now: float) -> float:
    """When the window that holds `now` began, in seconds since 1970; 0 for the one that never ends."""
    return float(number_of(period, now) * SECONDS.get(period, 0))


def end_of(period: Period, now: float) -> float:
    """When the window that holds `now` is over, in seconds since 1970; infinite for the one that never ends."""
    return start_of(period, now) + SECONDS[period] if period in SECONDS else math.inf


def seconds_left(period: Period, now: float) -> float:
    """Until the window that holds `now` is over; infinite for the one that never ends."""
    return end_of(period, now) - now
