"""What a reader is told of the waiting line: by scripted replies, without a server, an engine or a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from frontdesk.chat.streams import StreamLog
from frontdesk.generation import Delta, Event, Finished, Started, Usage
from frontdesk.server import generate

NEVER = 3600.0


class Waiting:
    """A reply as far as its readers know it. `looks` counts how often its place was asked for."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.looks = 0
        self.log = StreamLog()
        self.log.append(Started("small", 0))

    @property
    def place(self) -> int:
        self.looks += 1
        return self.line

    async def looked_at(self, times: int) -> None:
        """Wait until its place was asked for so many times more."""
        until = self.looks + times
        async with asyncio.timeout(20):
            while self.looks < until:  # noqa: ASYNC110
                await asyncio.sleep(0)


class Plain:
    """An encoder that shows every event as one letter."""

    def start(self) -> bytes:
        return b"("

    def encode(self, choice: int, events: Sequence[Event]) -> bytes:
        return b"".join(type(event).__name__[0].encode() for event in events)

    def end(self) -> bytes:
        return b")"


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how long it is waited between two looks, before and after something was told."""

    def set_pace(look: float, tell: float) -> None:
        monkeypatch.setattr(generate, "LOOK_SECONDS", look)
        monkeypatch.setattr(generate, "TELL_SECONDS", tell)

    return set_pace


def told_by(*replies: Waiting) -> Any:
    return generate.places(replies)  # pyright: ignore[reportArgumentType]


async def test_told_at_once_and_when_it_changes(paced: Any) -> None:
    """If this fails, a visitor is told late that others are before them, or that it is their turn."""
    paced(NEVER, 0)
    reply = Waiting(12)
    telling = told_by(reply)
    assert await anext(telling) == b": queued 12\n\n"
    changed = asyncio.create_task(anext(telling))
    await reply.looked_at(5)
    assert not changed.done(), "nothing has changed"
    reply.line = 1
    assert await changed == b": queued 1\n\n"
    reply.line = 0
    assert await anext(telling) == b": prefill\n\n"
    reply.log.append(Delta("x", 1))
    assert [each async for each in telling] == []


async def test_a_change_is_told_only_after_a_pause(paced: Any) -> None:
    """If this fails, a line that moves quickly sends each who waits a frame for every step of the engine."""
    paced(0, NEVER)
    reply = Waiting(9)
    telling = told_by(reply)
    await anext(telling)
    reply.line, looks = 8, reply.looks
    changed = asyncio.create_task(anext(telling, None))
    for _ in range(50):
        await asyncio.sleep(0)
    assert reply.looks == looks
    assert not changed.done()
    reply.log.append(Finished("cancelled", Usage()))
    assert await asyncio.wait_for(changed, 20) is None, "the end was not waited for"


async def test_who_comes_to_wait_later_is_told_then(paced: Any) -> None:
    """If this fails, who waits for another's long prompt, with a slot free, hears of it with the keep-alive only."""
    paced(0, NEVER)
    reply = Waiting(0)
    telling = told_by(reply)
    first = asyncio.create_task(anext(telling))
    await reply.looked_at(3)
    assert not first.done()
    reply.line = 1
    assert await asyncio.wait_for(first, 20) == b": queued 1\n\n"
    await telling.aclose()


async def test_several_replies_wait_as_one(paced: Any) -> None:
    """If this fails, a call for several answers says the place of the last of them, or speaks of the line though one of
    them is being written."""
    paced(NEVER, NEVER)
    replies = [Waiting(3), Waiting(4)]
    telling = told_by(*replies)
    assert await anext(telling) == b": queued 3\n\n"
    replies[1].log.append(Delta("x", 1))
    assert [each async for each in told_by(*replies)] == []
    await telling.aclose()


async def test_the_line_stands_between_the_start_and_the_text(paced: Any) -> None:
    """If this fails, places come before the event that names the reply, or into its text."""
    paced(NEVER, NEVER)
    reply = Waiting(2)
    stream = generate.frames(Plain(), [reply])  # pyright: ignore[reportArgumentType]
    assert [await anext(stream), await anext(stream)] == [b"(S", b": queued 2\n\n"]
    for event in (Delta("x", 1), Delta("y", 1), Finished("stop", Usage())):
        reply.log.append(event)
    assert b"".join([chunk async for chunk in stream]) == b"DDF)"


async def test_frames_of_a_running_stream_set_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, every token of every stream costs a timer again."""
    reply, timers = Waiting(0), list[float]()
    stream = generate.frames(Plain(), [reply])  # pyright: ignore[reportArgumentType]
    assert await anext(stream) == b"(S"
    loop = asyncio.get_running_loop()
    call_at, others = loop.call_at, asyncio.all_tasks()

    def counted(when: float, *arguments: Any, **named: Any) -> asyncio.TimerHandle:
        if asyncio.current_task() not in {None, *others}:
            timers.append(when)
        return call_at(when, *arguments, **named)

    monkeypatch.setattr(loop, "call_at", counted)
    for _ in range(50):
        chunk = asyncio.create_task(anext(stream))
        while not reply.log._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
        reply.log.append(Delta("x", 1))
        assert await chunk == b"D"
    assert len(timers) <= 1, "one may be set before the first text"
    await stream.aclose()
