"""Which day a reply is charged to, and what is held for it, over the end of a day, a restart, a change of the clock or
of limits: the real service, whose clock is the test's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import pytest
from tests.chat import lives
from tests.chat.lives import DANA, Open, answered, asks, end_life, ended, held

from frontdesk.chat.reply import Reply
from frontdesk.chat.service import ChatService, Rules
from frontdesk.chat.spending import Spending
from frontdesk.errors import BudgetExceeded
from frontdesk.principal import Limits, Principal

MIDNIGHT = 20_000 * 86_400.0  # in UTC


@dataclass
class Clock:
    """Seconds since 1970; it stands still."""

    now: float = MIDNIGHT

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    monkeypatch.setattr(lives, "Spending", partial(Spending, now=clock))
    return clock


def shop(key: str = "k", **limits: int) -> Principal:
    return Principal(f"key:{key}", key, key_limits=Limits(**limits))


def cost(reply: Reply) -> int:
    return reply.usage.prompt + reply.usage.completion


async def left(service: ChatService, principal: Principal) -> int:
    """What the tightest token budget has left, told by the refusal of a request that needs more."""
    with pytest.raises(BudgetExceeded) as refused:
        await service.start(asks(max_output_tokens=400), principal)
    remaining = refused.value.details["remaining"]
    assert isinstance(remaining, int)
    return remaining


async def test_a_restart_refills_no_budget(open_service: Open, clock: Clock) -> None:
    """After every restart all would have the budget of the whole day, or of the minute, once more."""
    by_day, by_minute = shop("day", tokens_per_day=300), shop("minute", tokens_per_minute=300)
    service = await open_service()
    clock.now = MIDNIGHT + 60
    early = await answered(service, asks(), by_day)
    clock.now = MIDNIGHT + 7200
    late = await answered(service, asks(), by_minute)
    clock.now += 20
    for _ in range(2):
        assert await left(service, by_day) == 300 - cost(early)
        assert await left(service, by_minute) == 300 - cost(late)
        await end_life(service)
        service = await open_service()


@pytest.mark.parametrize("store", [True, False])
async def test_a_reply_is_charged_to_the_day_in_which_it_began(open_service: Open, clock: Clock, store: bool) -> None:
    """A reply over midnight would be free in the day that held it, and after a restart be taken from the next one."""
    principal = shop(tokens_per_day=300)
    clock.now = MIDNIGHT - 10
    service = await open_service()
    with held(service):
        (reply,) = await service.start(asks(store=store), principal)
        clock.now = MIDNIGHT + 20
    await ended(reply)
    await service.flush()
    ledger = service.store.ledger
    assert await ledger.used("key", "k", MIDNIGHT) == (0, 0)
    assert await ledger.used("key", "k", MIDNIGHT - 60) == (cost(reply), 1)
    for _ in range(2):
        assert await left(service, principal) == 300
        await end_life(service)
        service = await open_service()


async def test_a_reply_that_goes_on_holds_what_it_may_still_take(open_service: Open) -> None:
    """After a restart others would be given what an unfinished reply is about to use: together they pass the limit."""
    service = await open_service()
    call = asks(max_output_tokens=400)
    limit = (await service.count(call, DANA)).prompt_tokens + 400
    principal = shop(tokens_total=limit)
    (reply,) = await service.start(call, principal)
    await end_life(service)
    service = await open_service()
    with held(service):
        again = await service.open(principal, reply.id)
        assert not again.log.ended
        assert await left(service, principal) == 0
        with pytest.raises(BudgetExceeded):
            await service.start(asks(max_output_tokens=1), principal)
    async for _ in again.log.read():
        if again.log.text():
            break
    await service.cancel(principal, reply.id)
    assert cost(again) < limit
    assert await left(service, principal) == limit - cost(again)


async def test_a_reply_that_goes_on_the_day_after_takes_nothing_of_it(open_service: Open, clock: Clock) -> None:
    """What the last evening asked for would be taken from the new day, if the server was started again in between."""
    principal = shop(tokens_per_day=300)
    clock.now = MIDNIGHT - 10
    service = await open_service()
    (reply,) = await service.start(asks(), principal)
    await end_life(service)
    clock.now = MIDNIGHT + 20
    service = await open_service()
    with held(service):
        again = await service.open(principal, reply.id)
        assert await left(service, principal) == 300
    await ended(again)
    assert await left(service, principal) == 300


@pytest.mark.parametrize("ahead", [7200, 30 * 86_400])
async def test_a_budget_holds_after_the_clock_was_set_right(open_service: Open, clock: Clock, ahead: int) -> None:
    """Whatever is asked for would be free until the clock is as late again as it had been."""
    principal = shop(tokens_per_day=400)
    clock.now = MIDNIGHT - 3600 + ahead
    service = await open_service()
    early = await answered(service, asks(), principal)
    clock.now -= ahead
    late = await answered(service, asks(), principal)
    next_day = cost(early) if ahead == 7200 else 0  # it stays open: a small correction must not refill a budget
    assert await left(service, principal) == 400 - cost(late) - next_day
    await end_life(service)
    assert await left(await open_service(), principal) == 400 - cost(late)


async def test_a_budget_that_is_set_again_finds_what_was_used(open_service: Open, clock: Clock) -> None:
    """A key whose budget is lifted for a while would have the whole of it once more, for as long as it is in memory."""
    service = await open_service()
    used = 0
    for principal in (shop(tokens_per_day=600), shop(), shop(tokens_total=600), shop()):
        used += cost(await answered(service, asks(), principal))
    assert await left(service, shop(tokens_total=600)) == 600 - used
    assert await left(service, shop(tokens_per_day=600)) == 600 - used


async def test_a_lifted_budget_cuts_no_answer(open_service: Open) -> None:
    """A key without a budget would get short answers for as long as the server remembers that it had one."""
    service = await open_service(Rules(answer_reserve=5))
    call, most = asks(max_output_tokens=None), []
    for principal in (DANA, shop(tokens_per_day=600), shop()):
        with held(service):
            (reply,) = await service.start(call, principal)
            most.append(reply.order.parameters.max_tokens)
            reply.cancel()
        await ended(reply)
    assert most == [most[0], 5, most[0]]
    assert most[0] > 5
