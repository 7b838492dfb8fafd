"""Random histories of requests, ends, cancels, crashes and time, against a bookkeeper that is too simple to be wrong.

The bookkeeper keeps a list of all replies and adds it up anew for every question. The ledger is the store's own, which
survives the crashes: after one, the book is built from it and adopts what was open, as the server does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from frontdesk.access.budgets import BudgetAccount, Budgets, Hold
from frontdesk.access.limits import PERIODS, SECONDS, Budget, Period, budgets_of, number_of, start_of
from frontdesk.errors import BudgetExceeded
from frontdesk.principal import Limits
from frontdesk.store.records import BudgetKind, LedgerEntry
from frontdesk.store.store import Store, open_store

T = TypeVar("T")
DAY = 20_000 * 86_400.0
few = st.none() | st.integers(1, 300)
PAYERS = [(0,), (1,), (4,), (0, 2), (1, 3), (0, 4), (0, 2, 4), (1, 3, 4), (1, 2, 4)]  # numbers in `Life.accounts`
limits = st.builds(Limits, few, few, st.none() | st.integers(100, 2000), st.none() | st.integers(1, 4))


@dataclass(eq=False)
class Reply:
    """What the bookkeeper knows of one reply. `spent` is `None` while it is open."""

    number: int
    accounts: list[BudgetAccount]
    reserved: int
    at: float
    hold: Hold
    spent: int | None = None
    refunded: bool = False


@dataclass
class Bookkeeper:
    replies: list[Reply] = field(default_factory=list)

    def used(self, account: BudgetAccount, budget: Budget, now: float) -> int:
        """Tokens or requests that count in the window of `now`."""
        counted = [
            reply
            for reply in self.replies
            if not reply.refunded
            and any((other.kind, other.id) == (account.kind, account.id) for other in reply.accounts)
            and number_of(budget.period, reply.at) == number_of(budget.period, now)
        ]
        if budget.unit == "requests":
            return len(counted)
        return sum(reply.reserved if reply.spent is None else reply.spent for reply in counted)


class Life(RuleBasedStateMachine):
    """Two keys, two visitors and a conversation. Every request is paid by one of each kind, or by fewer."""

    store: ClassVar[Store]  # one for all lives, which is quicker: each has names of its own
    loop: ClassVar[asyncio.AbstractEventLoop]
    names: ClassVar[Iterator[int]] = count()

    open = Bundle("open")

    @initialize(limits=st.lists(limits.filter(bool), min_size=5, max_size=5), second=st.integers(0, 86_399))
    def begin(self, limits: list[Limits], second: int) -> None:
        self.life = next(self.names)
        kinds: list[BudgetKind] = ["key", "key", "visitor", "visitor", "conversation"]
        self.accounts = [
            BudgetAccount(kind, f"{number} of {self.life}", limit)
            for number, (kind, limit) in enumerate(zip(kinds, limits, strict=True))
        ]
        self.now = DAY + second
        self.truth = Bookkeeper()
        self.budgets = Budgets()

    @rule(target=open, payers=st.sampled_from(PAYERS), tokens=st.integers(0, 250))
    def reserve(self, payers: tuple[int, ...], tokens: int) -> Any:
        accounts = [self.accounts[payer] for payer in payers]
        self._load(accounts)
        lefts = [
            (budget, budget.limit - self.truth.used(account, budget, self.now))
            for account in accounts
            for budget in budgets_of(account.limits)
        ]
        fits = all(left >= (tokens if budget.unit == "tokens" else 1) for budget, left in lefts)
        if not fits:
            with pytest.raises(BudgetExceeded):
                self.budgets.reserve(accounts, tokens, self.now)
            return multiple()
        hold = self.budgets.reserve(accounts, tokens, self.now)
        reply = Reply(len(self.truth.replies), accounts, tokens, self.now, hold)
        self.truth.replies.append(reply)
        return reply

    @rule(reply=consumes(open), share=st.integers(0, 100))
    def settle(self, reply: Reply, share: int) -> None:
        """The end of a reply, finished or cancelled: its row first, then the book, as the server does it."""
        spent = reply.reserved * share // 100
        self._write(reply, spent)
        self.budgets.settle(reply.hold, spent, self.now)
        reply.spent = spent
        with pytest.raises(ValueError, match="settled already"):
            self.budgets.settle(reply.hold, 0, self.now)

    @rule(reply=consumes(open))
    def refund(self, reply: Reply) -> None:
        """Refused after it was reserved, for example because the database did not take it: no row."""
        self.budgets.refund(reply.hold, self.now)
        reply.refunded = True

    @rule(reply=consumes(open), share=st.integers(0, 100))
    def crash_between_row_and_book(self, reply: Reply, share: int) -> None:
        """The worst moment for a reply's end: it is in the ledger, and the book never hears of it."""
        reply.spent = reply.reserved * share // 100
        self._write(reply, reply.spent)
        self.crash()

    @rule()
    def crash(self) -> None:
        """The book is lost; the ledger and the open replies, which are in the journal, are not."""
        self.budgets = Budgets()
        for reply in self.truth.replies:
            if reply.spent is None and not reply.refunded:
                self._load(reply.accounts)
                reply.hold = self.budgets.adopt(reply.accounts, reply.reserved, self.now, at=reply.at)

    @rule(seconds=st.sampled_from([0.25, 1, 20, 59, 61, 700, 3600, 86_400]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_book_is_the_truth(self) -> None:
        for account in getattr(self, "accounts", ()):
            if not self.budgets.knows(account):
                continue
            for budget in budgets_of(account.limits):
                used = self.truth.used(account, budget, self.now)
                assert 0 <= used <= budget.limit
                single = BudgetAccount(account.kind, account.id, Limits(**{budget.name: budget.limit}))
                left = self.budgets.headers([single], self.now)[f"x-ratelimit-remaining-{budget.unit}"]
                assert int(left) == budget.limit - used

    @invariant()
    def nothing_is_negative(self) -> None:
        for spent in self.budgets._accounts.values() if hasattr(self, "budgets") else ():
            for period in PERIODS:
                window = spent.window(period, self.now)
                assert min(window.tokens, window.held, window.requests) >= 0

    def teardown(self) -> None:
        """The ledger holds what was settled, all of it, once."""
        for account in getattr(self, "accounts", ()):
            mine = [reply for reply in self.truth.replies if account in reply.accounts and reply.spent is not None]
            expected = (sum(reply.spent or 0 for reply in mine), len(mine))
            assert self._run(self.store.ledger.used(account.kind, account.id, 0)) == expected

    def _load(self, accounts: list[BudgetAccount]) -> None:
        for account in accounts:
            if not self.budgets.knows(account):
                minute, day, total = (self._sum(account, period) for period in PERIODS)
                self.budgets.load(account, minute, day, total, self.now)

    def _sum(self, account: BudgetAccount, period: Period) -> tuple[int, int]:
        return self._run(self.store.ledger.used(account.kind, account.id, start_of(period, self.now)))

    def _write(self, reply: Reply, spent: int) -> None:
        payer = {account.kind: account.id for account in reply.accounts}
        entry = LedgerEntry(
            reply=f"{reply.number} of {self.life}",
            at=reply.at,
            owner="",
            key=payer.get("key"),
            visitor=payer.get("visitor"),
            conversation=payer.get("conversation"),
            model="m",
            prompt=spent // 2,
            cached=0,
            completion=spent - spent // 2,
            outcome="finished",
        )
        self._run(self.store.ledger.add(entry))
        self._run(self.store.ledger.add(entry))  # an end that is written again is no second charge

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)


@pytest.fixture(scope="module", autouse=True)
def ledger() -> Iterator[None]:
    Life.loop = asyncio.new_event_loop()
    Life.store = Life.loop.run_until_complete(open_store("memory"))
    yield
    Life.loop.run_until_complete(Life.store.close())
    Life.loop.close()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_windows_are_minutes_and_days() -> None:
    """The rules above would hold for windows that nobody was promised."""
    assert SECONDS == {"minute": 60, "day": 86_400}
    assert start_of("minute", DAY + 61.5) == DAY + 60
    assert start_of("day", DAY + 61.5) == DAY
    assert start_of("total", DAY) == 0
