"""The book of budgets, sentence by sentence. `test_budgets_always` tries to break its rules with random histories."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest
from tests.access.ends import ended

from frontdesk.access.budgets import FORGET_SECONDS, BudgetAccount, Budgets, duration
from frontdesk.access.limits import over
from frontdesk.chat.spending import Paying, Spending
from frontdesk.errors import BudgetExceeded
from frontdesk.principal import Limits, Principal
from frontdesk.store.store import Store

DAY = 20_000 * 86_400.0  # the beginning of a day, and so of a minute
NOTHING = (0, 0)


def key(**limits: int) -> BudgetAccount:
    return BudgetAccount("key", "k", Limits(**limits))


def visitor(**limits: int) -> BudgetAccount:
    return BudgetAccount("visitor", "v", Limits(**limits))


def book(*accounts: BudgetAccount, now: float = DAY) -> Budgets:
    budgets = Budgets()
    for account in accounts:
        budgets.load(account, NOTHING, NOTHING, 0, now)
    return budgets


def refusal(budgets: Budgets, accounts: Sequence[BudgetAccount], tokens: int, now: float) -> BudgetExceeded:
    with pytest.raises(BudgetExceeded) as caught:
        budgets.reserve(accounts, tokens, now)
    return caught.value


def test_a_refusal_says_which_budget_how_much_is_left_and_when() -> None:
    """A developer who gets a 429 could not tell what to change, nor a client how long to wait."""
    account = key(tokens_per_minute=10_000)
    budgets = book(account)
    budgets.settle(budgets.reserve([account], 9880, DAY), 9880, DAY)
    error = refusal(budgets, [account], 900, DAY + 26)
    assert error.message == (
        "the key's budget of 10,000 tokens a minute has 120 left, this request needs up to 900; it refills in 34 s"
    )
    assert error.retry_after == 34
    facts = {"budget": "key.tokens_per_minute", "limit": 10_000, "remaining": 120, "requested": 900}
    assert error.details == facts
    assert error.code == "rate_limit_exceeded"
    budgets.reserve([account], 120, DAY + 26)


@pytest.mark.parametrize(
    ("account", "words", "seconds"),
    [
        (key(tokens_per_day=100), "the key's budget of 100 tokens a day has 10 left", 86_400 - 30),
        (visitor(tokens_total=100), "the visitor's budget of 100 tokens in total has 10 left", math.inf),
        (key(requests_per_minute=1), "the key's budget of 1 request a minute is used up; it refills in 30 s", 30),
    ],
)
def test_every_budget_refuses_in_its_own_words(account: BudgetAccount, words: str, seconds: float) -> None:
    """A limit would not be kept, or its message would name another."""
    budgets = book(account)
    budgets.reserve([account], 90, DAY)
    error = refusal(budgets, [account], 20, DAY + 30)
    assert error.message.startswith(words)
    assert error.retry_after == seconds


def test_waiting_is_not_advised_where_it_does_not_help() -> None:
    """Clients would repeat for ever a request that can never pass."""
    spent, small = key(tokens_total=100), visitor(tokens_per_minute=100)
    budgets = book(spent, small)
    budgets.reserve([spent], 100, DAY)
    for account, tokens, words in ((spent, 1, "it does not refill"), (small, 101, "that never fits")):
        error = refusal(budgets, [account], tokens, DAY)
        assert words in error.message
        assert math.isinf(error.retry_after)
        assert error.code == "insufficient_quota"


def test_all_accounts_pay_or_none() -> None:
    """A request that one budget refuses would still use up another."""
    accounts = [key(tokens_per_minute=1000, requests_per_minute=5), visitor(tokens_per_minute=100)]
    budgets = book(*accounts)
    before = budgets.headers(accounts[:1], DAY)
    assert "visitor" in refusal(budgets, accounts, 101, DAY).message
    assert budgets.headers(accounts[:1], DAY) == before


def test_the_budget_that_refills_last_is_named() -> None:
    """A client would come back after a minute to hear that it should come back tomorrow."""
    account = key(tokens_per_minute=100, tokens_per_day=100)
    budgets = book(account)
    budgets.reserve([account], 100, DAY)
    assert "a day" in refusal(budgets, [account], 1, DAY).message


def test_what_was_not_taken_is_free_again() -> None:
    """Short answers would be charged as long ones, cancelled ones as if they had run to their end."""
    account = key(tokens_per_minute=100, requests_per_minute=10)
    budgets = book(account)
    hold = budgets.reserve([account], 100, DAY)
    assert budgets.remaining([account], DAY) == 0
    budgets.settle(hold, 30, DAY + 1)
    assert budgets.remaining([account], DAY + 1) == 70
    budgets.refund(budgets.reserve([account], 70, DAY + 1), DAY + 2)
    assert budgets.remaining([account], DAY + 2) == 70
    assert budgets.headers([account], DAY + 2)["x-ratelimit-remaining-requests"] == "9"


def test_a_hold_is_settled_once() -> None:
    """A reply that ends in two places at once would be paid back twice, and the budget would grow."""
    account = key(tokens_per_minute=100)
    budgets = book(account)
    hold = budgets.reserve([account], 50, DAY)
    budgets.settle(hold, 20, DAY)
    for again in (lambda: budgets.settle(hold, 20, DAY), lambda: budgets.refund(hold, DAY)):
        with pytest.raises(ValueError, match="settled already"):
            again()
    assert budgets.remaining([account], DAY) == 80


def test_a_refund_does_not_reach_the_next_window() -> None:
    """A reply that runs over the end of a minute would give the next one more than its budget."""
    account = key(tokens_per_minute=100, tokens_per_day=1000, requests_per_minute=3)
    budgets = book(account)
    hold = budgets.reserve([account], 100, DAY + 59.9)
    assert budgets.remaining([account], DAY + 60) == 100
    budgets.reserve([account], 40, DAY + 60)
    budgets.refund(hold, DAY + 61)
    assert budgets.remaining([account], DAY + 61) == 60
    assert budgets.headers([account], DAY + 61)["x-ratelimit-remaining-requests"] == "2"
    day = [key(tokens_per_day=1000)]
    assert budgets.remaining(day, DAY + 61) == 960


def test_a_clock_that_steps_back_refills_nothing() -> None:
    """Every correction of the clock over a minute's end would give everybody a second budget."""
    account = key(tokens_per_minute=100)
    budgets = book(account, now=DAY + 60)
    budgets.reserve([account], 100, DAY + 60)
    assert refusal(budgets, [account], 1, DAY + 59).retry_after == 1
    budgets.reserve([account], 100, DAY + 120)


