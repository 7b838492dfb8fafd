"""Who pays for a reply: budgets are loaded from the ledger, held before the prefill and settled after the end.

Joins the book of budgets (`access.budgets`, memory only) with the ledger (`store`, durable): an account is loaded the
first time that it is asked for. A clock minute, a day in UTC and a total are summed. Knows no HTTP and no tokens.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from frontdesk.access.budgets import BudgetAccount, Budgets, Hold
from frontdesk.principal import Limits, Principal
from frontdesk.store.records import BudgetKind
from frontdesk.store.store import Store

DAY = 86_400
MINUTE = 60


@dataclass(frozen=True, slots=True)
class Paying:
    """The conversation whose budget a call draws on, and the limits that it set itself. `requests`: as how many it
    counts, none where the server itself asks."""

    conversation: str | None = None
    limits: Limits | None = None
    requests: int = 1


class Spending:
    """Must be used from one event loop."""

    def __init__(self, budgets: Budgets, store: Store, conversation_limits: Limits) -> None:
        self._budgets = budgets
        self._store = store
        self._conversation_limits = conversation_limits

    async def accounts(self, principal: Principal, paying: Paying) -> list[BudgetAccount]:
        """Every account with a budget that a request of `principal` draws on.

        A conversation's own limits cannot be more than what the operator allows each of them.
        """
        parties: list[tuple[BudgetKind, str | None, Limits]] = [
            ("key", principal.key, principal.key_limits),
            ("visitor", principal.visitor, principal.visitor_limits),
            ("conversation", paying.conversation, self._of_conversation(paying.limits)),
        ]
        accounts = [BudgetAccount(kind, id, limits) for kind, id, limits in parties if id is not None and limits]
        for account in accounts:
            if not self._budgets.knows(account):
                await self._load(account)
        return accounts

    def hold(self, accounts: Sequence[BudgetAccount], tokens: int, requests: int = 1) -> list[Hold]:
        """One hold for all replies to a call, so that a refusal tells what they need together; none where there is no
        account.

        Raises `BudgetExceeded`; then nothing is held.
        """
        return [self._budgets.reserve(accounts, tokens, time.time(), requests=requests)] if accounts else []

    def adopt(self, accounts: Sequence[BudgetAccount], tokens: int, since: float) -> list[Hold]:
        """The same for a reply that a former life of the server began at `since`; it is never refused."""
        return [self._budgets.adopt(accounts, tokens, time.time(), since)] if accounts else []

    def settle(self, holds: Sequence[Hold], tokens: int) -> None:
        """The replies have ended; `tokens` is what they are charged together."""
        for hold in holds:
            self._budgets.settle(hold, tokens, time.time())

    def refund(self, holds: Sequence[Hold]) -> None:
        """The replies never began."""
        for hold in holds:
            self._budgets.refund(hold, time.time())

    def remaining(self, accounts: Sequence[BudgetAccount]) -> int | None:
        """Tokens that the tightest budget has left; `None` without one."""
        return self._budgets.remaining(accounts, time.time())

    def headers(self, accounts: Sequence[BudgetAccount]) -> dict[str, str]:
        return self._budgets.headers(accounts, time.time())

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
        now = time.time()
        ledger = self._store.ledger
        minute = await ledger.used(account.kind, account.id, now - now % MINUTE)
        day = await ledger.used(account.kind, account.id, now - now % DAY)
        total = await ledger.used(account.kind, account.id, 0.0)
        if not self._budgets.knows(account):  # somebody else may have loaded it meanwhile
            self._budgets.load(account, minute, day, total, now)
