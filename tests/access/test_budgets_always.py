"""Random histories of requests, ends, cancels, crashes, time and limits, against a bookkeeper that is too simple to be
wrong.

The bookkeeper keeps a list of all replies and adds it up anew for every question. Where the clock was set back it says
what must count, and what may, until time has passed the latest hour that the clock had shown. The ledger is the store's
own, which survives the crashes: after one, the book is built from it and adopts what was open. Loading, holding,
settling and the ledger's rows are the server's own code; only its clock is the test's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from tests.access.ends import ended

from frontdesk.access.budgets import BudgetAccount, Budgets, Hold
from frontdesk.access.limits import PERIODS, SECONDS, Budget, budgets_of, number_of, start_of
from frontdesk.chat.spending import Paying, Spending
from frontdesk.errors import BudgetExceeded
from frontdesk.principal import Limits, Principal
from frontdesk.store.records import BudgetKind
from frontdesk.store.store import Store, open_store

T = TypeVar("T")
DAY = 20_000 * 86_400.0
few = st.none() | st.integers(1, 300)
PAYERS = [(0,), (1,), (4,), (0, 2), (1, 3), (0, 4), (0, 2, 4), (1, 3, 4), (1, 2, 4)]  # numbers in `Life.accounts`
limits = st.builds(Limits, few, few, st.none() | st.integers(100, 2000), st.none() | st.integers(1, 4))


@dataclass(eq=False)
class Reply:
    """What the bookkeeper knows of one reply. `spent` is `None` while it is open. `held` is when this life of the
    server took its tokens from the budgets."""

    number: int
    accounts: list[BudgetAccount]
    reserved: int
    at: float
    held: float
    holds: list[Hold]
    spent: int | None = None
    refunded: bool = False


@dataclass
class Bookkeeper:
    replies: list[Reply] = field(default_factory=list)
    latest: float = 0.0  # that the clock showed before it was set back
    steady: int = 0  # the first reply since then

    def used(self, account: BudgetAccount, budget: Budget, now: float) -> tuple[int, int]:
        """Tokens or requests that count in the window of `now`: at least, and at most."""
        number = number_of(budget.period, now)
        here = [reply for reply in self.replies if number_of(budget.period, reply.at) == number]
        if budget.period == "total" or number > number_of(budget.period, self.latest):
            exact = self._sum(account, budget, here)
            return exact, exact
        after = [reply for reply in here if reply.number >= self.steady]
        around = [
            reply
            for reply in self.replies
            if any(abs(number_of(budget.period, at) - number) <= 1 for at in (reply.at, reply.held))
        ]
        return self._sum(account, budget, after), self._sum(account, budget, around)

    def _sum(self, account: BudgetAccount, budget: Budget, replies: list[Reply]) -> int:
        counted = [reply for reply in replies if not reply.refunded and pays(account, reply)]
        if budget.unit == "requests":
            return len(counted)
        return sum(reply.reserved if reply.spent is None else reply.spent for reply in counted)


def pays(account: BudgetAccount, reply: Reply) -> bool:
    return any((other.kind, other.id) == (account.kind, account.id) for other in reply.accounts)


def asking(accounts: list[BudgetAccount]) -> tuple[Principal, Paying]:
    """Whose request these accounts pay."""
    ids = {account.kind: account.id for account in accounts}
    own = {account.kind: account.limits for account in accounts}
    none = Limits()
    principal = Principal(
        "", ids.get("key"), ids.get("visitor"), key_limits=own.get("key", none), visitor_limits=own.get("visitor", none)
    )
    return principal, Paying(ids.get("conversation"), own.get("conversation"))


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
        self.begin_life()

    @rule(target=open, payers=st.sampled_from(PAYERS), tokens=st.integers(0, 250))
    def reserve(self, payers: tuple[int, ...], tokens: int) -> Any:
        accounts = self._known([self.accounts[payer] for payer in payers])
        lefts = [
            (tokens if budget.unit == "tokens" else 1, *(budget.limit - used for used in self._used(account, budget)))
            for account in accounts
            for budget in budgets_of(account.limits)
        ]
        try:
            holds = self.spending.hold(accounts, tokens)
        except BudgetExceeded:
            assert any(left < needed for needed, _, left in lefts)
            return multiple()
        assert all(left >= needed for needed, left, _ in lefts)
        reply = Reply(len(self.truth.replies), accounts, tokens, self.now, self.now, holds)
        self.truth.replies.append(reply)
        return reply

    @rule(reply=consumes(open), share=st.integers(0, 100))
    def settle(self, reply: Reply, share: int) -> None:
        """The end of a reply, finished or cancelled: its row first, then the book, as the server does it."""
        reply.spent = reply.reserved * share // 100
        charged = self._write(reply, reply.spent)
        self.spending.settle(reply.holds, charged)
        if reply.holds:
            with pytest.raises(ValueError, match="settled already"):
                self.spending.settle(reply.holds, 0)

    @rule(reply=consumes(open))
    def refund(self, reply: Reply) -> None:
        """Refused after it was reserved, for example because the database did not take it: no row."""
        self.spending.refund(reply.holds)
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
        self.begin_life()
        for reply in self.truth.replies:
            if reply.spent is None and not reply.refunded:
                reply.accounts = self._known(self._now_limited(reply.accounts))
                reply.holds = self.spending.adopt(reply.accounts, reply.reserved, int(reply.at))
                reply.held = self.now

    @rule(seconds=st.sampled_from([0.25, 1, 20, 59, 61, 700, 3600, 86_400]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.sampled_from([1, 59, 61, 300, 7200, 86_400, 200_000]))
    def set_back(self, seconds: int) -> None:
        self.truth.latest = max(self.truth.latest, self.now)
        self.truth.steady = len(self.truth.replies)
        self.now -= seconds

    @rule(number=st.integers(0, 4), limits=limits)
    def change(self, number: int, limits: Limits) -> None:
        """The operator sets other limits, or lifts the last one."""
        self.accounts[number] = replace(self.accounts[number], limits=limits)

    @rule(target=open, number=st.integers(0, 4), tokens=st.integers(0, 250), limits=limits)
    def reserve_while_lifted(self, number: int, tokens: int, limits: Limits) -> Any:
        """What is used between two limits, where the book has the account in memory."""
        self.change(number, Limits())
        reply = self.reserve((number,), tokens)
        self.change(number, limits)
        return reply

    @invariant()
    def the_book_is_the_truth(self) -> None:
        for account in getattr(self, "accounts", ()):
            if not self.budgets.knows(account):
                continue
            for budget in budgets_of(account.limits):
                least, most = self._used(account, budget)
                single = BudgetAccount(account.kind, account.id, Limits(**{budget.name: budget.limit}))
                left = int(self.spending.headers([single])[f"x-ratelimit-remaining-{budget.unit}"])
                assert max(0, budget.limit - most) <= left <= max(0, budget.limit - least)

    @invariant()
    def nothing_is_negative(self) -> None:
        for spent in self.budgets._accounts.values() if hasattr(self, "budgets") else ():
            for period in PERIODS:
                window = spent.window(period, self.now)
                assert min(window.tokens, window.held, window.requests) >= 0

    def teardown(self) -> None:
        """The ledger holds what was settled, all of it, once."""
        for account in getattr(self, "accounts", ()):
            mine = [reply for reply in self.truth.replies if pays(account, reply) and reply.spent is not None]
            expected = (sum(reply.spent or 0 for reply in mine), len(mine))
            assert self._run(self.store.ledger.used(account.kind, account.id, 0)) == expected

    def begin_life(self) -> None:
        self.budgets = Budgets()
        self.spending = Spending(self.budgets, self.store, Limits(), now=lambda: self.now)

    def _used(self, account: BudgetAccount, budget: Budget) -> tuple[int, int]:
        return self.truth.used(account, budget, self.now)

    def _now_limited(self, accounts: list[BudgetAccount]) -> list[BudgetAccount]:
        """The same, with the limits that they have now."""
        return [own for own in self.accounts for other in accounts if (own.kind, own.id) == (other.kind, other.id)]

    def _known(self, accounts: list[BudgetAccount]) -> list[BudgetAccount]:
        """Those that pay, loaded from the ledger where the book did not know them."""
        return self._run(self.spending.accounts(*asking(accounts)))

    def _write(self, reply: Reply, spent: int) -> int:
        """The row of a reply's end, written; what the reply is charged."""
        principal, paying = asking(reply.accounts)
        id = f"{reply.number} of {self.life}"
        charged, row = ended(id, principal, spent, reply.at, self.now, paying.conversation)
        self._run(self.store.journal.pay(row))
        self._run(self.store.journal.pay(row))  # an end that is written again is no second charge
        return charged

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