def test_a_budget_holds_while_the_clock_is_a_little_behind() -> None:
    """A clock that is corrected over a minute's or a day's end would let everything through until it is there again."""
    account = key(tokens_per_minute=100, requests_per_minute=3, tokens_per_day=150)
    budgets = book(account, now=DAY)
    hold = budgets.reserve([account], 60, DAY - 1)
    refusal(budgets, [account], 41, DAY - 1)
    budgets.settle(hold, 50, DAY - 1)
    budgets.refund(budgets.reserve([account], 50, DAY - 1), DAY)
    budgets.settle(budgets.reserve([account], 50, DAY - 1), 50, DAY - 1)
    refusal(budgets, [account], 1, DAY + 1)
    assert budgets.remaining([account], DAY + 60) == 50


@pytest.mark.parametrize("seconds", [7200, 30 * 86_400])
def test_a_budget_holds_when_the_clock_was_far_ahead(seconds: int) -> None:
    """After a clock was set right every budget would be open until the wrong time comes: hours, or days."""
    account = key(tokens_per_minute=100, requests_per_minute=3, tokens_total=1000)
    now = DAY + 86_000  # so that two hours ahead is another day
    budgets = book(account, now=now + seconds)
    straddles = budgets.reserve([account], 100, now + seconds)
    budgets.settle(budgets.reserve([account], 60, now), 50, now)
    budgets.settle(straddles, 10, now)
    assert budgets.remaining([account], now) == 50
    budgets.reserve([account], 50, now)
    refusal(budgets, [account], 1, now + 1)
    assert budgets.remaining([key(tokens_total=1000)], now + 1) == 1000 - 50 - 10 - 50
    assert budgets.remaining([account], now + 60) == 100
    assert budgets.remaining([account], now + seconds + 1) == 100


def test_the_book_also_forgets_who_was_seen_by_a_clock_that_was_ahead() -> None:
    """The memory would grow with every visitor until the wrong time comes."""
    budgets = book(*(BudgetAccount("visitor", f"ahead {number}", Limits(1)) for number in range(9)), now=DAY + 7200)
    for seconds in (0, FORGET_SECONDS + 1):
        for number in range(9):
            account = BudgetAccount("visitor", f"{seconds} {number}", Limits(1))
            budgets.load(account, NOTHING, NOTHING, None, DAY + seconds)
    assert not [id for _, id in budgets._accounts if "ahead" in id]


