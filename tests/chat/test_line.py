"""How much of the waiting line one owner may hold, and when a place is free again. With real engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.chat.lives import DANA, Commits, Open, asks, conversation, end_life, ended, held

from frontdesk.chat.line import Line
from frontdesk.chat.ordering import tenant_number
from frontdesk.chat.reply import Reply
from frontdesk.chat.service import ChatService, Rules
from frontdesk.errors import Conflict, ContextLengthExceeded, Overloaded, StorageFailed
from frontdesk.principal import ANONYMOUS, Principal

SHORT = Rules(max_waiting=32)
KEY = Principal(owner="key:k", key="k")


def visitor(name: str) -> Principal:
    return Principal(owner=f"visitor:{name}", key="k", visitor=name)


VIS = visitor("vis_a")


async def fill(service: ChatService, principal: Principal, **fields: Any) -> tuple[list[Reply], str]:
    """Start replies until one is refused; those, and why."""
    replies: list[Reply] = []
    try:
        while len(replies) < 100:
            replies += await service.start(asks(f"number {len(replies)}", **fields), principal)
    except Overloaded as error:
        return replies, error.message
    raise AssertionError("nobody was refused")


@asynccontextmanager
async def still(service: ChatService, *replies: Reply) -> AsyncIterator[list[Reply]]:
    """The engine stands still; at the end all these replies are cancelled."""
    open = list(replies)
    with held(service):
        yield open
    for reply in open:
        reply.cancel()
        await reply.log.wait_end()


async def test_no_owner_fills_the_line_for_others(open_service: Open) -> None:
    """One widget's token, or one key's batch, would have everybody else told that the server is overloaded; or a server
    without keys would refuse what it has room for."""
    service = await open_service(SHORT)
    full = "the waiting line is full (32 requests)"
    visitors = "this visitor's part of the waiting line is full (4 of 32 requests)"
    keys = "this key's part of the waiting line is full (28 of 32 requests)"
    lines: list[list[tuple[Principal, int, str]]] = [
        [(VIS, 4, visitors), (visitor("vis_b"), 4, visitors), (KEY, 24, full)],
        [(KEY, 28, keys), (VIS, 4, full)],
        [(ANONYMOUS, 32, full)],
    ]
    kinds: list[dict[str, Any]] = [{}, {"store": False}, {"generate": False}]
    for line, fields in zip(lines, kinds, strict=True):
        async with still(service) as open:
            for who, most, why in line:
                replies, message = await fill(service, who, **fields)
                open += replies
                assert (len(replies), message) == (most, why)


async def test_all_at_once_find_no_more_places(open_service: Open) -> None:
    """Many requests that come together would all be let in, as none of them is counted before it is written down."""
    service = await open_service(SHORT)
    async with still(service) as open:
        calls = [service.start(asks(f"number {i}"), VIS) for i in range(12)]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, list):
                open += outcome
            else:
                assert isinstance(outcome, Overloaded)
        assert len(open) == 4


async def test_a_place_is_free_when_its_reply_is_over(open_service: Open) -> None:
    """A visitor would be refused for good after a few replies that were cancelled, failed or never began."""
    service = await open_service(SHORT)
    engine, tenant = service.pool.pick(None).engine, tenant_number(VIS.owner)
    Commits(service.store, lambda number: number == 1)
    with pytest.raises(StorageFailed):
        await service.start(asks(), VIS)
    with pytest.raises(ContextLengthExceeded):
        await service.start(asks("word " * 3000), VIS)
    cut = asyncio.create_task(service.start(asks(store=False), VIS))
    await asyncio.sleep(0)
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut
    await asyncio.gather(*service._starting, return_exceptions=True)
    for _ in range(2):
        async with still(service) as open:
            replies, _ = await fill(service, VIS, store=False)
            open += replies
            assert engine.open_of(tenant) == len(replies) == 4
        assert engine.open_of(tenant) == 0
    replies, _ = await fill(service, VIS, store=False, max_output_tokens=400)
    await service.pool.close()
    for reply in replies:
        await reply.log.wait_end()
    assert engine.open_of(tenant) == engine.open_requests == 0


async def test_what_goes_on_in_the_next_life_is_counted(open_service: Open) -> None:
    """After a restart a visitor would get as many places again, or never get those back."""
    first = await open_service(SHORT)
    with held(first):
        replies, _ = await fill(first, VIS)
        first.suspend()
    await end_life(first)
    second = await open_service(SHORT)
    with held(second), pytest.raises(Overloaded, match="this visitor's part"):
        await second.start(asks(), VIS)
    for reply in replies:
        await ended(await second.open(VIS, reply.id))
    await ended((await second.start(asks(), VIS))[0])


async def test_a_warm_up_takes_its_conversation_s_turn(open_service: Open) -> None:
    """A visitor whose token is good for one conversation could have any number of prompts computed at once."""
    service = await open_service()
    id = await conversation(service)
    with held(service):
        (warm,) = await service.start(asks(conversation=id, generate=False), DANA)
        for generate in (False, True):
            with pytest.raises(Conflict) as refused:
                await service.start(asks(conversation=id, generate=generate), DANA)
            assert refused.value.code == "conversation_locked"
    await ended(warm)
    for generate in (False, True, False):
        await ended((await service.start(asks(conversation=id, generate=generate), DANA))[0])


def test_a_short_line_has_places_for_everybody() -> None:
    """With few places a visitor's part, or a key's, would be none at all."""
    parts = [[Line(most)._part_of(who)[1] for who in (VIS, KEY, ANONYMOUS)] for most in (1, 8, 512)]
    assert parts == [[4, 1, 1], [4, 7, 8], [64, 448, 512]]
