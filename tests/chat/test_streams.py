"""The laws of the log of one reply: every reader sees the same events, once, in order, and nothing after the end."""

from __future__ import annotations

import asyncio
import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.chat.streams import StreamLog
from frontdesk.errors import EngineDied
from frontdesk.generation import Delta, Event, Failed, Finished, Started, TokenLogprob, Usage

STARTED = Started("small", 0)
ENDS = st.sampled_from([Finished("stop", Usage(3, 0, 2)), Failed(EngineDied("gone"), Usage(3))])


def events_of(deltas: int, end: Event) -> list[Event]:
    return [STARTED, *(Delta(f"{i} ", 1) for i in range(deltas)), end]


async def read(log: StreamLog, after: int, pauses: list[int], begin: int) -> list[list[Event]]:
    """A reader that begins late and is busy for some turns of the loop after each batch."""
    await turns(begin)
    batches = []
    async for batch in log.read(after):
        batches.append(batch)
        await turns(pauses[len(batches) % len(pauses)])
    return batches


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def write(log: StreamLog, events: list[Event], pauses: list[int]) -> None:
    for number, event in enumerate(events):
        log.append(event)
        await turns(pauses[number % len(pauses)])


PAUSES = st.lists(st.integers(0, 4), min_size=1, max_size=5)


@settings(max_examples=200, deadline=None)
@given(
    deltas=st.integers(0, 12), end=ENDS, pauses=PAUSES,
    readers=st.lists(st.tuples(st.integers(0, 16), PAUSES, st.integers(0, 40)), min_size=1, max_size=5),
)  # fmt: skip
def test_every_reader_sees_the_same(
    deltas: int, end: Event, pauses: list[int], readers: list[tuple[int, list[int], int]]
) -> None:
    """A reader that is slow, late or comes back would miss text, see it twice, or never see the end."""
    events = events_of(deltas, end)

    async def scene() -> list[list[list[Event]]]:
        log = StreamLog()
        reading = [asyncio.create_task(read(log, *reader)) for reader in readers]
        await write(log, events, pauses)
        return await asyncio.wait_for(asyncio.gather(*reading), 10)

    for (after, _, _), batches in zip(readers, asyncio.run(scene()), strict=True):
        assert [event for batch in batches for event in batch] == events[after:]
        assert all(batches)


@settings(max_examples=100, deadline=None)
@given(deltas=st.integers(1, 10), end=ENDS, leave=st.integers(1, 10))
def test_who_leaves_harms_nobody_and_may_return(deltas: int, end: Event, leave: int) -> None:
    """A closed browser tab would end the reply of the one beside it, or its own."""
    events = events_of(deltas, end)

    async def scene() -> tuple[list[Event], list[Event]]:
        log = StreamLog()
        stayer = asyncio.create_task(read(log, 0, [0], 0))
        leaver = asyncio.create_task(read(log, 0, [0], 0))
        await turns(2)
        for number, event in enumerate(events):
            if number == leave:
                leaver.cancel()
            log.append(event)
            await turns(2)
        await asyncio.gather(leaver, return_exceptions=True)
        returned = await read(log, min(leave, len(events)), [0], 0)
        return [e for batch in await stayer for e in batch], [e for batch in returned for e in batch]

    assert asyncio.run(scene()) == (events, events[leave:])


@given(deltas=st.integers(0, 3), end=ENDS, late=st.sampled_from([STARTED, Delta("x", 1), Finished("stop", Usage())]))
def test_nothing_follows_the_end(deltas: int, end: Event, late: Event) -> None:
    """A reply would end twice, and its tokens be paid twice."""
    log = StreamLog()
    for event in events_of(deltas, end):
        assert not log.ended
        log.append(event)
    assert log.ended
    with pytest.raises(RuntimeError, match="after the end"):
        log.append(late)
    assert log.events == events_of(deltas, end)


def test_a_reply_starts_once_and_first() -> None:
    """A client would get text before it knows of which reply, or two beginnings."""
    log = StreamLog()
    with pytest.raises(RuntimeError, match="as event 0"):
        log.append(Delta("x", 1))
    log.append(STARTED)
    with pytest.raises(RuntimeError, match="as event 1"):
        log.append(STARTED)


async def test_waiting_for_the_end_gives_the_end() -> None:
    """A client that does not stream would get no answer, or half of one."""
    log, end = StreamLog(), Finished("length", Usage(1, 0, 3))
    waiting = [asyncio.create_task(log.wait_end()) for _ in range(3)]
    await write(log, events_of(3, end), [1])
    assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [end] * 3
    assert await log.wait_end() is end
    assert log.text() == "0 1 2 "


async def test_waiting_for_growth() -> None:
    """Who tells a reader its place in the line would sleep through the first words, or through the end."""
    log = StreamLog()
    log.append(STARTED)
    assert not await log.grown(1, 0)
    assert log._waiting == [], "every look would leave something behind"  # pyright: ignore[reportPrivateUsage]
    waiting = asyncio.create_task(log.grown(1, 3600))
    await turns(2)
    log.append(Delta("x", 1))
    assert await asyncio.wait_for(waiting, 10)
    assert await log.grown(1, 0), "it has grown before"
    waiting = asyncio.create_task(log.grown(2, 3600))
    await turns(2)
    log.suspend()
    assert await asyncio.wait_for(waiting, 10)


async def test_a_late_reader_gets_all_in_one_batch() -> None:
    """A slow reader would cost more work, not less, and fall behind for good."""
    log = StreamLog()
    events = events_of(5, Finished("stop", Usage()))
    await write(log, events, [0])
    assert [batch async for batch in log.read()] == [events]


def test_the_garbage_collector_does_not_look_at_tokens() -> None:
    """At 1,000 streams every reader would wait for 0.2 s whenever the collector walks through all their tokens."""
    logprob = TokenLogprob(1, b"a", -0.5, ((1, b"a", -0.5),))
    assert not gc.is_tracked(logprob)
    assert not gc.is_tracked(Delta("a", 1, (logprob,)))
