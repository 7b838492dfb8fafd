"""Who may spend how many tokens: reserved before a reply is computed, settled after it, by exact arithmetic in memory.

The truth is the durable ledger. This book is built from it, account by account, when an account is first met, and then
holds what the ledger cannot know: the open replies. `tests/access/test_budgets_always.py` holds the rules:

- A request passes only if it fits every budget of every account that pays for it; if one refuses, none is charged.
- What is spent and held never passes a limit. `adopt` alone may: after a restart a reply goes on in any case.
- A hold belongs to the windows in which it was reserved. It is settled exactly once, and refunds reach no later window.

Knows neither database nor clock nor prompt; sync, for one event loop, hence without races. It keeps the budgets of one
server: two servers over one database would each allow the whole of a budget.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from frontdesk.access.limits import PERIODS, Budget, Spent, Window, budgets_of, seconds_left
from frontdesk.errors import BudgetExceeded
from frontdesk.principal import Limits
from frontdesk.store.records import BudgetKind

FORGET_SECONDS = 600  # an account at rest for so long is read from the ledger again; its last row is there by then
PERIOD_WORDS = {"minute": " a minute", "day": " a day", "total": " in total"}


@dataclass(frozen=True, slots=True)
class BudgetAccount:
    """Somebody who pays. `id` is the key's, the visitor's or the conversation's."""

    kind: BudgetKind
    id: str
    limits: Limits


@dataclass(slots=True, eq=False)
class Hold:
    """Tokens set aside for the replies to one call since `at`. Give it back to `Budgets.settle` or `refund`, once."""

    tokens: int
    requests: int
    at: float
    open: bool
    _charged: list[tuple[Spent, list[Window]]]


