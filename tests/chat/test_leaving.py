"""Readers that leave a stored reply: whom it ends with, who may come back, and what becomes of it after a restart."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from tests.chat.lives import DANA, Open, asks, end_life, ended

from frontdesk.chat import readers
from frontdesk.chat.readers import Readers
from frontdesk.chat.reply import Reply
from frontdesk.chat.service import Rules


def leave(reply: Reply) -> None:
    reply.readers.came()
    reply.readers.left()


@pytest.mark.parametrize("away", ["by itself", "by a restart"])
async def test_who_comes_back_stops_the_clock(monkeypatch: pytest.MonkeyPatch, away: str) -> None:
    """A reply would be stopped under the eyes of a reader whose connection was lost for a moment."""
    monkeypatch.setattr(readers, "RETURN_SECONDS", 0.05)
    cancelled: list[bool] = []
    one = Readers(lambda: cancelled.append(True), 0.05)
    if away == "by itself":
        one.came()
        one.left()
    else:
        one.cut_off()
    one.came()
    await asyncio.sleep(0.1)
    assert not cancelled
    one.left()
    await asyncio.sleep(0.1)
    assert cancelled


@pytest.mark.parametrize("lives", [1, 2])
async def test_a_retry_finds_its_reply_whoever_left(
    open_service: Open, monkeypatch: pytest.MonkeyPatch, lives: int
) -> None:
    """With `abandon` the lost connection would cancel what the retry is sent for, also after a restart."""
    monkeypatch.setattr(readers, "RETURN_SECONDS", 0.0)
    service = await open_service(Rules(grace=0.0))
    (reply,) = await service.start(asks(max_output_tokens=300), DANA, idempotency="k")
    if lives == 2:
        await end_life(service)
        service = await open_service(Rules(grace=0.0))
        reply = await service.open(DANA, reply.id)
    leave(reply)
    (again,) = await service.start(asks(max_output_tokens=300), DANA, idempotency="k")
    assert (await ended(again)).reason == "length"


async def test_another_reply_ends_with_its_last_reader(open_service: Open) -> None:
    """`abandon` would do nothing."""
    service = await open_service(Rules(grace=0.0))
    (reply,) = await service.start(asks(max_output_tokens=300), DANA)
    leave(reply)
    assert (await ended(reply)).reason == "cancelled"


@pytest.mark.parametrize(("grace", "reason"), [(0.0, "cancelled"), (None, "length")])
async def test_nobody_comes_back_after_a_restart(
    open_service: Open, monkeypatch: pytest.MonkeyPatch, grace: float | None, reason: str
) -> None:
    """A reply that nobody reads would be computed to its end although `abandon` says otherwise."""
    monkeypatch.setattr(readers, "RETURN_SECONDS", 0.0)
    service = await open_service(Rules(grace=grace))
    (reply,) = await service.start(asks(max_output_tokens=300), DANA)
    await end_life(service)
    service = await open_service(Rules(grace=grace))
    assert (await ended(await service.open(DANA, reply.id))).reason == reason


async def test_somebody_comes_back_after_a_restart(open_service: Open) -> None:
    """`at_once` would end every reply at a restart, before any of its readers can connect again."""
    service = await open_service(Rules(grace=0.0))
    (reply,) = await service.start(asks(max_output_tokens=300), DANA)
    await end_life(service)
    service = await open_service(Rules(grace=0.0))
    again = await service.open(DANA, reply.id)
    again.readers.came()
    assert (await ended(again)).reason == "length"


@pytest.mark.parametrize("read", ["as it is made", "again"])
async def test_a_reply_that_has_ended_is_not_waited_for(open_service: Open, read: str) -> None:
    """Every reply would stay in memory for as long as its reader might have come back: up to a day."""
    service = await open_service(Rules(grace=3600.0))
    (reply,) = await service.start(asks(max_output_tokens=5), DANA)
    await ended(reply)
    if read == "again":
        reply = await service.open(DANA, reply.id)
    leave(reply)
    kept = weakref.ref(reply)
    (reply,) = await service.start(asks(max_output_tokens=1), DANA)  # another one is the last that was written
    await ended(reply)
    gc.collect()
    assert kept() is None
