"""Who pays for a reply: budgets are loaded from the ledger, held before the prefill and settled after the end.

Joins the book of budgets (`access.budgets`, memory only) with the ledger (`store`, durable): an account is loaded the
first time that it is asked for. A clock minute and a day in UTC are summed, and a total where it has a limit. Knows no
HTTP and no tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from frontdesk.access.budgets import BudgetAccount, Budgets, Hold
from frontdesk.access.limits import Period, end_of, start_of
from frontdesk.principal import Limits, Principal
from frontdesk.store.records import BudgetKind
from frontdesk.store.store import Store


@dataclass(frozen=True, slots=True)
class Paying:
    """The conversation whose budget a call draws on, and the limits that it set itself. `requests`: as how many it
    counts, none where the server itself asks."""

    conversation: str | None = None
    limits: Limits | None = None
    requests: int = 1


class Spending:
    """`now` gives seconds since 1970. Must be used from one event loop."""

    def __init__(
        self, budgets: Budgets, store: Store, conversation_limits: Limits, now: Callable[[], float] = time.time
    ) -> None:
        self._budgets = budgets
        self._store = store
        self._conversation_limits = conversation_limits
        self._now = now

    async def accounts(self, principal: Principal, paying: Paying) -> list[BudgetAccount]:
        """Every account with a budget that a request of `principal` draws on, and those that had one until lately.

        A conversation's own limits cannot be more than what the operator allows each of them.
        """
        parties: list[tuple[BudgetKind, str | None, Limits]] = [
            ("key", principal.key, principal.key_limits),
            ("visitor", principal.visitor, principal.visitor_limits),
            ("conversation", paying.conversation, self._of_conversation(paying.limits)),
        ]
        accounts = [
            BudgetAccount(kind, id, limits)
            for kind, id, limits in parties
            if id is not None and (limits or self._budgets.keeps(kind, id))
        ]
        for account in accounts:
            if not self._budgets.knows(account):
                await self._load(account)
        return accounts

    def hold(self, accounts: Sequence[BudgetAccount], tokens: int, requests: int = 1) -> list[Hold]:
        """One hold for all replies to a call, so that a refusal tells what they need together; none where there is no
        account.

        Raises `BudgetExceeded`; then nothing is held.
        """
        return [self._budgets.reserve(accounts, tokens, self._now(), requests=requests)] if accounts else []

    def adopt(self, accounts: Sequence[BudgetAccount], tokens: int, since: float) -> list[Hold]:
        """The same for a reply that a former life of the server began at `since`; it is never refused."""
        return [self._budgets.adopt(accounts, tokens, self._now(), since)] if accounts else []

    def settle(self, holds: Sequence[Hold], tokens: int) -> None:
        """The replies have ended; `tokens` is what they are charged together."""
        for hold in holds:
            self._budgets.settle(hold, tokens, self._now())

    def refund(self, holds: Sequence[Hold]) -> None:
        """The replies never began."""
        for hold in holds:
            self._budgets.refund(hold, self._now())

    def remaining(self, accounts: Sequence[BudgetAccount]) -> int | None:
        """Tokens that the tightest budget has left; `None` without one."""
        return self._budgets.remaining(accounts, self._now())

    def headers(self, accounts: Sequence[BudgetAccount]) -> dict[str, str]:
        return self._budgets.headers(accounts, self._now())

    def _of_conversation(self, own: Limits | None) -> Limits:
        """The smaller of both, budget by budget."""
        if own is None:
            return self._conversation_limits
        pairs = {
            name: [value for limits in (own, self._conversation_limits) if (value := getattr(limits, name)) is not None]
            for name in Limits.__dataclass_fields__
        }
        return Limits(**{name: min(values) for name, values in pairs.items() if values})

    async def _load(self, account: BudgetAccount) -> None:
        now = self._now()
        minute, day = await self._used(account, "minute", now), await self._used(account, "day", now)
        total = None
        if account.limits.tokens_total is not None:  # else spared: it reads every row that there is
            total, _ = await self._store.ledger.used(account.kind, account.id, 0.0)
        self._budgets.load(account, minute, day, total, now)

    async def _used(self, account: BudgetAccount, period: Period, now: float) -> tuple[int, int]:
        """Tokens and requests of the window that holds `now`. Rows behind it are of a clock that has been set back and
        count when their time has come."""
        since, until = start_of(period, now), end_of(period, now)
        return await self._store.ledger.used(account.kind, account.id, since, until)