def test_a_reply_that_nobody_asked_for_is_no_request() -> None:
    """The server's own summaries would use up a visitor's requests: their next question would be a 429."""
    mine = key(requests_per_minute=1, tokens_total=100)
    budgets = book(mine)
    budgets.refund(budgets.reserve([mine], 10, DAY, requests=0), DAY)
    budgets.reserve([mine], 10, DAY, requests=0)
    budgets.reserve([mine], 10, DAY)
    assert refusal(budgets, [mine], 10, DAY).details["budget"] == "key.requests_per_minute"
    budgets.reserve([mine], 80, DAY, requests=0)
    with pytest.raises(BudgetExceeded):
        budgets.reserve([mine], 1, DAY, requests=0)


def test_who_needs_no_request_is_not_refused_one() -> None:
    """In the minute of a restart the ledger counts summaries as requests: with more of them than the budget has, no
    summary would be made, though none of them needs a request."""
    mine = key(requests_per_minute=1)
    budgets = Budgets()
    budgets.load(mine, (90, 3), (90, 3), 90, DAY)
    budgets.reserve([mine], 10, DAY, requests=0)
    assert refusal(budgets, [mine], 10, DAY).details["budget"] == "key.requests_per_minute"


def test_a_restart_adopts_what_is_open_without_refusing() -> None:
    """A reply that goes on after a crash would fail because its own tokens are in its way."""
    account = key(tokens_per_minute=100, tokens_total=1000)
    budgets = Budgets()
    budgets.load(account, (90, 1), (90, 1), 900, DAY + 30)
    hold = budgets.adopt([account], 150, DAY + 30, at=DAY + 30)
    assert budgets.remaining([account], DAY + 30) == 0
    refusal(budgets, [account], 1, DAY + 30)
    budgets.settle(hold, 50, DAY + 31)
    assert budgets.remaining([account], DAY + 90) == 50


def test_what_was_reserved_before_a_restart_keeps_its_window() -> None:
    """After a restart the minute would be charged with replies of the minute before."""
    account = key(tokens_per_minute=100, tokens_per_day=1000)
    budgets = book(account, now=DAY + 90)
    hold = budgets.adopt([account], 80, DAY + 90, at=DAY + 30)
    assert budgets.remaining([account], DAY + 90) == 100
    assert budgets.remaining([key(tokens_per_day=1000)], DAY + 90) == 920
    budgets.settle(hold, 10, DAY + 91)
    assert budgets.remaining([account], DAY + 91) == 100
    assert budgets.remaining([key(tokens_per_day=1000)], DAY + 91) == 990


def test_the_second_to_load_changes_nothing() -> None:
    """Of two requests that read the ledger at once, the later would undo what the earlier one reserved."""
    account = key(tokens_per_minute=100)
    budgets = book(account)
    budgets.reserve([account], 60, DAY)
    budgets.load(account, NOTHING, NOTHING, 0, DAY)
    assert budgets.remaining([account], DAY) == 40


def test_accounts_without_limits_cost_nothing() -> None:
    """Without any budget set, every conversation would be looked up in the ledger and kept in memory."""
    account = BudgetAccount("conversation", "c", Limits())
    budgets = Budgets()
    assert budgets.knows(account)
    hold = budgets.reserve([account], 10**9, DAY)
    budgets.settle(hold, 10**9, DAY)
    assert budgets.remaining([account], DAY) is None
    assert budgets.headers([account], DAY) == {}
    assert not budgets._accounts


def test_headers_are_openais() -> None:
    """Clients that slow down by these headers would not."""
    accounts = [
        key(tokens_per_minute=60_000, requests_per_minute=500),
        visitor(tokens_per_day=50_000, requests_per_minute=10),
    ]
    budgets = book(*accounts)
    budgets.reserve(accounts, 1000, DAY + 59)
    assert budgets.headers(accounts, DAY + 59) == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "50000",
        "x-ratelimit-remaining-tokens": "49000",
        "x-ratelimit-reset-tokens": "23h59m1s",
    }
    total = key(tokens_total=100_000)
    assert "x-ratelimit-reset-tokens" not in budgets.headers([total], DAY)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1s"), (34, "34s"), (60, "1m0s"), (3599.5, "1h0m0s"), (86_399, "23h59m59s")]
)
def test_durations_are_openais(seconds: float, text: str) -> None:
    """A client's parser would fail on a header it knows."""
    assert duration(seconds) == text


def test_defaults_fill_in() -> None:
    """A shop's own budget for a visitor would be lost, or would drop those that the operator set for all."""
    own = Limits(tokens_per_minute=5, tokens_total=50)
    other = Limits(tokens_per_minute=3, requests_per_minute=7, tokens_total=100)
    assert over(own, other) == Limits(tokens_per_minute=5, tokens_total=50, requests_per_minute=7)


