"""Carries out a plan against a server and keeps every reply. The clock, the tasks and their ends live here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from frontdesk.bench.client import Talk, Target, TargetUnusable
from frontdesk.bench.plan import Plan, Round, Session, Turn
from frontdesk.bench.reply import Reply

SETTLED: Final = 8  # frames that every background stream has sent before the lanes begin
SETTLE_SECONDS: Final = 120.0  # until they have: a server that runs one after the other is found out
LOOK: Final = 0.01  # seconds between two looks at the background streams


@dataclass(slots=True)
class Drive:
    """One run. `replies` grows while it runs: whoever shows progress looks at it. The replies of background streams
    stand in `background`, those that were left at the end of a round included. `windows`: when the lanes of each round
    ran, in `perf_counter` seconds."""

    target: Target
    plan: Plan
    replies: list[Reply] = field(default_factory=list)
    background: list[Reply] = field(default_factory=list)
    windows: list[tuple[float, float]] = field(default_factory=list)
    done: int = 0

    @property
    def frames(self) -> int:
        """How many events have come so far."""
        return sum(len(reply.frames) for reply in (*self.replies, *self.background))

    async def run(self) -> None:
        """Raises `TargetUnusable` when background streams do not come to run beside each other, or an opening fails."""
        for round in self.plan.rounds:
            async with self._beside(round), self._opened(round) as opened:
                began = perf_counter()
                async with asyncio.TaskGroup() as lanes:
                    for lane in round.lanes:
                        lanes.create_task(self._lane(lane, began, opened))
                self.windows.append((began, perf_counter()))

    async def _lane(self, sessions: tuple[Session, ...], began: float, opened: Mapping[Session, Talk]) -> None:
        for session in sessions:
            await self._session(session, began, opened.get(session))

    async def _session(self, session: Session, began: float, opened: Talk | None) -> None:
        await asyncio.sleep(max(0.0, began + session.at - perf_counter()))
        async with nullcontext(opened) if opened else _talk(self.target, session) as talk:
            for number, turn in enumerate(session.turns):
                await asyncio.sleep(turn.wait)
                reply = Reply(turn.kind, number, turn.new_tokens)
                self.replies.append(reply)
                await talk.ask(reply, turn.text)
                self.done += 1

    @asynccontextmanager
    async def _opened(self, round: Round) -> AsyncIterator[Mapping[Session, Talk]]:
        """The conversations of a round that have an opening, each behind the answer to it."""
        async with AsyncExitStack() as stack:
            begun = [(session, session.opening) for session in round.sessions if session.opening]
            talks = {session: await stack.enter_async_context(_talk(self.target, session)) for session, _ in begun}
            await asyncio.gather(*(_open(talks[session], opening) for session, opening in begun))
            yield talks

    @asynccontextmanager
    async def _beside(self, round: Round) -> AsyncIterator[None]:
        """Background streams, all of which write while the block runs."""
        first = len(self.background)
        tasks = [asyncio.create_task(self._stream(session)) for session in round.background]
        try:
            await self._settled(first, tasks)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _stream(self, session: Session) -> None:
        """Stream without end, until cancelled or refused."""
        turn = session.turns[0]
        while True:
            reply = Reply(turn.kind, 0, turn.new_tokens)
            self.background.append(reply)
            async with _talk(self.target, session) as talk:
                await talk.ask(reply, turn.text)
            if reply.error:
                return

    async def _settled(self, first: int, tasks: list[asyncio.Task[None]]) -> None:
        """Wait until the first reply of each stream writes."""
        writing = 0
        try:
            async with asyncio.timeout(min(self.target.timeout, SETTLE_SECONDS)):
                while writing < len(tasks):
                    await asyncio.sleep(LOOK)
                    streams = self.background[first : first + len(tasks)]
                    writing = sum(len(reply.frames) >= SETTLED for reply in streams)
                    if failed := [reply.error for reply in streams if reply.error]:
                        raise TargetUnusable(f"a stream beside the long prompt failed: {failed[0]}")
        except TimeoutError:
            raise TargetUnusable(
                f"only {writing} of {len(tasks)} streams write at the same time: this server cannot run so many"
            ) from None


async def _open(talk: Talk, opening: Turn) -> None:
    reply = Reply(opening.kind, 0, opening.new_tokens)
    await talk.ask(reply, opening.text)
    if reply.error:
        raise TargetUnusable(f"a conversation could not be begun: {reply.error}")


@asynccontextmanager
async def _talk(target: Target, session: Session) -> AsyncIterator[Talk]:
    talk = target.talk(session.system)
    try:
        yield talk
    finally:
        await talk.close()