class Budgets:
    """The book. `now` is in seconds since 1970 everywhere; counts are tokens, prompt and completion together.

    An account is kept from the first request for which it has a limit until it rests. One that loses its last limit
    meanwhile is still charged, so that a limit that is set again finds what was used. One that has none is not kept
    otherwise: a reply that runs while its account gets its first limit counts from the next time the account is loaded.
    """

    def __init__(self) -> None:
        self._accounts: OrderedDict[tuple[BudgetKind, str], Spent] = OrderedDict()  # the one at rest longest is first

    def keeps(self, kind: BudgetKind, id: str) -> bool:
        """Whether an account is charged even if it has no limit now."""
        return (kind, id) in self._accounts

    def knows(self, account: BudgetAccount) -> bool:
        """Whether it can be charged. If not, it must be loaded first.

        One that was asked for is not forgotten before it is charged, however long the others take to load.
        """
        if (spent := self._accounts.get((account.kind, account.id))) is None:
            return not account.limits
        spent.wanted = True
        return spent.has_total or account.limits.tokens_total is None

    def load(
        self,
        account: BudgetAccount,
        minute: tuple[int, int],
        day: tuple[int, int],
        total: int | None,
        now: float,
    ) -> None:
        """Begin with what the ledger says of an account: (tokens, requests) of this minute and this day, and the tokens
        of all time, which are only needed where there is a limit to them.

        An entry of the ledger counts in the window of its `at`, which should be its hold's, and as a request even where
        it was held without one: in the minute of a restart too much may be refused, never too little. What is known of
        the account already stays: the book then knows more than whoever read the ledger.
        """
        self._forget(now)
        if (spent := self._accounts.get((account.kind, account.id))) is None:
            spent = self._accounts[account.kind, account.id] = Spent(now)
            for window, used in ((spent.window("minute", now), minute), (spent.window("day", now), day)):
                window.tokens, window.requests = used
        if total is not None and not spent.has_total:
            spent.window("total", now).tokens = total  # instead of what was settled meanwhile, which is in it
            spent.has_total = True

    def reserve(self, accounts: Sequence[BudgetAccount], tokens: int, now: float, *, requests: int = 1) -> Hold:
        """Set aside the most that the replies to a call can take, and count their requests; what nobody asked for has
        none. All accounts, or none and `BudgetExceeded`.

        Of several budgets that refuse, the error names the one that refills last.
        """
        needs = {"tokens": tokens, "requests": requests or -math.inf}  # who needs none is not refused for lack of them
        refusals = [
            _refusal(account, budget, left, tokens if budget.unit == "tokens" else requests, now)
            for account, budget, left in self._lefts(accounts, now)
            if left < needs[budget.unit]
        ]
        if refusals:
            raise max(refusals, key=lambda error: error.retry_after)
        return self._hold(accounts, tokens, now, now, requests)

    def adopt(self, accounts: Sequence[BudgetAccount], tokens: int, now: float, at: float) -> Hold:
        """After a restart: what a reply that goes on had reserved at `at`. Never refuses."""
        return self._hold(accounts, tokens, now, at)

    def settle(self, hold: Hold, tokens: int, now: float) -> None:
        """The reply took so many tokens; the rest of the hold is free again. Raises `ValueError` the second time."""
        self._close(hold, tokens, now)

    def refund(self, hold: Hold, now: float) -> None:
        """The reply never began: neither tokens nor a request were used. Raises `ValueError` when already settled."""
        self._close(hold, 0, now, requests_back=hold.requests)

    def remaining(self, accounts: Sequence[BudgetAccount], now: float) -> int | None:
        """Tokens that one request may still take; `None` when no token budget is set."""
        lefts = [left for _, budget, left in self._lefts(accounts, now) if budget.unit == "tokens"]
        return max(0, min(lefts)) if lefts else None

    def headers(self, accounts: Sequence[BudgetAccount], now: float) -> dict[str, str]:
        """OpenAI's `x-ratelimit-*`, of the budget of each unit with the least left."""
        found: dict[str, str] = {}
        for unit in ("requests", "tokens"):
            entries = [(budget, left) for _, budget, left in self._lefts(accounts, now) if budget.unit == unit]
            if not entries:
                continue
            budget, left = min(entries, key=lambda entry: entry[1])
            found[f"x-ratelimit-limit-{unit}"] = str(budget.limit)
            found[f"x-ratelimit-remaining-{unit}"] = str(max(0, left))
            if math.isfinite(seconds := seconds_left(budget.period, now)):
                found[f"x-ratelimit-reset-{unit}"] = duration(seconds)
        return found

    def _lefts(self, accounts: Sequence[BudgetAccount], now: float) -> Iterator[tuple[BudgetAccount, Budget, int]]:
        """What is left of every budget; below zero where more was adopted, or used before the limit was set."""
        for account in accounts:
            for budget in budgets_of(account.limits):
                window = self._accounts[account.kind, account.id].window(budget.period, now)
                yield account, budget, budget.limit - window.used(budget.unit)

    def _hold(
        self, accounts: Sequence[BudgetAccount], tokens: int, now: float, at: float, requests: int = 1
    ) -> Hold:
        if tokens < 0:
            raise ValueError(f"cannot reserve {tokens} tokens")
        hold = Hold(tokens, requests, at, True, [])
        for account in accounts:
            if (spent := self._accounts.get((account.kind, account.id))) is None:
                continue  # it has no limit and had none
            windows = [spent.window_of(period, at, now) for period in PERIODS]
            for window in windows:
                window.held += tokens
                window.requests += requests
            spent.open_holds += 1
            spent.wanted = False
            spent.seen = now
            self._accounts.move_to_end((account.kind, account.id))
            hold._charged.append((spent, windows))
        return hold

    def _close(self, hold: Hold, tokens: int, now: float, *, requests_back: int = 0) -> None:
        if not hold.open:
            raise ValueError("this hold is settled already")
        if tokens < 0:
            raise ValueError(f"a reply cannot take {tokens} tokens")
        hold.open = False
        for spent, windows in hold._charged:
            for window in windows:
                window.held -= hold.tokens
                window.tokens += tokens
                window.requests -= requests_back
            spent.open_holds -= 1
            spent.seen = now

    def _forget(self, now: float) -> None:
        """Drop accounts at rest: two at most, which is quick, and more than the one that a call adds. One that was seen
        by a clock that has been set back since rests from now on."""
        for name in list(islice(self._accounts, 2)):
            spent = self._accounts[name]
            if spent.open_holds or spent.wanted or spent.seen > now:
                spent.wanted = False
                spent.seen = now
                self._accounts.move_to_end(name)
            elif now - spent.seen > FORGET_SECONDS:
                del self._accounts[name]


def duration(seconds: float) -> str:
    """Whole seconds, rounded up, as OpenAI writes them: `34s`, `6m0s`, `23h59m12s`."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _refusal(account: BudgetAccount, budget: Budget, left: int, requested: int, now: float) -> BudgetExceeded:
    left = max(0, left)
    retry_after = seconds_left(budget.period, now)
    units = budget.unit if budget.limit != 1 else budget.unit.removesuffix("s")
    has = f"the {account.kind}'s budget of {budget.limit:,} {units}{PERIOD_WORDS[budget.period]}"
    if budget.unit == "tokens":
        says = f"{has} has {left:,} left, this request needs up to {requested:,}"
        instead = "shorten the prompt or the answer"
    else:
        says = f"{has} has {left:,} left, this request counts as {requested:,}" if left else f"{has} is used up"
        instead = "ask for fewer replies"
    if requested > budget.limit:
        retry_after = math.inf
        says += f"; that never fits, {instead}"
    elif math.isinf(retry_after):
        says += "; it does not refill"
    else:
        says += f"; it refills in {_spoken(retry_after)}"
    facts = {"budget": f"{account.kind}.{budget.name}", "limit": budget.limit, "remaining": left}
    error = BudgetExceeded(says, retry_after=retry_after, requested=requested, **facts)
    if math.isinf(retry_after):
        error.code = "insufficient_quota"  # OpenAI's word for what waiting does not cure
    return error


def _spoken(seconds: float) -> str:
    if seconds <= 120:
        return f"{math.ceil(seconds)} s"
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