def test_the_book_forgets_who_rests_but_nobody_who_is_about_to_pay() -> None:
    """The memory would grow with every visitor for ever; or a request would fail with a 500 because loading one account
    dropped another; or a running reply's tokens would be free."""
    accounts = [BudgetAccount("visitor", str(number), Limits(tokens_per_day=10)) for number in range(1000)]
    budgets = book(*accounts)
    budgets.reserve(accounts[:1], 5, DAY)
    later = DAY + FORGET_SECONDS + 1
    assert budgets.knows(accounts[1])
    for number in range(1000, 2000):
        budgets.load(BudgetAccount("visitor", str(number), Limits(tokens_per_day=10)), NOTHING, NOTHING, 0, later)
    assert len(budgets._accounts) <= 1002
    budgets.reserve(accounts[:2], 5, later)
    refusal(budgets, accounts[:1], 1, later)
    assert not budgets.knows(accounts[2])


def test_a_limit_that_is_lifted_and_set_again_finds_what_was_used() -> None:
    """A key could be used without end while its budget is lifted, and then have the whole of it once more."""
    limited, free = key(tokens_per_day=500, tokens_total=500), key()
    budgets = book(limited)
    budgets.settle(budgets.reserve([limited], 100, DAY), 1, DAY)
    assert budgets.keeps("key", "k")
    budgets.settle(budgets.reserve([free], 10**6, DAY), 400, DAY)
    assert budgets.remaining([limited], DAY) == 99
    open_still = budgets.reserve([free], 50, DAY)
    assert budgets.remaining([limited], DAY) == 49
    budgets.refund(open_still, DAY)
    assert budgets.remaining([limited], DAY) == 99


def test_a_total_is_asked_for_when_there_is_a_limit_to_it() -> None:
    """A key that gets its first total would begin with what it used since it was last loaded, or with nothing while a
    reply runs."""
    daily, limited = key(tokens_per_day=500), key(tokens_total=1000)
    budgets = Budgets()
    budgets.load(daily, (0, 0), (100, 1), None, DAY)
    assert budgets.knows(daily)
    budgets.settle(budgets.reserve([daily], 50, DAY), 50, DAY)
    hold = budgets.reserve([daily], 80, DAY)
    assert not budgets.knows(limited)
    budgets.load(limited, NOTHING, NOTHING, 700 + 50, DAY)
    assert budgets.knows(limited)
    assert budgets.remaining([limited], DAY) == 1000 - 750 - 80
    budgets.settle(hold, 20, DAY)
    budgets.load(limited, NOTHING, NOTHING, 0, DAY)
    assert budgets.remaining([limited], DAY) == 1000 - 750 - 20
    assert budgets.remaining([daily], DAY) == 500 - 100 - 50 - 20


async def test_rows_of_a_clock_that_was_ahead_count_when_their_time_has_come(store: Store) -> None:
    """An account that was used while the clock was wrong would be refused, after a restart, until that time comes."""
    ahead = 40 * 86_400
    shop = Principal("key:k", "k", key_limits=Limits(tokens_per_minute=100, tokens_per_day=150))
    for at, tokens in ((DAY + ahead, 100), (DAY + 30, 40)):
        await store.journal.pay(ended(str(at), shop, tokens, at, at)[1])
    for now, left in ((DAY + 40, 60), (DAY + ahead + 10, 0)):
        spending = Spending(Budgets(), store, Limits(), now=lambda now=now: now)
        assert spending.remaining(await spending.accounts(shop, Paying())) == left
    lifelong = Principal("key:k", "k", key_limits=Limits(tokens_total=1000))
    spending = Spending(Budgets(), store, Limits(), now=lambda: DAY + 40)
    assert spending.remaining(await spending.accounts(lifelong, Paying())) == 1000 - 140


async def test_a_crowd_spends_exactly_the_budget(store: Store) -> None:
    """Requests that come together would each see the budget before the others took from it: 100 would get through
    where 10 fit."""
    shop = Principal("key:k", "k", key_limits=Limits(tokens_per_day=1000))
    spending, now = Spending(Budgets(), store, Limits(), now=lambda: now), DAY + 1

    async def request(number: int) -> bool:
        accounts = await spending.accounts(shop, Paying())
        try:
            holds = spending.hold(accounts, 100)
        except BudgetExceeded:
            return False
        charged, row = ended(str(number), shop, 100, now, now)
        await store.journal.pay(row)
        spending.settle(holds, charged)
        return True

    passed = await asyncio.gather(*(request(number) for number in range(100)))
    assert sum(passed) == 10
    assert await store.ledger.used("key", "k", 0) == (1000, 10)
